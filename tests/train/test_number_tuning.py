"""Numbers and further tasks of a training through the backbone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.train.heads import Head, predict_numbers
from tasks.train.methods import METHODS
from tasks.train.methods.partial import Partial
from tasks.train.tuning.run import tune
from tests.train.killed import assert_same, kill
from tests.train.prepared import SHORT, Prepared


def test_a_number_is_learned_through_the_backbone_and_resumed_to_the_same_bits(some: Prepared, tmp_path: Path) -> None:
    method = Partial(**SHORT)
    unbroken = tune(method, some.task(tmp_path / "unbroken"))
    kill(method, some.task(tmp_path / "killed"))
    assert_same(unbroken, tune(method, some.task(tmp_path / "killed")))
    assert unbroken.head.number and unbroken.score == unbroken.curves["validation/r2"].max()
    frozen = METHODS["linear"]().fit(some.task(tmp_path)).score
    assert unbroken.score > frozen - 0.2  # it begins from that line


@pytest.mark.slow
def test_further_tasks_get_a_linear_head_on_what_the_tuned_backbone_sees(some: Prepared, tmp_path: Path) -> None:
    method = Partial(**SHORT | {"epochs": 1}, wise_ft=True)
    candidate = some.train(method, tmp_path)
    digit = Head.load(candidate.further["digit"])
    assert candidate.backbone is not None and digit.kind == "linear" and digit.tells == "class"
    assert candidate.chosen["digit/l2"] > 0
    features, inks = some.task(tmp_path).validation
    assert predict_numbers(Head.load(candidate.head), features)[1].min() > 0 and len(inks) == len(features)
