"""The frozen forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import ConfigurationError, DataError
from tasks.extract.backbones import Backbone, load_backbone
from tasks.extract.engine import choose_device, choose_precision, forward_all
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path()))[0]


def pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (int(random.integers(10, 50)), 30, 3), np.uint8) for _ in range(count)]


def forward(
    backbone: Backbone, images: list, precision: torch.dtype = torch.float32, batch_size: int = 8
) -> torch.Tensor:
    recipe = Recipe(32)
    return torch.cat(
        list(forward_all(backbone, images, recipe, device=CPU, precision=precision, batch_size=batch_size))
    )


@pytest.mark.parametrize("batch_size", [1, 5, 32, 100])
def test_features_come_in_the_order_of_the_images(backbone: Backbone, batch_size: int) -> None:
    images = pictures(37)
    with torch.inference_mode():
        expected = torch.cat([backbone(Recipe(32)(image)[None]) for image in images])
    torch.testing.assert_close(forward(backbone, images, batch_size=batch_size), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_consumer_goes_on_outside_the_contexts_of_the_forward_pass(backbone: Backbone, precision: torch.dtype) -> None:
    for features in forward_all(backbone, pictures(20), Recipe(32), device=CPU, precision=precision, batch_size=8):
        assert features.dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
        assert torch.ones(2, 2, requires_grad=True).mm(torch.ones(2, 2)).requires_grad
    assert not torch.is_autocast_enabled("cpu")


def test_bf16_is_close_to_fp32(backbone: Backbone) -> None:
    images = pictures(16)
    exact, rough = forward(backbone, images), forward(backbone, images, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.nn.functional.cosine_similarity(exact, rough).min() > 0.999
    assert (exact - rough).abs().mean() < 0.02 * exact.abs().mean()


def test_features_do_not_depend_on_the_rest_of_the_batch(backbone: Backbone) -> None:
    images = pictures(9)
    torch.testing.assert_close(forward(backbone, images)[4:5], forward(backbone, images[4:5]), rtol=1e-3, atol=1e-4)


def test_image_that_cannot_be_decoded_is_a_data_error(backbone: Backbone) -> None:
    with pytest.raises(DataError):
        forward(backbone, [*pictures(3), b"no image"])


def test_unknown_and_absent_devices_are_configuration_errors() -> None:
    for asked in ("gpu", "cuda:99", "cpu:x"):
        with pytest.raises(ConfigurationError, match=f"'{asked}' is not there"):
            choose_device(asked)
    assert choose_device("cpu") == CPU


def test_precision_is_what_was_asked_for() -> None:
    assert choose_precision("bf16", CPU) == torch.bfloat16
    assert choose_precision("fp32", CPU) == torch.float32
    assert choose_precision("auto", CPU) in (torch.bfloat16, torch.float32)
    assert choose_precision("auto", torch.device("mps")) == torch.float32
