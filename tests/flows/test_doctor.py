"""What a machine offers, and which headstart this is."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from typer.testing import CliRunner

from flows.cli import app
from flows.doctor import examine
from tasks.extract.facts import facts
from tasks.workspace import Workspace


def test_the_doctor_tells_of_headstart_itself_and_of_all_backbones(tmp_path: Path) -> None:
    told = dict(examine(Workspace(tmp_path)))
    assert told["libraries"].startswith(f"headstart {version('headstart')}, torch ") and "timm " in told["libraries"]
    assert told["backbones"].startswith(f"{len(facts()):,}:")


def test_the_command_tells_its_version() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"headstart {version('headstart')}\n")
