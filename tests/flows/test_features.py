"""The `headstart features` commands: what a person reads of the feature store, and what they do to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flows import cli, console
from tasks.extract.store import FeatureStore, keys_of
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]
ABOUT = {
    "backbone": "mobilenet_v2", "layer": ["features.3", "features.18"], "pool": "avg", "size": 224,
    "precision": "bfloat16",
}  # fmt: skip


class Terminal:
    """Runs commands as a person does who has a wide terminal."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> list[str]:
        """The lines that a command prints; it must end with a code."""
        try:
            cli.app(["features", *arguments], standalone_mode=False)
            ended = 0
        except SystemExit as error:
            ended = int(error.code or 0)
        out = self.capsys.readouterr()
        assert (ended, out.err) == (code, ""), out
        return [" ".join(line.split()) for line in out.out.splitlines()]


@pytest.fixture
def features(workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(console.out, "width", 200)
    return Terminal(capsys)


def filled(workspace: Workspace, name: str, images: int = 1500, about: dict[str, object] | None = None) -> FeatureStore:
    store = FeatureStore.open(workspace.cache / "features" / name, ABOUT if about is None else about)
    keys = keys_of([f"{number:032x}" for number in range(images)])
    store.fill(keys, 1000, lambda mine: np.ones((len(mine), 200), np.float32))
    return store


def damage(store: FeatureStore) -> Path:
    path = store.parts[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_workspace_without_features_says_how_to_get_some(features: Terminal) -> None:
    [told] = features("ls")
    assert told.startswith(f"no features yet in {Workspace.find().root}: `headstart run CONFIG` computes some, ")
    assert features("verify") == ["0 spaces, 0 sound files, 0 images: clean"]
    assert features("gc") == ["freed 0.0 MiB"]


def test_spaces_are_listed_with_what_they_are_and_hold(features: Terminal, workspace: Workspace) -> None:
    filled(workspace, "0123456789abcdef")
    filled(workspace, "fedcba9876543210", 1, {"backbone": "resnet_32px", "layer": "expand"})
    lost = filled(workspace, "a" * 16, 1)
    (lost.folder / "space.json").write_text("{")
    damaged = filled(workspace, "b" * 16, 1)
    damaged.parts[0].write_bytes(b"")
    titles, *rows = features("ls")
    assert titles == "space backbone layer pool size precision images MiB last used"
    day = time.strftime("%Y-%m-%d")
    assert rows[0].startswith(
        f"0123456789ab mobilenet_v2 features.3 + features.18 avg 224 bfloat16 1,500 1.2 {day}"
    )  # fmt: skip
    assert rows[1].startswith(f"aaaaaaaaaaaa 1 0.0 {day}") and rows[1].endswith("space.json is missing or not legible")
    assert rows[2].endswith("1 damaged files: see verify")
    assert rows[3].startswith("fedcba987654 resnet_32px expand 1 0.0")


def test_verify_says_that_all_is_clean(features: Terminal, workspace: Workspace) -> None:
    filled(workspace, "0123456789abcdef")
    filled(workspace, "fedcba9876543210", 7)
    assert features("verify") == ["2 spaces, 3 sound files, 1,507 images: clean"]
    assert features("verify", "fed") == ["1 space, 1 sound file, 7 images: clean"]


def test_verify_lists_damage_and_repairs_it(features: Terminal, workspace: Workspace) -> None:
    store = filled(workspace, "0123456789abcdef")
    other = filled(workspace, "fedcba9876543210", 7)
    (other.folder / "space.json").unlink()
    path = damage(store)
    problem = f"{store.folder.name}/{path.name}: its content has changed since it was written"
    remark = f"{other.folder.name}: space.json is missing or not legible; the next run that uses it mends that"
    told = features("verify", code=1)
    assert told[:2] == [problem, remark]
    assert told[2].startswith("2 spaces, 2 sound files, ") and told[2].endswith("1 damaged: --repair moves them aside")
    repaired = features("verify", "--repair")
    assert repaired[0] == problem
    assert repaired[2].endswith("1 damaged, moved aside: the next run computes those images again")
    assert not path.exists() and features("verify")[-1].endswith(": clean")
    assert filled(workspace, "0123456789abcdef").count == 1500


def test_gc_tells_what_it_would_do_and_does_it(features: Terminal, workspace: Workspace) -> None:
    store = filled(workspace, "0123456789abcdef")
    unused = filled(workspace, "fedcba9876543210", 700)
    os.utime(unused.folder / "space.json", (time.time() - 40 * 86_400,) * 2)
    (store.folder / ".writing-1").write_bytes(bytes(2**20))
    lines = [
        "fedcba987654 not used for 40 days: removed, 0.5 MiB",
        "0123456789ab 1 half-written files and claims of dead processes removed, 1.0 MiB",
        "0123456789ab 2 files merged into 1",
    ]
    assert sorted(features("gc", "--unused-for", "30", "--dry-run")) == sorted([*lines, "would free 1.5 MiB"])
    assert unused.folder.exists() and len(store.parts) == 2
    told = features("gc", "--unused-for", "30")
    assert told[-1] == "freed 1.5 MiB" and all(any(each.startswith(line) for each in told) for line in lines)
    assert not unused.folder.exists() and len(store.parts) == 1
    assert features("verify") == ["1 space, 1 sound file, 1,500 images: clean"]


def test_mistake_is_told_in_one_line_and_no_server_is_begun(workspace: Workspace) -> None:
    filled(workspace, "0123456789abcdef", 3)
    command = [sys.executable, "-m", "flows.cli", "features"]
    done = subprocess.run([*command, "verify", "77"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and "no feature space begins with '77'" in done.stderr
    done = subprocess.run([*command, "verify"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 space, 1 sound file, 3 images: clean\n", "")
    assert sorted(os.listdir(workspace.root)) == [".headstart"]
