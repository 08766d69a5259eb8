"""Bit for bit: a training ends with the same numbers every time, however often it is killed."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tasks.train.methods import METHODS
from tasks.train.tuning.method import ThroughBackbone
from tasks.train.tuning.run import tune
from tests.train.killed import assert_same, kill
from tests.train.prepared import Prepared

ROOT = Path(__file__).parent.parent.parent


def method(keys: dict[str, Any]) -> ThroughBackbone:
    given = {"method": "full", "epochs": 3, "batch_size": 20} | keys
    found = METHODS[given["method"]].model_validate(given)
    assert isinstance(found, ThroughBackbone)
    return found


@pytest.fixture(scope="module")
def fewer(few: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Forty digits to learn from: two steps an epoch."""
    rows = few.dataset.read_manifest()
    return few.with_rows(rows.groupby(["split", "label"]).head(4), tmp_path_factory.mktemp("fewer"))


KEYS: list[dict[str, Any]] = [
    {"precision": "fp32"}, {"precision": "bf16"}, {"method": "dynamic", "batch_norm": "update"}, {"ema": 0.8},
    {"l2_sp": 0.1}, {"mixup": 0.4, "cutmix": 1.0}, {"augment": "trivial"}, {"augment": "rand", "balance": "sampling"},
    {"sizes": [16, 24, 40]}, {"method": "gradual", "optimiser": "sgd"}, {"patience": 2, "learning_rate": 1e-9},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_a_killed_training_ends_as_an_unbroken_one(fewer: Prepared, tmp_path: Path, keys: dict[str, Any]) -> None:
    whole = tune(method(keys), fewer.task(tmp_path / "whole"))
    task = fewer.task(tmp_path / "broken")
    kill(method(keys), task)
    assert_same(tune(method(keys), task), whole)
    assert whole.backbone is not None and len(whole.curves) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "hook", ["on_train_epoch_start", "on_validation_start", "on_validation_end", "on_train_epoch_end", "on_train_end"]
)
def test_it_does_not_matter_when_it_is_killed(fewer: Prepared, tmp_path: Path, hook: str) -> None:
    keys = {"ema": 0.8, "batch_norm": "update"}
    task = fewer.task(tmp_path / "broken")
    kill(method(keys), task, hook)
    whole = tune(method(keys), fewer.task(tmp_path / "whole"))
    assert_same(tune(method(keys), task), whole)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_and_another_seed_another(fewer: Prepared, tmp_path: Path) -> None:
    fits = [tune(method({}), fewer.task(tmp_path / str(number), seed)) for number, seed in enumerate([1, 1, 2])]
    assert_same(fits[0], fits[1])
    first, last = (fit.backbone.state["stem.0.weight"] for fit in (fits[0], fits[2]) if fit.backbone is not None)
    assert not torch.equal(first, last)


def test_what_is_over_is_read_and_not_trained_again(fewer: Prepared, tmp_path: Path) -> None:
    class Starts(Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pytest.fail("trained again")

    task = fewer.task(tmp_path)
    for keys in ({"epochs": 1}, {"epochs": 9, "patience": 1, "learning_rate": 1e-9}):
        task.folder = tmp_path / str(keys)
        assert_same(tune(method(keys), task), tune(method(keys), task, Starts()))


@pytest.mark.slow
def test_weights_of_an_epoch_that_was_broken_off_are_not_taken_for_the_best_ones(
    fewer: Prepared, tmp_path: Path
) -> None:
    keys = {"learning_rate": 1e-9}  # no epoch is better than the first
    task = fewer.task(tmp_path / "broken")
    kill(method(keys), task)
    # As on a GPU, where it was better before it was broken off than when it was trained again.
    shutil.copytree(task.folder / "epoch-1", task.folder / "epoch-2")
    (task.folder / "epoch-2" / "head.safetensors").write_bytes(b"")
    assert_same(tune(method(keys), task), tune(method(keys), fewer.task(tmp_path / "whole")))
    assert [path.name for path in task.folder.glob("epoch-*")] == ["epoch-1"]


SCRIPT = """
import os, pickle, signal, sys
from pathlib import Path
from lightning.pytorch.callbacks import Callback
from tasks.train.tuning.run import tune

class Kill(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

method, task = pickle.loads(Path(sys.argv[1]).read_bytes())
tune(method, task, Kill() if sys.argv[2] == "killed" else None)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_is_followed_by_one_that_goes_on_and_prints_nothing(
    fewer: Prepared, tmp_path: Path
) -> None:
    keys = {"patience": 3, "ema": 0.8}
    task = fewer.task(tmp_path / "broken")
    (tmp_path / "given").write_bytes(pickle.dumps((method(keys), task)))

    def run(how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "default", "-c", SCRIPT, str(tmp_path / "given"), how]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert run("killed").returncode == -signal.SIGKILL
    assert sorted(str(path.relative_to(task.folder)) for path in task.folder.rglob("*.*")) == [
        "epoch-1/backbone.safetensors", "epoch-1/head.safetensors", "last.ckpt",
    ]  # fmt: skip
    second = run("whole")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert_same(tune(method(keys), task), tune(method(keys), fewer.task(tmp_path / "whole")))
