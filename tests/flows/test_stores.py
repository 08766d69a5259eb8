"""The main job with the MLflow store of a team: by a server, in a database, in a file that two workspaces share."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image
from sklearn.datasets import load_digits

from tests.flows.stores import bucket, postgresql, tracking_server
from tests.flows.test_pipeline import ROOT, Home

RUN = ["run", "digits.yaml", "--quiet"]
OTHERWISE = ["-s", "train.method=prototypes"]
KINDS = [
    pytest.param("a server with SQLite", marks=pytest.mark.long),
    pytest.param("a server with PostgreSQL and a bucket", marks=pytest.mark.postgresql),
    pytest.param("a database and a bucket", marks=[pytest.mark.postgresql, pytest.mark.long]),
    "a shared file",
]


@dataclass
class Member(Home):
    """A workspace whose runs are recorded in a team's store."""

    store: str
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"MLFLOW_TRACKING_URI": self.store, "PYTHONPATH": str(ROOT)} | self.more

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.cli", *arguments], cwd=self.root / "elsewhere", env=self.environment,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def does(self, *arguments: str) -> str:
        """What a command prints that succeeds and has nothing to complain of."""
        done = self.headstart(*arguments)
        assert done.returncode == 0 and done.stderr == "", (arguments, done.stdout[-500:], done.stderr[-2000:])
        return done.stdout


@dataclass
class Team:
    """Two workspaces and what they share."""

    kind: str
    store: str
    shared: Path
    anna: Member
    ben: Member


def begun(root: Path, images: Path, store: str, more: dict[str, str]) -> Member:
    (root / "elsewhere").mkdir(parents=True)
    (root / "elsewhere" / "digits.yaml").write_text(
        f"name: digits\ningest: {{source: {{folder: {images}}}}}\n"
        "extract: {backbone: resnet_32px, weights: builtin}\npreprocess: {size: 32}\n"
        "evaluate: {robustness: 0, explain: 0}\n"
    )
    return Member(root, store, more)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
        if label < 3:
            (folder / str(label)).mkdir(exist_ok=True)
            Image.fromarray((pixels * 15).astype("uint8")).save(folder / str(label) / f"{number}.png")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def team(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, images: Path) -> Iterator[Team]:
    shared, kind = tmp_path_factory.mktemp("shared"), request.param
    with ExitStack() as stack:
        more, place = {}, str(shared / "artifacts")
        store = f"sqlite:///{shared}/team.db"
        if "bucket" in kind:
            place, more = stack.enter_context(bucket())
        if "PostgreSQL" in kind or "database" in kind:
            store = stack.enter_context(postgresql())
        if "server" in kind:
            store, more = stack.enter_context(tracking_server(shared, store, place, **more)), {}
        elif "bucket" in kind:
            more = more | {"HEADSTART_ARTIFACTS": place}
        homes = tmp_path_factory.mktemp("homes")
        anna, ben = (begun(homes / name, images, store, more) for name in ("anna", "ben"))
        yield Team(kind, store, shared, anna, ben)
        for member in (anna, ben):
            member.headstart("ui", "--stop")
            shutil.rmtree(member.root)


@pytest.mark.slow
def test_a_team_shares_models_and_keeps_each_others_workspaces(
    team: Team, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in team.anna.more.items():
        monkeypatch.setenv(name, value)
    assert "digits version 1 (champion)" in team.anna.does(*RUN)
    files_of_anna = set(team.anna.root.rglob("*"))

    made = team.ben.does(*RUN, *OTHERWISE)
    assert "digits version 2" in made
    champion, other = ("2", "1") if "(champion)" in made else ("1", "2")
    assert f"champion is version {other}" in team.ben.does("promote", "digits", other, "--why", "to see it")
    assert f"champion is version {champion} (was version {other})" in team.anna.does("rollback", "digits")
    team.ben.does("predict", "digits@1", str(images / "0"), "-o", "one.parquet")
    rows = pd.read_parquet(team.ben.root / "elsewhere" / "one.parquet")
    assert set(rows["model"]) == {"digits/1"} and (rows["label"] == "0").mean() > 0.9

    told = team.anna.does("models", "digits")
    assert "to see it" in told and len(re.findall(r"^digits ", told, re.MULTILINE)) == 2
    assert "digits" in team.ben.does("data", "list")
    client = MlflowClient(team.store)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    # Ben's runs and models lie neither with Anna nor where his commands were given.
    assert not [path for path in set(team.anna.root.rglob("*")) - files_of_anna if "artifacts" in path.parts]
    assert sorted(path.name for path in (team.ben.root / "elsewhere").iterdir()) == ["digits.yaml", "one.parquet"]


@pytest.mark.slow
def test_a_server_that_goes_while_a_run_is_under_way_is_told(images: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(tracking_server(tmp_path, f"sqlite:///{tmp_path}/m.db", str(tmp_path / "art")))
        anna = begun(tmp_path / "anna", images, address, {})
        run = anna.start(*RUN[:2])
        assert run.stdout is not None
        next(line for line in run.stdout if "extract" in line)
        stack.close()
        gone = time.monotonic()
        _, told = run.communicate(timeout=300)
    anna.headstart("ui", "--stop")
    assert run.returncode == 2 and time.monotonic() - gone < 90
    [line] = told.strip().splitlines()
    assert f"no MLflow server answers at {address}" in line
