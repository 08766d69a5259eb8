"""A workspace that is moved and copied, as a user does it: real commands, Prefect and MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil  # type: ignore[import-untyped]
import pytest

from tests.flows.asking import ask
from tests.flows.homes import is_gone

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CONFIG = """
name: d
ingest: {source: {embedded: digits}}
preprocess: {size: 32}
extract: {backbone: resnet_32px, weights: builtin}
train: {method: linear}
evaluate: {robustness: 0, explain: 0}
"""
LOAD = """
import mlflow
import pandas as pd

images = pd.DataFrame({"image": ["data/3/0003.png"]})
print(*mlflow.pyfunc.load_model("models:/d/1").predict(images)["label"])
"""


def headstart(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "HEADSTART_"))
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli", *arguments], cwd=root, text=True, capture_output=True, timeout=600,
        env=kept | {"HEADSTART_WORKSPACE": str(root), "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip


def predictions(root: Path) -> pd.DataFrame:
    told = headstart(root, "predict", "d", "data/3", "-o", "out.parquet", "-q")
    assert told.returncode == 0 and "183 images predicted" in told.stdout, told.stderr
    return pd.read_parquet(root / "out.parquet")[["label", "probability"]]


def server_of(root: Path) -> psutil.Process:
    [server] = [each for each in psutil.process_iter(["environ"]) if _home(each) == str(root / "mlruns" / "prefect")]
    return server


def _home(process: psutil.Process) -> str | None:
    return (process.info["environ"] or {}).get("PREFECT_HOME")


def stages(root: Path) -> dict[str, str]:
    """How each stage of the newest run ended."""
    [newest] = ask(root, "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    runs = ask(root, "/task_runs/filter", {"flow_runs": {"id": {"any_": [newest["id"]]}}})
    return {run["name"].rsplit("-", 1)[0]: run["state_name"] for run in runs}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Two places for a workspace, which has run in the first and stands in the second; its server was left running."""
    folder = tmp_path_factory.mktemp("places")
    was, now = folder / "first place", folder / "second #2"
    was.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=was, check=True)
    (was / "d.yaml").write_text(CONFIG)
    first = headstart(was, "run", "d.yaml", "-q")
    assert first.returncode == 0, first.stderr
    was.rename(now)
    yield was, now
    for root in folder.iterdir():
        headstart(root, "ui", "--stop")


def test_a_moved_workspace_predicts_runs_and_finds_what_it_has_computed(places: tuple[Path, Path]) -> None:
    was, now = places
    left = server_of(was)
    told = headstart(now, "models", "d")
    assert f"this workspace was {was} and is {now} now" in told.stderr and "champion" in told.stdout
    predictions(now)
    assert is_gone(left.pid), "the server of the old place goes on"
    assert server_of(now)

    again = headstart(now, "run", "d.yaml")
    assert again.returncode == 0 and again.stderr == "", again.stderr
    assert "0 new, 1,797 reused" in again.stdout and "nothing changed: this is version 1" in again.stdout
    assert {name for name, state in stages(now).items() if state != "Cached"} == {"register"}

    other = headstart(now, "run", "d.yaml", "-q", "-s", "train.method=ridge")
    assert other.returncode == 0 and "version 2" in other.stdout, other.stderr
    assert not was.exists()


def test_mlflow_itself_finds_the_models_after_the_move(places: tuple[Path, Path]) -> None:
    # In a process of its own: MLflow keeps the store that it first opened under a relative address.
    _, now = places
    headstart(now, "models", "d")
    told = subprocess.run(
        [sys.executable, "-P", "-c", LOAD], cwd=now, text=True, capture_output=True, timeout=300,
        env=os.environ | {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"},
    )  # fmt: skip
    assert told.stdout == "3\n", told.stderr


def test_a_copy_writes_nothing_into_the_first_and_reads_nothing_from_it(places: tuple[Path, Path]) -> None:
    _, now = places
    expected = predictions(now)
    headstart(now, "ui", "--stop")
    copy = now.parent / "copy"
    shutil.copytree(now, copy)
    before = {path: path.stat().st_mtime_ns for path in now.rglob("*")}
    (now / ".headstart").rename(hidden := now / "hidden")  # what is not there cannot be read
    (now / "mlruns" / "artifacts").rename(hidden / "artifacts")
    pd.testing.assert_frame_equal(predictions(copy), expected)
    again = headstart(copy, "run", "d.yaml", "-q", "-s", "train.method=prototypes")
    assert again.returncode == 0 and "version 3" in again.stdout, again.stderr
    (hidden / "artifacts").rename(now / "mlruns" / "artifacts")
    hidden.rename(now / ".headstart")
    folders = {now, now / "mlruns", now / ".headstart"}  # which the renaming has touched
    after = {path: path.stat().st_mtime_ns for path in now.rglob("*")}
    assert {path for path in before | after if before.get(path) != after.get(path)} <= folders
    assert "version 3" not in headstart(now, "models", "d").stdout
