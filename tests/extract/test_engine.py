"""The frozen forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import ConfigurationError, DataError
from tasks.extract import engine as engines
from tasks.extract.backbones import Backbone, load_backbone
from tasks.extract.engine import Engine, OutOfMemory, default_batch, forward_all
from tasks.extract.precision import choose_device
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


@pytest.mark.slow
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


@pytest.mark.parametrize("cores", [1, 2, 3, 7])
def test_any_number_of_streams_gives_the_same_features(backbone: Backbone, cores: int) -> None:
    images = pictures(50)
    engine = Engine(backbone, Recipe(32), CPU, torch.float32, 4, cores=cores)
    found = torch.cat(list(engine.run(iter(images), len(images))))
    torch.testing.assert_close(found, forward(backbone, images), rtol=1e-3, atol=1e-4)


def test_images_that_processes_decode_give_the_same_features(backbone: Backbone) -> None:
    images = pictures(37)
    engine = Engine(backbone, Recipe(32), CPU, torch.float32, batch_size=8, cores=2, compile="never")
    fed, streamed = (torch.cat(list(run)) for run in (engine._fed(iter(images), 37), engine.run(images, 37)))
    torch.testing.assert_close(fed, streamed, rtol=1e-3, atol=1e-4)
    with pytest.raises(DataError, match="cannot be decoded"):
        list(engine._fed(iter([*images, b"no image"]), 38))


def test_streams_give_the_threads_back(backbone: Backbone) -> None:
    before = torch.get_num_threads()
    forward(backbone, pictures(20))
    assert torch.get_num_threads() == before
    running = forward_all(backbone, pictures(50), Recipe(32), device=CPU, precision=torch.float32, batch_size=4)
    next(running)
    running.close()
    assert torch.get_num_threads() == before


def test_images_are_taken_only_as_they_are_needed(backbone: Backbone) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield np.zeros((8, 8, 3), np.uint8)

    running = Engine(backbone, Recipe(32), CPU, torch.float32, 2, cores=2).run(endless(), 1_000_000)
    next(running)
    assert taken <= 2 * 2 * engines.AHEAD
    running.close()


def failing(engine: Engine, most: int) -> list[int]:
    """Let the device hold at most so many images at once; tells the sizes of the passes that it took."""
    passes: list[int] = []
    whole = engine.backbone

    def limited(views: torch.Tensor) -> torch.Tensor:
        if len(views) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        passes.append(len(views))
        return whole(views)

    engine.backbone = engine._forward = limited  # type: ignore[assignment]
    return passes


def test_batch_too_large_for_the_memory_is_halved_and_nothing_is_computed_twice(backbone: Backbone) -> None:
    images = pictures(64)
    engine = Engine(backbone, Recipe(32), CPU, torch.float32, 32, "never", cores=1)
    passes = failing(engine, 10)
    found = torch.cat(list(engine.run(images, len(images))))
    torch.testing.assert_close(found, forward(backbone, images), rtol=1e-3, atol=1e-4)
    assert passes == [8] * 8


def test_image_that_does_not_fit_at_all_is_told_with_what_to_do(backbone: Backbone) -> None:
    engine = Engine(backbone, Recipe(32), CPU, torch.float32, 8, "never", cores=1)
    failing(engine, 0)
    with pytest.raises(OutOfMemory, match=r"one image of 32×32 .* take a smaller"):
        list(engine.run(pictures(8), 8))


def test_other_errors_of_the_device_are_not_taken_for_a_lack_of_memory(backbone: Backbone) -> None:
    engine = Engine(backbone, Recipe(32), CPU, torch.float32, 8, "never", cores=1)

    def broken(views: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("expected scalar type Float")

    engine.backbone = engine._forward = broken  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="scalar type"):
        list(engine.run(pictures(8), 8))


@pytest.mark.parametrize("missing", [False, True], ids=["compiled", "no compiler"])
@pytest.mark.slow
def test_compiling_changes_no_feature_and_its_absence_ends_no_run(
    backbone: Backbone, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing:
        monkeypatch.setattr(engines, "compiled", lambda *_: (_ for _ in ()).throw(RuntimeError("no C++ compiler")))
    images = pictures(61)
    engine = Engine(backbone, Recipe(32), CPU, torch.float32, 4, "always", cores=2)
    found = torch.cat(list(engine.run(images, len(images))))
    torch.testing.assert_close(found, forward(backbone, images), rtol=1e-3, atol=1e-4)


def test_batch_follows_from_the_size_of_the_images_and_their_views() -> None:
    assert default_batch(Recipe(32), CPU) > default_batch(Recipe(224), CPU) >= 1
    assert default_batch(Recipe(2048, views="ten"), CPU) == 1
    assert default_batch(Recipe(224), torch.device("cuda")) > default_batch(Recipe(224), CPU)
