"""The recipe against other libraries, and at its extremes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import v2

from tasks.errors import DataError
from tasks.preprocess.kinds import Interpolation
from tasks.preprocess.recipe import Fit, Recipe, load_pixels


def photo(height: int, width: int) -> np.ndarray:
    """Smooth colours, as in photos."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = 128 + 100 * np.sin(rows / 9 + columns / 7)
    return np.stack([rows * 255 / height, columns * 255 / width, waves], -1).astype(np.uint8)


@pytest.mark.parametrize("height, width", [(64, 96), (96, 64), (20, 20), (200, 64)])
def test_crop_is_torchvisions_resize_and_centre_crop(height: int, width: int) -> None:
    oracle = v2.Compose([v2.PILToTensor(), v2.Resize(32, antialias=True), v2.CenterCrop(32)])
    image = photo(height, width)
    assert torch.equal(Recipe(32)(image), oracle(Image.fromarray(image)))


@pytest.mark.parametrize("height, width", [(64, 96), (96, 64), (12, 24)])
def test_pad_keeps_the_whole_image_centred_on_black(height: int, width: int) -> None:
    image = photo(height, width)
    scale = 48 / max(height, width)
    inner = Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    oracle = Image.new("RGB", (48, 48))
    oracle.paste(inner, ((48 - inner.width) // 2, (48 - inner.height) // 2))
    result = Recipe(48, "pad")(image).numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(result.astype(int), np.asarray(oracle).astype(int), atol=2)


def test_crop_and_pad_keep_the_aspect_ratio_and_squash_does_not() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[10:30, 30:50] = 255  # a square of 20 × 20 in the middle
    for fit, height, width in (("crop", 20, 20), ("pad", 10, 10), ("squash", 20, 10)):
        bright = Recipe(40, fit)(image)[0] > 127  # type: ignore[arg-type]
        assert abs(int(bright.any(1).sum()) - height) <= 1, fit
        assert abs(int(bright.any(0).sum()) - width) <= 1, fit


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("height, width", [(1, 400_000), (400_000, 1)])
def test_extreme_strip_costs_no_more_than_another_image(fit: Fit, height: int, width: int) -> None:
    """Scaled as a whole to 224 pixels across, it would take 60 GB."""
    assert Recipe(224, fit)(np.full((height, width, 3), 200, np.uint8)).max() == 200


@pytest.mark.parametrize("where", [0, 31, 99])
def test_image_that_cannot_be_decoded_stops_the_others_with_a_data_error(where: int, tmp_path: Path) -> None:
    images: list = [np.zeros((8, 8), np.uint8)] * 100
    images[where] = tmp_path / "gone.png"
    with pytest.raises(DataError, match="gone"):
        load_pixels(images, Recipe(8))


def test_load_pixels_is_the_recipe_applied_to_each_and_nothing_to_none() -> None:
    images = [photo(20 + number, 30) for number in range(5)]
    recipe = Recipe(16, "pad")
    assert torch.equal(load_pixels(images, recipe), torch.stack([recipe(image) for image in images]))
    assert load_pixels([], recipe).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    ("crop", "interpolation", "timms"),
    [
        (0.875, "bicubic", "center"),
        (0.9, "bilinear", "squash"),
        (1.15, "bicubic", "center"),
        (1.15, "bilinear", "squash"),
    ],
)
def test_a_part_of_the_image_is_looked_at_as_timm_does(crop: float, interpolation: Interpolation, timms: str) -> None:
    picture = Image.fromarray(photo(90, 130))
    oracle = create_transform(
        (3, 64, 64), crop_pct=crop, interpolation=interpolation, crop_mode=timms, mean=(0, 0, 0), std=(1, 1, 1)
    )
    recipe = Recipe(64, "crop" if timms == "center" else "squash", crop=crop, interpolation=interpolation)
    difference = recipe(picture) / 255 - oracle(picture)
    assert difference.abs().max() <= 2 / 255  # Pillow rounds between its two passes
    whole = Recipe(64, recipe.fit, interpolation=interpolation)
    assert (whole(picture) / 255 - oracle(picture)).abs().max() > 20 / 255


def test_ten_views_and_padding_show_all_of_the_image_whatever_the_crop() -> None:
    image = photo(40, 60)
    for fit, views in (("crop", "ten"), ("pad", "one")):
        assert torch.equal(Recipe(32, fit, views, crop=0.5)(image), Recipe(32, fit, views)(image))  # type: ignore[arg-type]
