"""Several processes that share each batch: they end where one does, and none is left behind."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import psutil
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tasks.errors import ConfigurationError
from tasks.progress import watched_by
from tasks.train.methods import METHODS
from tasks.train.tuning.method import ThroughBackbone
from tasks.train.tuning.ranks import shared_by
from tasks.train.tuning.run import _processes, tune
from tests.train.prepared import Prepared
from tests.train.working import work


def method(name: str, devices: int, **keys: Any) -> ThroughBackbone:
    given = {"epochs": 3, "batch_size": 16, "devices": devices, "precision": "fp32"} | keys
    found = METHODS[name].model_validate(given)
    assert isinstance(found, ThroughBackbone)
    return found


def processes() -> set[int]:
    """The processes that this one has started, apart from Python's own helper."""
    children = psutil.Process().children()
    return {child.pid for child in children if not any("resource_tracker" in part for part in child.cmdline())}


class Told:
    """Remembers what is said, and how far the bars moved."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: dict[str, int] = {}

    def begin(self, what: str, total: int, unit: str) -> int:
        self.bars[what] = self.bars.get(what, 0)
        return list(self.bars).index(what)

    def advance(self, bar: int, count: int) -> None:
        self.bars[list(self.bars)[bar]] += count

    def end(self, bar: int) -> None:
        pass

    def tell(self, line: str) -> None:
        self.lines.append(line)


class Two(Callback):
    """Ends the training after its second epoch."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


@pytest.mark.slow
def test_two_processes_end_where_one_does_and_say_no_more(
    few: Prepared, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = tune(method("gradual", 1, layer_decay=0.7, head="zero"), few.task(tmp_path / "one"), Two())
    told, threads, variables, before = Told(), torch.get_num_threads(), dict(os.environ), processes()
    task = few.task(tmp_path / "two")
    with watched_by(told):
        two = tune(method("gradual", 2, layer_decay=0.7, head="zero"), task, Two())
    assert capfd.readouterr() == ("", "")

    # What one process computes in one sum, two add up from two.
    assert one.backbone is not None and two.backbone is not None
    for name, value in one.backbone.state.items():
        torch.testing.assert_close(two.backbone.state[name], value, rtol=0.01, atol=1e-3, msg=name)
    assert len(two.curves) == 2 and two.curves["validation/loss"].to_numpy() == pytest.approx(
        one.curves["validation/loss"].to_numpy(), rel=0.02
    )
    assert two.rates is not None and two.rates.equals(one.rates)

    assert [line.split(":")[0] for line in told.lines] == ["train\tepoch 1", "train\tepoch 2"]
    assert told.bars["train"] == 2 * 80
    assert not torch.distributed.is_initialized() and torch.get_num_threads() == threads
    assert dict(os.environ) == variables and not processes() - before
    # Ended early, and over.
    assert tune(method("gradual", 2, layer_decay=0.7, head="zero"), task).curves.equals(two.curves)


@pytest.mark.slow
def test_images_weigh_the_same_where_batches_cannot_be_divided_evenly(few: Prepared, tmp_path: Path) -> None:
    keys = {"epochs": 1, "batch_size": 5, "clip": 0.0, "optimiser": "sgd", "learning_rate": 1e-3}
    one, two = (tune(method("full", count, **keys), few.task(tmp_path / str(count))) for count in (1, 2))
    assert one.backbone is not None and two.backbone is not None
    start = few.task(tmp_path).weights.state["expand.0.weight"]
    moved, apart = (fit.backbone.state["expand.0.weight"] - start for fit in (one, two))
    assert (moved - apart).norm() < 0.01 * moved.norm()


@pytest.mark.parametrize(("devices", "batch_size", "expected"), [(2, 16, 2), (4, 3, 3), (500, 500, 80), ("auto", 4, 1)])
def test_no_more_processes_than_images_of_a_batch(
    few: Prepared, tmp_path: Path, devices: Any, batch_size: int, expected: int
) -> None:
    assert few.dataset.counts["train"] == 80
    assert _processes(method("full", devices, batch_size=batch_size), few.task(tmp_path)) == expected


def test_gpus_that_are_not_there_are_an_error_that_says_so(
    few: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    task = few.task(tmp_path)
    task = replace(task, features=task.features.model_copy(update={"device": "cuda"}))
    assert _processes(method("full", 1), task) == 1
    with pytest.raises(ConfigurationError, match=r"asks for 2 cuda devices, and extract.device \(cuda\) has 1"):
        _processes(method("full", 2), task)


def test_a_gpu_that_is_named_is_the_only_one(few: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    named, any_of = (
        replace(few.task(tmp_path), features=few.features.model_copy(update={"device": device}))
        for device in ("cuda:1", "cuda")
    )
    assert _processes(method("full", "auto"), any_of) == 4 and _processes(method("full", "auto"), named) == 1
    with pytest.raises(ConfigurationError, match=r"extract.device \(cuda:1\) has 1 here"):
        _processes(method("full", 2), named)


@pytest.mark.slow
def test_what_each_measures_of_its_part_of_the_batches_leads_to_the_same_rates(few: Prepared, tmp_path: Path) -> None:
    fit = tune(method("dynamic", 2, epochs=2, least_rate=0.6, ema=0.5, patience=1), few.task(tmp_path))
    assert fit.rates is not None and (fit.rates["rate"] == 0).any()  # with other blocks frozen, they would wait forever
    assert len(fit.curves) == 2


@pytest.mark.slow
def test_a_process_that_breaks_down_is_told_of_where_the_others_are_waited_for() -> None:
    before = processes()
    with pytest.raises(Exception, match="broken at once"), shared_by(2, work, "at once") as rank:
        rank.meet()
    with pytest.raises(Exception, match="broken later"), shared_by(2, work, "later") as rank:
        rank.meet()
        time.sleep(0.5)
        raise RuntimeError("connection lost")
    assert not processes() - before


def test_a_process_that_is_broken_off_leaves_none_behind() -> None:
    before = processes()
    with pytest.raises(KeyboardInterrupt), shared_by(2, work, "waits") as rank:
        rank.meet()
        raise KeyboardInterrupt
    assert not processes() - before
