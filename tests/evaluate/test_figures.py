"""Every figure is drawn for few and many classes, without a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tasks.evaluate import figures
from tasks.evaluate.scores.metrics import score
from tasks.evaluate.scores.multi_label import score_multi_label


def check_drawn(figure: Figure, path: Path) -> None:
    """A figure can be written, and there is something on it."""
    figure.savefig(path)
    assert np.asarray(Image.open(path).convert("L")).std() > 5, path.name


def lines(figure: Figure) -> dict[str, dict[str, list[float]]]:
    """By what a panel shows, its curves by their names: where their points lie."""
    return {
        axes.get_ylabel(): {str(line.get_label()): list(line.get_xdata()) for line in axes.lines}
        for axes in figure.axes
    }


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
        check_drawn(figure, tmp_path / f"{name}.png")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 2, 10, 60])
@pytest.mark.filterwarnings("error")
def test_figures_of_several_labels_are_drawn(tmp_path: Path, classes: int) -> None:
    random = np.random.default_rng(0)
    probabilities = random.random((400, classes)) ** 3
    targets = (random.random((400, classes)) < probabilities).astype(np.float32)
    names = [f"a class with a rather long name {index}" for index in range(classes)]
    scores = score_multi_label(targets, probabilities, names, resamples=100)
    drawn = {
        "precision_recall": figures.precision_recall_figure(targets, probabilities, scores, names, "t"),
        "roc": figures.roc_figure(targets, probabilities, scores, names, "t"),
        "reliability": figures.reliability_figure(targets, probabilities, "t"),
    }
    for name, figure in drawn.items():
        check_drawn(figure, tmp_path / f"{name}.png")
    shown = [text.get_text().rsplit("  ")[-1] for text in drawn["precision_recall"].axes[0].get_legend().get_texts()]
    worst = scores.per_class["average_precision"].sort_values()[: classes if classes <= 10 else 5]
    assert sorted(shown) == [f"{value:.3f}" for value in worst]
    assert len(drawn["roc"].axes[0].lines) == len(worst) + 1


@pytest.mark.filterwarnings("error")
def test_a_split_in_which_no_class_occurs_is_drawn_without_curves(tmp_path: Path) -> None:
    targets, probabilities = np.zeros((5, 2), np.float32), np.full((5, 2), 0.2)
    scores = score_multi_label(targets, probabilities, ["a", "b"], resamples=100)
    for draw in (figures.precision_recall_figure, figures.roc_figure):
        check_drawn(draw(targets, probabilities, scores, ["a", "b"], "t"), tmp_path / "empty.png")


def test_reliability_of_several_labels_counts_every_label_of_every_image() -> None:
    targets = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    probabilities = np.array([[0.91, 0.01], [0.92, 0.01], [0.91, 0.61]])
    above, below = figures.reliability_figure(targets, probabilities, "t").axes
    assert [bar.get_height() for bar in above.patches] == pytest.approx([0, 0, 2 / 3])
    assert [bar.get_height() for bar in below.patches if bar.get_height()] == [2, 1, 3]


def test_curves_are_drawn_against_what_they_were_measured_at(tmp_path: Path) -> None:
    accuracy = {"train/accuracy": [1.0, 0.9, 0.8], "val/accuracy": [0.5, 0.6, 0.7]}
    for extra, axis, label in (
        ({"k": [1, 3, 5]}, [1, 3, 5], "k"),
        ({"epoch": [1, 2, 3]}, [1, 2, 3], "epoch"),
        ({}, [0, 1, 2], "epoch"),
        ({"l2": [1.0, 0.1, 0.01], "epoch": [0, 0, 0]}, [1.0, 0.1, 0.01], "L2 regularisation"),
    ):
        figure = figures.curves_figure(pd.DataFrame({"step": range(3)} | extra | accuracy), "t")
        assert lines(figure) == {"accuracy": dict.fromkeys(accuracy, axis)}
        assert figure.axes[0].get_xlabel() == label
        assert figure.axes[0].get_xscale() == ("linear" if label == "epoch" else "log")
        check_drawn(figure, tmp_path / f"{label}.png")


@pytest.mark.filterwarnings("error")
def test_curves_of_other_quantities_and_more_splits_have_their_panels_and_colours(tmp_path: Path) -> None:
    curves = pd.DataFrame(
        {
            "step": [1, 2, 3], "train/average_precision": [0.1, 0.2, 0.3], "train/loss": [3, 2, 1],
            "val/loss": [np.nan, 2, np.nan], "target/loss": [3, 3, 3], "target/average_precision": [0.1, 0.1, 0.2],
        }
    )  # fmt: skip
    figure = figures.curves_figure(curves, "t")
    assert lines(figure) == {
        "loss": {"train/loss": [1, 2, 3], "val/loss": [2], "target/loss": [1, 2, 3]},
        "average precision": {"train/average_precision": [1, 2, 3], "target/average_precision": [1, 2, 3]},
    }
    colours = {}
    for axes in figure.axes:
        for line in axes.lines:
            colours.setdefault(str(line.get_label()).split("/")[0], set()).add(line.get_color())
    assert all(len(each) == 1 for each in colours.values()) and len(set.union(*colours.values())) == 3
    check_drawn(figure, tmp_path / "curves.png")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rates", "scale", "frozen"),
    [
        ({"stem": [0, 0.001], "layer1": [0, 0.1], "head": [1, 1]}, "log", True),
        ({"stem": [0.5, 0.5], "layer1": [0.75, 1], "head": [1, 1]}, "linear", False),
        ({"stem": [0, 0], "head": [0, 0]}, "linear", True),
        ({f"a.block.with.a.rather.long.name.{index}": [0.9**index, 1] for index in range(80)}, "log", False),
    ],
)
def test_rates_are_drawn_block_by_block(
    tmp_path: Path, rates: dict[str, list[float]], scale: str, frozen: bool
) -> None:
    rows = [(epoch, block, rates[block][epoch]) for epoch in (0, 1) for block in rates]
    figure = figures.rates_figure(pd.DataFrame(rows, columns=["epoch", "block", "rate"]))
    axes, bar = figure.axes
    assert axes.get_title() == "learning rates that were chosen" and bar.get_yscale() == scale
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) <= 50 and names[0].endswith(next(iter(rates))[-20:]) and len(set(names)) == len(names)
    cells = axes.images[0].get_array()
    assert cells.shape == (len(rates), 2)
    for row, values in enumerate(rates.values()):
        assert cells[row].filled(0).tolist() == values
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == ["frozen"] * frozen
    check_drawn(figure, tmp_path / "rates.png")


@pytest.mark.filterwarnings("error")
def test_names_are_no_formulas_and_of_any_script(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = ["$5_$10", "$10_$20", "x^2", "猫", "قطة", "\U0001f600", "a\tb"]
    probabilities = random.dirichlet(np.full(len(names), 0.3), 100)
    labels = random.integers(0, len(names), 100)
    scores = score(labels, probabilities, names, resamples=100)
    for figure in (
        figures.confusion_figure(scores, names, "t"),
        figures.roc_figure(labels, probabilities, scores, names, "t"),
        figures.mistakes_figure([np.zeros((8, 8, 3), np.uint8)], ["$5_$10 taken for\n$10_$20"], "domain a$b_{c$"),
    ):
        check_drawn(figure, tmp_path / "figure.png")
    [axes, *_] = figures.confusion_figure(scores, names, "t").axes
    assert [text.get_text() for text in axes.get_yticklabels()][:3] == [r"\$5_\$10", r"\$10_\$20", "x^2"]


def test_a_name_that_begins_with_a_line_is_in_the_legend_and_long_ones_keep_to_their_picture(tmp_path: Path) -> None:
    names, random = ["_noise_", "dog", "cat"], np.random.default_rng(0)
    labels, probabilities = random.integers(0, 3, 90), random.dirichlet(np.ones(3), 90)
    scores = score(labels, probabilities, names, resamples=100)
    [axes] = figures.roc_figure(labels, probabilities, scores, names, "t").axes
    assert sum("_noise_" in text.get_text() for text in axes.get_legend().get_texts()) == 1
    sheet = figures.mistakes_figure([np.zeros((8, 8, 3), np.uint8)] * 2, ["spoonbill, " * 9 + "\nb"] * 2, "t")
    assert all(len(line) <= figures.CAPTION for text in sheet.axes[0].texts for line in text.get_text().split("\n"))
