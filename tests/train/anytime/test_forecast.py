"""What is told of a budget beforehand."""

from __future__ import annotations

import pytest

from tasks.train.anytime.forecast import forecast
from tasks.train.anytime.situation import Contender, Situation


@pytest.mark.parametrize(("left", "last"), [(50.0, "probe"), (90.0, "head"), (140.0, "final"), (900.0, "final")])
def test_a_forecast_goes_as_far_as_the_time(left: float, last: str) -> None:
    contenders = (Contender("a", 4.0), Contender("b", 8.0))
    known = Situation(contenders, ("linear", "mlp"), ("lp_ft",), 2_000, 400, 600, overhead=25.0)
    steps = [step for step in forecast(known, left) if step.state == "done"]
    assert steps[-1].kind == last and steps[0].kind == "probe"
    assert sum(step.predicted for step in steps) <= left


def test_what_only_further_tasks_have_labels_of_is_looked_at_too() -> None:
    known = Situation((Contender("a", 4.0),), ("linear",), (), 2_000, 400, 600, 25.0, further=500, augmented=1)
    assert known.images == 2 * 2_000 + 2 * 500 + 400 + 600 and known.learned == 4_000


def test_without_methods_through_the_backbone_or_a_second_backbone_these_steps_are_not_there() -> None:
    known = Situation((Contender("a", 4.0),), ("linear",), (), 2_000, 400, 600, 25.0)
    assert [(step.kind, step.backbone) for step in forecast(known, 600.0)] == [("probe", "a"), ("head", "a")]
