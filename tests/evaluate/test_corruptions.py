"""Corruptions are as strong as published, and the stronger the severer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torchvision.transforms.v2 import functional as F

from tasks.evaluate.inspection.corruptions import SEVERITIES, STRENGTHS, corrupt, strength


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Parts of two photos, uint8 ``[8, 3, 224, 224]``."""
    images = [torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1) for name in ("china.jpg", "flower.jpg")]
    return torch.stack([image[:, 100:324, x : x + 224] for image in images for x in (0, 120, 240, 400)])


@pytest.mark.parametrize("size", [32, 96, 224])
@pytest.mark.parametrize("kind", STRENGTHS)
def test_each_severity_leaves_less_of_an_image(photos: torch.Tensor, kind: str, size: int) -> None:
    pixels = F.resize(photos, [size, size], antialias=True)
    errors = []
    for severity in SEVERITIES:
        corrupted = corrupt(pixels, kind, severity)
        assert corrupted.shape == pixels.shape and corrupted.dtype == torch.uint8
        errors.append(float((corrupted.float() - pixels.float()).square().mean()))
    # Pixels of a whole-numbered size meet the edges that are there, and lose a little less.
    assert errors[0] > 0 and (np.diff(errors) > -0.06 * np.array(errors[:-1])).all(), errors
    assert errors[4] > 1.5 * errors[0]


def test_strengths_are_the_published_ones_and_lie_between_them_for_sizes_between() -> None:
    assert strength("noise", 1, 32) == 0.04 and strength("noise", 5, 224) == 0.38
    assert strength("jpeg", 3, 8) == 58 and strength("jpeg", 3, 448) == 15
    assert 0.6 < strength("blur", 2, 84) < 2.0
    assert strength("blur", 2, 448) == 4.0


def test_contrast_and_brightness_do_what_they_say() -> None:
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    pixels[..., :16] = 200
    halved = corrupt(pixels, "contrast", 2)  # half is left
    assert halved.unique().tolist() == [50, 150]
    brighter = corrupt(torch.full((1, 3, 32, 32), 100, dtype=torch.uint8), "brightness", 5)  # 0.3 more
    assert brighter.unique().tolist() == [round(100 + 0.3 * 255)]
