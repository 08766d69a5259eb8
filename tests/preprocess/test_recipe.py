"""Geometry: every image becomes the same square, in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.preprocess import recipe
from tasks.preprocess.recipe import Fit, Recipe, load_pixels


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(40, 60), (61, 33), (5, 200), (16, 16), (1, 1)])
def test_any_shape_becomes_the_square(fit: str, shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    pixels = Recipe(32, fit)(image)  # type: ignore[arg-type]
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert torch.equal(Recipe(32)(image), torch.from_numpy(image).permute(2, 0, 1))


def test_crop_keeps_the_centre_and_pad_the_whole() -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 255
    assert Recipe(20, "crop")(image).min() == 255
    padded = Recipe(60, "pad")(image)
    assert padded[:, :19].max() == 0 and padded[0, 30, 30] == 255


def test_resizing_agrees_with_pillow() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    wanted = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.int16)
    assert np.abs(Recipe(32)(image).permute(1, 2, 0).numpy().astype(np.int16) - wanted).max() <= 1


def test_ten_views_are_corners_and_centre_and_their_mirror_images() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    views = Recipe(35, views="ten")(image)
    whole = torch.from_numpy(image).permute(2, 0, 1)
    assert views.shape == (10, 3, 35, 35)
    assert torch.equal(views[0], whole[:, :35, :35]) and torch.equal(views[3], whole[:, -35:, -35:])
    assert torch.equal(views[5], whole.flip(2)[:, :35, :35])


def test_ten_views_of_a_long_image_have_a_margin_where_it_is_padded() -> None:
    views = Recipe(32, "pad", "ten")(np.full((40, 120, 3), 255, np.uint8))
    assert views.shape == (10, 3, 32, 32)
    corner, centre = views[0], views[4]
    assert corner[:, 0].max() == 0 and centre[:, 16].min() == 255 and centre[:, 0].max() == centre[:, -1].max() == 0


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_mirrored_views_are_the_square_and_its_mirror_image(fit: Fit) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    seen, mirrored = Recipe(35, fit, "mirrored", crop=0.9)(image)
    assert torch.equal(seen, Recipe(35, fit, crop=0.9)(image)) and torch.equal(mirrored, seen.flip(2))
    assert Recipe(35, views="mirrored", variant=1)(image).shape == (3, 35, 35)


def test_images_keep_their_order_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "BLOCK", 5)
    images = [np.full((8, 8, 3), value, np.uint8) for value in range(23)]
    assert load_pixels(images, Recipe(8))[:, 0, 0, 0].tolist() == list(range(23))
