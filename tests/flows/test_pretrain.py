"""Pretraining as a flow: what it goes on from, and what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.config import PretrainConfig
from flows.pretrain import fit_backbone
from tasks.workspace import Workspace


@pytest.mark.slow
def test_a_source_that_has_changed_is_learned_anew(workspace: Workspace, tmp_path: Path) -> None:
    def draw(classes: str) -> None:
        for number in range(24):
            path = (
                tmp_path
                / "source"
                / ("train", "train", "val")[number // len(classes) % 3]
                / classes[number % len(classes)]
            )
            path.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([number, len(classes)]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(path / f"{number}{classes}.png")

    source, schedule = {"folder": str(tmp_path / "source")}, {"epochs": 1, "batch_size": 8}
    config = PretrainConfig.model_validate({"name": "x", "size": 8, "source": source, "schedule": schedule})
    draw("ab")
    first, _, classes = fit_backbone.fn(config, workspace)
    again, _, _ = fit_backbone.fn(config, workspace)
    assert classes == 2 and again.digest == first.digest
    draw("abc")
    other, _, classes = fit_backbone.fn(config, workspace)
    assert classes == 3 and other.digest != first.digest
