"""Augmented views: other parts of the image, and the same ones every time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.preprocess.augment import augmented
from tasks.preprocess.recipe import Recipe


def image(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=40)
@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(8, 64), variant=st.integers(1, 32))
def test_any_image_has_a_square_view(height: int, width: int, size: int, variant: int) -> None:
    view = Recipe(size, variant=variant)(image(0, height, width))
    assert view.shape == (3, size, size) and view.dtype == torch.uint8


def test_a_view_is_the_same_every_time_and_another_for_every_image_and_number() -> None:
    views = [Recipe(32, variant=number)(image(seed)) for seed in range(3) for number in range(4)]
    again = [Recipe(32, variant=number)(image(seed)) for seed in range(3) for number in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    assert len({view.numpy().tobytes() for view in views}) == len(views)


def test_views_neither_use_nor_move_the_generators_of_the_process() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    first = Recipe(32, variant=1)(image(0))
    numbers = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    assert (torch.rand(1).item(), np.random.rand()) == numbers
    torch.manual_seed(7)
    assert torch.equal(Recipe(32, variant=1)(image(0)), first)


def test_about_half_of_the_views_are_mirrored_and_each_shows_most_of_the_image() -> None:
    ramp = torch.arange(100, dtype=torch.uint8).repeat(3, 100, 1)
    mirrored, shown = 0, []
    for number in range(1, 201):
        row = augmented(ramp, 100, number)[0, 50].float()
        mirrored += bool(row[0] > row[-1])
        shown.append(float((row[-1] - row[0]).abs()) / 99)
    assert 70 < mirrored < 130
    assert 0.4 < np.median(shown) <= 1.1
