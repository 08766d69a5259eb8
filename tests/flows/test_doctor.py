"""What a machine offers, and which headstart this is."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.doctor import examine
from tasks.extract.facts import facts
from tasks.workspace import Workspace


def test_the_doctor_tells_of_headstart_itself_and_of_all_backbones(tmp_path: Path) -> None:
    told = dict(examine(Workspace(tmp_path)))
    assert told["libraries"].startswith(f"headstart {version('headstart')}, torch ") and "timm " in told["libraries"]
    assert told["backbones"].startswith(f"{len(facts()):,}:")


def test_the_doctor_looks_at_a_workspace_that_is_not_there_yet(tmp_path: Path) -> None:
    there, not_yet = (dict(examine(Workspace(folder))) for folder in (tmp_path, tmp_path / "not" / "yet"))
    assert not_yet["workspace"].startswith(f"{tmp_path / 'not' / 'yet'}, ") and not (tmp_path / "not").exists()
    assert not_yet.keys() == there.keys()
    assert there["workspace"].endswith("writable") and list(tmp_path.iterdir()) == []


def test_the_command_tells_its_version() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"headstart {version('headstart')}\n")


@pytest.mark.parametrize("variable, what", [("PREFECT_API_URL", "prefect"), ("MLFLOW_TRACKING_URI", "mlflow")])
def test_the_doctor_asks_the_teams_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, what: str
) -> None:
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(variable, address := f"http://127.0.0.1:{server.server_port}")
        assert dict(examine(Workspace(tmp_path)))[what] == f"{address}, which answers"
        server.shutdown()
    told = dict(examine(Workspace(tmp_path)))[what]
    assert address in told and ("does not answer" in told or "no MLflow server answers" in told)


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_the_doctor_finds_what_names_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "localhost:5000")
    told = dict(examine(Workspace(tmp_path)))["mlflow"]
    assert f"{variable} is 'localhost:5000'" in told and "write http://localhost:5000" in told


class Healthy(BaseHTTPRequestHandler):
    """A server that answers whatever it is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""
