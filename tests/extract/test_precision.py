"""What bf16 costs in the end: next to nothing of the accuracy of a head fitted to its features."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import ConfigurationError
from tasks.extract.backbones import load_backbone
from tasks.extract.engine import forward_all
from tasks.extract.precision import choose_device
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import predict_probabilities
from tasks.train.solvers import fit_linear

NATIVE = bool(torch.cpu._is_avx512_bf16_supported())
TRAIN = HELD_OUT = 1500 if NATIVE else 300  # elsewhere bf16 is emulated, at seven images a second


@pytest.fixture
def photos(shared: Path, tmp_path: Path) -> tuple[list[Path], torch.Tensor]:
    """Some CIFAR-10 images, in random order, and their labels."""
    with tarfile.open(shared / "datasets" / "cifar10-jpeg.tar.gz") as archive:
        test = [member for member in archive if member.isfile() and member.name.split("/")[-3] == "test"]
        chosen = np.random.default_rng(0).permutation(len(test))[: TRAIN + HELD_OUT]
        # In the archive's order: going back in it means reading it anew.
        archive.extractall(tmp_path, [test[index] for index in sorted(chosen)], filter="data")
    paths = [tmp_path / test[index].name for index in chosen]
    names = sorted({path.parent.name for path in paths})
    return paths, torch.tensor([names.index(path.parent.name) for path in paths])


@pytest.mark.slow
@pytest.mark.shared
def test_a_head_on_bf16_features_decides_as_one_on_fp32_features(
    photos: tuple[list[Path], torch.Tensor], shared: Path
) -> None:
    paths, labels = photos
    file = shared / "weights" / "mobilenet_v2-imagenet.safetensors"
    backbone, _ = load_backbone("mobilenet_v2", read_weights("mobilenet_v2", str(file), file))
    decisions, accuracies = [], []
    for precision in (torch.float32, torch.bfloat16):
        features = torch.cat(
            list(forward_all(backbone, paths, Recipe(64), device=torch.device("cpu"), precision=precision))
        )
        train, held_out = (features[:TRAIN], labels[:TRAIN]), (features[TRAIN:], labels[TRAIN:])
        decided = predict_probabilities(fit_linear(train, held_out, 10).head, held_out[0]).argmax(1)
        decisions.append(decided)
        accuracies.append((decided == held_out[1]).double().mean().item())
    assert accuracies[0] > (0.45 if NATIVE else 0.35)
    # Twice the standard error of the difference, if every tenth decision changed.
    assert abs(accuracies[0] - accuracies[1]) <= 2 * (0.1 / HELD_OUT) ** 0.5
    assert (decisions[0] == decisions[1]).double().mean() >= 0.92


def test_a_device_that_fails_without_a_word_is_told_by_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(ConfigurationError, match=r"extract\.device: 'cuda' is not there: AssertionError"):
        choose_device("cuda")
