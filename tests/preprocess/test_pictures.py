"""Decoded images in memory, and the parts of them that are learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.errors import DataError
from tasks.preprocess import pictures as module
from tasks.preprocess.kinds import Augment
from tasks.preprocess.pictures import Pictures, Squares
from tasks.preprocess.recipe import Fit, Recipe

KINDS: list[Augment] = ["none", "flip", "crop", "trivial", "rand"]
SIZES = [(40, 60), (33, 32), (300, 200), (90, 400), (7, 5)]


def photo(height: int, width: int, number: int) -> Image.Image:
    """Smooth colours, as in photos."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = 128 + 100 * np.sin(rows / 9 + columns / 7 + number)
    pixels = np.stack([rows * 255 / height, columns * 255 / width, waves], -1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of several sizes, as PNG."""
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate(SIZES):
        photo(*size, number).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("budget", [0, 20_000, None])
def test_what_does_not_fit_into_memory_is_decoded_each_time_and_looks_the_same(
    paths: list[Path], budget: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, other = Pictures(paths, Recipe(32)).load(), Pictures(paths, Recipe(32), budget).load()
    decoded: list[object] = []
    pixels_of = module.pixels_of
    monkeypatch.setattr(module, "pixels_of", lambda image, *_: decoded.append(image) or pixels_of(image))
    for index in range(len(paths)):
        assert torch.equal(other[index], kept[index])
        assert torch.equal(
            other.random(index, 24, "crop", 0.4, generator()), kept.random(index, 24, "crop", 0.4, generator())
        )
    again = set(decoded)
    assert again == {0: set(paths), 20_000: set(paths[3:]), None: set()}[budget]


@pytest.mark.parametrize("budget", [0, 8_000, None])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_square_is_what_is_served_to_the_bit(paths: list[Path], fit: Fit, budget: int | None) -> None:
    squares = Squares(paths, Recipe(32, fit, views="ten"), budget).load()
    for index, path in enumerate(paths):
        assert torch.equal(squares[index], Recipe(32, fit)(path))


def test_squares_are_read_once_and_take_no_more_memory_than_their_pixels(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    squares = Squares(paths, Recipe(32), budget=3 * 3 * 32 * 32).load()
    read: list[int] = []
    monkeypatch.setattr(Squares, "_read", lambda self, index: read.append(index) or torch.zeros(3, 32, 32))
    for index in range(len(paths)):
        squares.load()[index]
    assert read == [3, 4]


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_whole_picture_is_the_recipes_and_nearly_so_where_the_image_was_scaled_down_before(
    paths: list[Path], fit: Fit
) -> None:
    recipe = Recipe(32, fit)
    pictures = Pictures(paths, recipe).load()
    for index, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        whole, expected = pictures.whole(index, 32), recipe(path)
        if min(size) <= 32 / 0.875:
            assert torch.equal(whole, expected)
        else:
            assert (whole.int() - expected.int()).abs().max() <= 25
            assert (whole.int() - expected.int()).abs().float().mean() < 3


def test_images_are_kept_little_larger_than_what_is_asked_of_them(paths: list[Path]) -> None:
    pictures = Pictures(paths, Recipe(32)).load()
    assert [tuple(pictures[index].shape[1:]) for index in range(5)] == [
        (37, 56), (33, 32), (56, 37), (37, 164), (7, 5),
    ]  # fmt: skip
    assert min(pictures.load(largest=64)[2].shape[1:]) == round(64 / 0.875)
    assert pictures.whole(2, 32).shape == (3, 32, 32)


@settings(max_examples=60)
@given(index=st.integers(0, 4), size=st.integers(8, 70), augment=st.sampled_from(KINDS), least=st.floats(0.01, 1))
def test_any_view_is_a_square_of_bytes_that_its_generator_decides(
    paths: list[Path], index: int, size: int, augment: Augment, least: float
) -> None:
    pictures = Pictures(paths, Recipe(32))
    before = torch.random.get_rng_state()
    first, again = (pictures.random(index, size, augment, least, generator(size)) for _ in range(2))
    assert first.shape == (3, size, size) and first.dtype == torch.uint8 and torch.equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_random_about_a_view_is_what_its_kind_says(paths: list[Path]) -> None:
    pictures = Pictures(paths, Recipe(32)).load()
    square = pictures.whole(0, 32)
    draw = generator()
    views = {kind: [pictures.random(0, 32, kind, 0.4, draw) for _ in range(40)] for kind in KINDS}
    assert all(torch.equal(view, square) for view in views["none"])
    mirrored = [torch.equal(view, square.flip(-1)) for view in views["flip"]]
    assert 8 < sum(mirrored) < 32
    assert all(torch.equal(view, square) for view, other in zip(views["flip"], mirrored, strict=True) if not other)
    for kind in KINDS[2:]:
        assert len({view.numpy().tobytes() for view in views[kind]}) > 30


def test_a_view_shows_the_share_of_the_image_that_is_asked_for(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    pictures = Pictures([tmp_path / "ramp.png"], Recipe(224)).load()
    for least in (0.1, 0.9):
        widths = []
        for seed in range(80):
            row = pictures.random(0, 64, "crop", least, generator(seed))[0, 32].float()
            widths.append(float(row.max() - row.min()) / 199)
        # The narrowest part is a share `least` of the area at a ratio of 3:4.
        assert (least * 3 / 4) ** 0.5 - 0.05 < min(widths) < least**0.5 + 0.15 and max(widths) > 0.9


def test_an_image_that_has_gone_is_a_data_error(paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        Pictures([*paths, tmp_path / "gone.png"], Recipe(32)).load()
