"""Pretraining: augmentation per image, and a killed run that ends where an unbroken one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tasks.train import pretraining
from tasks.train.pretraining import Schedule, augment, pretrain_supervised

SCHEDULE = Schedule(epochs=3, batch_size=16, learning_rate=0.05, seed=3)


def images(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(count) % 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


def test_augmentation_differs_per_image_and_repeats_with_its_generator() -> None:
    pixels = images(1, seed=0)[0].repeat(64, 1, 1, 1)
    first, again = (augment(pixels, torch.Generator().manual_seed(1), grayscale=0.5) for _ in range(2))
    assert torch.equal(first, again) and first.shape == pixels.shape and first.dtype == torch.uint8
    assert len({tuple(image.flatten().tolist()) for image in first}) > 40
    grey = (first[:, 0] == first[:, 1]).all((1, 2)) & (first[:, 1] == first[:, 2]).all((1, 2))
    assert 0.25 < grey.float().mean() < 0.75


def test_without_shift_an_image_is_itself_or_its_mirror() -> None:
    pixels = images(20, seed=1)[0]
    result = augment(pixels, torch.Generator().manual_seed(0), pad=0, grayscale=0.0)
    same = (result == pixels).flatten(1).all(1)
    mirrored = (result == pixels.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all() and same.any() and mirrored.any()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)
    train, val = images(64, seed=2), images(16, seed=3)
    whole, accuracy, _ = pretrain_supervised(network(), train, val, SCHEDULE, tmp_path / "whole")

    start = pretraining._ReportProgress.on_train_epoch_start

    def killed(self, trainer, module):  # type: ignore[no-untyped-def]
        if trainer.current_epoch == 2:
            raise RuntimeError("killed")
        start(self, trainer, module)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(pretraining._ReportProgress, "on_train_epoch_start", killed)
        pretrain_supervised(network(), train, val, SCHEDULE, tmp_path / "broken")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretraining._ReportProgress, "on_train_epoch_start", interrupted)
        pretrain_supervised(network(), train, val, SCHEDULE, tmp_path / "broken")
    resumed, same_accuracy, _ = pretrain_supervised(network(), train, val, SCHEDULE, tmp_path / "broken")
    assert accuracy == same_accuracy
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
