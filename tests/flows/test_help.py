"""What `--help` shows on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli import app


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """A command and those below it, by what is typed."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}".strip())


COMMANDS = dict(commands(get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_whole_at_80_columns(name: str) -> None:
    done = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80"}, prog_name="headstart")
    assert done.exit_code == 0
    lines = [line.strip(" │") for line in done.output.splitlines()]
    assert not [line for line in lines if line.endswith("…")]
    [usage] = [line.removeprefix(f"Usage: headstart {name}") for line in lines if line.startswith("Usage:")]
    assert "[[" not in usage and usage == usage.upper()


@pytest.mark.parametrize("name", COMMANDS)
def test_paragraphs_of_help_are_lines(name: str) -> None:
    """Typer breaks a line where the source does."""
    assert not [part for part in (COMMANDS[name].help or "").split("\n\n") if "\n" in part.strip()]
