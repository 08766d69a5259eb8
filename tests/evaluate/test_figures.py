"""Every figure is drawn for few and many classes, without a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.evaluate import figures
from tasks.evaluate.metrics import score


@pytest.mark.parametrize("classes", [2, 10, 60])
@pytest.mark.filterwarnings("error")
def test_figures_are_drawn(tmp_path: Path, classes: int) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(classes, 0.3), 400)
    labels = random.integers(0, classes, 400)
    names = [f"a class with a rather long name {index}" for index in range(classes)]
    scores = score(labels, probabilities, names, resamples=100)
    curves = pd.DataFrame(
        {"step": range(3), "l2": [1, 0.1, 0.01], "train/loss": [3, 2, 1], "val/accuracy": [0.1, 0.2, 0.3]}
    )
    drawn = {
        "confusion": figures.confusion_figure(scores, names, "t"),
        "roc": figures.roc_figure(labels, probabilities, scores, names, "t"),
        "reliability": figures.reliability_figure(labels, probabilities, "t"),
        "path": figures.curves_figure(curves, "t"),
        "epochs": figures.curves_figure(curves.drop(columns="l2"), "t"),
        "mistakes": figures.mistakes_figure([np.zeros((8, 8, 3), np.uint8)] * 8, ["x"] * 8, "t"),
    }
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")).std() > 5, name
