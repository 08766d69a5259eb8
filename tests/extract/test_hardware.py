"""Decoding on the device gives the pixels of the one decoding rule (on a CPU: bit for bit)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import DataError
from tasks.extract.backbones import load_backbone
from tasks.extract.engine import Engine
from tasks.extract.hardware import decode_on
from tasks.extract.weights import read_weights
from tasks.ingest.decode import decode
from tasks.preprocess.recipe import Recipe
from tests.ingest.pictures import encoded, good, picture, turned

CPU = torch.device("cpu")


def test_every_kind_of_image_gets_the_pixels_of_the_rule() -> None:
    contents = [content for _, content, _ in good()]
    for content, pixels in zip(contents, decode_on(CPU, contents), strict=True):
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(decode(content)))


def test_files_bytes_and_pictures_may_be_mixed(tmp_path: Path) -> None:
    content = encoded(picture("a"), "JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    found = decode_on(CPU, [tmp_path / "a.jpg", str(tmp_path / "a.jpg"), content, decode(content), turned("b", 6)])
    assert all(torch.equal(found[0], other) for other in found[1:4])
    assert found[4].shape == (3, 36, 24)


def test_damaged_file_among_others_is_a_data_error() -> None:
    whole = encoded(picture("a"), "JPEG")
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_on(CPU, [whole, whole[: len(whole) // 2]])


@pytest.mark.parametrize("views", ["one", "mirrored", "ten"])
def test_engine_that_decodes_on_the_device_computes_the_same_features(views: str) -> None:
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path()))
    images = [encoded(picture(f"{number}"), "JPEG") for number in range(9)]
    plain, there = (
        Engine(backbone, Recipe(32, views=views), CPU, torch.float32, 40, "never", decode=where)  # type: ignore[arg-type]
        for where in ("exact", "device")
    )
    torch.testing.assert_close(torch.cat(list(plain.run(images, 9))), torch.cat(list(there.run(images, 9))))
