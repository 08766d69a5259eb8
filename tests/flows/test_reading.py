"""Reading needs no permission to write, and writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.console import nothing_in
from tasks.register.registry import looked_in
from tasks.register.store import connect
from tasks.register.tags import DATA
from tasks.workspace import Workspace
from tests.disks import small_disk

ROOT = Path(__file__).parents[2]
READ_ONLY = """
set -e
mount --bind "$HEADSTART_WORKSPACE" "$HEADSTART_WORKSPACE"
mount -o remount,bind,ro "$HEADSTART_WORKSPACE"
exec "$0" -m flows.cli "$@"
"""


def on_read_only_disk(workspace: Workspace, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*small_disk(), "sh", "-c", READ_ONLY, sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"HEADSTART_WORKSPACE": str(workspace.root), "HOME": str(home), "COLUMNS": "120"},
    )  # fmt: skip


def test_models_are_listed_where_nothing_can_be_written(workspace: Workspace, tmp_path: Path) -> None:
    workspace.mlruns.mkdir()
    client = connect(workspace)
    client.create_registered_model("digits")
    client.create_model_version("digits", "file:///nowhere", tags={DATA: "1234567890abcdef.dir"})
    (home := tmp_path / "home").mkdir()
    listed = on_read_only_disk(workspace, home, "models")
    assert (listed.returncode, listed.stderr) == (0, "") and "12345678 " in listed.stdout
    assert list(home.iterdir()) == []
    refused = on_read_only_disk(workspace, home, "promote", "digits", "1")
    assert refused.returncode == 2 and f"{workspace.mlruns} cannot be written (Read-only file system)" in refused.stderr


def test_caches_of_a_writable_workspace_are_its_own(workspace: Workspace) -> None:
    assert workspace.cache == workspace.root / ".headstart"


ONES = """
import json, os, sys
from pathlib import Path
from flows.cli import main

before, found = dict(os.environ), {}
for number, command in enumerate(json.loads(sys.argv[1])):
    folder = Path(str(number))
    folder.mkdir()
    os.chdir(folder)
    sys.argv = ["headstart", *command.split()]
    code = None
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    print("\\0", end="", flush=True)
    print("\\0", end="", flush=True, file=sys.stderr)
    os.chdir("..")
    found[command] = code, sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    os.environ.clear()
    os.environ.update(before)
Path("found.json").write_text(json.dumps(found))
"""

NONE = "there is no registered model 'digits'; none has been registered yet in HERE: `headstart run CONFIG` does"
UNKNOWN = "'digits': there is no registered model of that name (none yet in HERE), and no run begins with it"
NO_VERSION = "no dataset version, run or model is called 'abcd1234' in HERE; `headstart data list` shows those"
IN_AN_EMPTY_FOLDER = {
    "models": (0, "no models yet in HERE: `headstart run CONFIG` registers one, HEADSTART_WORKSPACE names"),
    "models digits": (2, NONE),
    "models digits --history": (2, NONE),
    "models --pending": (0, "no version waits for approval in HERE"),
    "report": (2, "no run has ended well yet in HERE: `headstart run CONFIG` writes a report"),
    "report digits": (2, UNKNOWN),
    "report digits --versions 1,2": (2, NONE),
    "lineage digits": (2, UNKNOWN),
    f"lineage {'0' * 32}": (2, UNKNOWN.replace("digits", "0" * 32)),
    "data list": (0, "no versions yet in HERE: `headstart run CONFIG` makes one, HEADSTART_WORKSPACE names"),
    "data diff current abcd1234": (2, "there is no version of a dataset in HERE/data.dvc yet"),
    "data diff abcd1234 digits": (2, NO_VERSION),
    "data checkout abcd1234": (2, NO_VERSION),
    "data checkout digits@1": (2, "there is no registered model 'digits' in HERE; `headstart models` lists them"),
    "data push": (2, "there is no version of a dataset in HERE/data.dvc yet"),
    "data pull": (2, "there is no version of a dataset in HERE/data.dvc yet"),
    "data relabel list.csv": (2, "there is no version of a dataset in HERE/data.dvc yet"),
    "data review digits": (2, "there is no pipeline 'digits' among those that were run: none yet in HERE"),
    "features ls": (0, "no features yet in HERE: `headstart run CONFIG` computes some, HEADSTART_WORKSPACE"),
    "features verify": (0, "0 spaces, 0 sound files, 0 images: clean"),
    "features gc --dry-run": (0, "would free 0.0 MiB"),
    "promote digits 2": (2, NONE),
    "rollback digits": (2, NONE),
    "approve digits 2 --why x": (2, NONE),
    "reject digits 2 --why x": (2, NONE),
    "reproduce digits@champion": (2, NONE),
    "predict digits .": (2, NONE),
    "backbones --search resnet_32px": (0, "name"),
    "schedule --list": (0, "nothing is on schedule here"),
    "ui --stop": (0, "no Prefect server runs"),
    "doctor": (0, "machine"),
}


@dataclass
class Looked:
    """What a command has said and left in a folder in which there was nothing."""

    code: int
    left: list[str]
    told: str


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Looked]:
    """All commands in one process, since MLflow takes seconds to import."""
    folder = tmp_path_factory.mktemp("empty")
    own = ("HEADSTART_", "MLFLOW_", "PREFECT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run(
        [sys.executable, "-c", ONES, json.dumps(list(IN_AN_EMPTY_FOLDER))], cwd=folder, capture_output=True, text=True,
        env=kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text())
    said = [out + err for out, err in zip(done.stdout.split("\0"), done.stderr.split("\0"), strict=True)]
    told = [text.replace(str(folder / str(number)), "HERE") for number, text in enumerate(said)]
    return {command: Looked(*found[command], each) for command, each in zip(found, told, strict=False)}


@pytest.mark.parametrize("command", IN_AN_EMPTY_FOLDER)
def test_who_only_looks_leaves_nothing_in_an_empty_folder(command: str, looked: dict[str, Looked]) -> None:
    """A .dvc would make all projects below the folder its own."""
    code, told = IN_AN_EMPTY_FOLDER[command]
    found = looked[command]
    assert (found.code, found.left) == (code, [])
    assert found.told.removeprefix("error ").startswith(told)
    assert len(found.told.splitlines()) == 1 or command.startswith(("doctor", "backbones"))


def test_a_team_store_in_which_nothing_is_found_is_named_without_its_password() -> None:
    assert looked_in("postgresql://ada:secret@db/runs") == "postgresql://ada:***@db/runs"
    assert nothing_in("http://team:5000", "no models", "run one") == "no models yet in http://team:5000: run one"


@pytest.mark.parametrize("command, place", [("models", "STORE"), ("data list", "HERE and STORE")])
def test_a_store_that_a_variable_names_is_where_nothing_is_found(command: str, place: str, tmp_path: Path) -> None:
    own = ("HEADSTART_", "MLFLOW_", "PREFECT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    store = f"sqlite:///{tmp_path}/team.db"
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command.split()], cwd=tmp_path, capture_output=True, text=True,
        env=kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "MLFLOW_TRACKING_URI": store},
    )  # fmt: skip
    told = (done.stdout + done.stderr).replace(store, "STORE").replace(str(tmp_path), "HERE")
    assert f" yet in {place}: `headstart run CONFIG`" in told and list(tmp_path.iterdir()) == []
