"""Attacks on pixels: as strong as the ball and the range of pixels allow, and never beyond either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tasks.train.pgd import ascend, attacked
from tasks.train.radius import Radius, levels


def images(seed: int = 0) -> torch.Tensor:
    """Noise from black to white, both of which are there."""
    return torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(seed)).float()


def test_a_linear_objective_is_raised_as_far_as_the_ball_and_the_pixels_allow() -> None:
    clean, weights = images(), torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    moved = attacked(clean, lambda x: (x * weights).sum((1, 2, 3)), 8 / 255, steps=4)
    assert torch.equal(moved, (clean + 8 * weights.sign()).clamp(0, 255))


def test_no_step_leaves_the_ball_or_the_range_of_pixels() -> None:
    clean = images()
    steps = list(ascend(clean, lambda x: (x.cos() * x).sum(), 6 / 255, 10, step=5 / 255))
    assert len(steps) == 11
    for moved in steps:
        assert (moved - clean).abs().max() <= 6 + 1e-4 and moved.min() >= 0 and moved.max() <= 255
    assert (steps[0] - clean).abs().max() > 5 and not torch.equal(steps[0], next(ascend(clean, torch.sum, 6 / 255, 1)))


def test_pixels_that_the_objective_says_nothing_of_stay_where_they_began() -> None:
    start, *_, last = ascend(images(), lambda x: (x[..., 4:] - x[..., :4].detach()).sum() * 2.0**200, 4 / 255, 3)
    assert torch.equal(start[..., :4], last[..., :4]) and not torch.equal(start[..., 4:], last[..., 4:])
    start, last = ascend(images(), lambda x: (x * float("nan")).sum(), 4 / 255, 1)
    assert torch.equal(start, last)


def test_random_starts_follow_their_generator() -> None:
    starts = [next(ascend(images(), torch.sum, 0.1, 1, generator=torch.Generator().manual_seed(s))) for s in (3, 3, 4)]
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize(
    ("given", "radius"), [("4/255", 4 / 255), (" 8 / 255", 8 / 255), (0.03, 0.03), ("0.5/255", 0.5 / 255)]
)
def test_radii_are_shares_of_the_range_of_pixels(given: Any, radius: float) -> None:
    assert TypeAdapter(Radius).validate_python(given) == pytest.approx(radius)


@pytest.mark.parametrize("given", [4, "4", 0, "-1/255", "4/0", "four", float("nan"), float("inf")])
def test_what_is_no_such_share_is_an_error_that_says_how_it_is_written(given: Any) -> None:
    with pytest.raises(ValidationError, match=r"write it as a share of the pixels' range, 0 to 1: 4/255, or 0\.0157"):
        TypeAdapter(Radius).validate_python(given)


def test_radii_are_told_in_levels() -> None:
    assert [levels(radius) for radius in (4 / 255, 0.5 / 255, 0.015686)] == ["4", "0.5", "4"]
