"""Heat maps of some answers, right and wrong, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from tasks.evaluate.figures import BLUE, ORANGE
from tasks.evaluate.inspection.saliency import enlarged
from tasks.evaluate.inspection.together import Mapper
from tasks.lettering import short
from tasks.model.decisions import THRESHOLD

SIDE = 224
"""Pixels of an overlay's side."""

COLUMNS = 6
COLOURS = "inferno"
"""Its lightness rises evenly with the value, also for colour-blind readers and in print."""
DIM, STRONGEST = 0.55, 0.8
"""What is left of an image's own brightness below a map, and how much of it a map's largest value covers."""


def choose_answers(targets: np.ndarray, probabilities: np.ndarray, count: int) -> pd.DataFrame:
    """Answers to be explained: the most confident mistakes for one half, and for the other right ones, an image of each
    class in turn, the surest first; more of the one where there are too few of the other.

    With several labels an image, an answer is one label: the surest that is wrong (given and not there, or there and
    not given) or, of a right image, the surest that is given.

    Returns:
        A row an answer: row (position of the image), predicted, true (numbers of classes; -1 where there is none),
        probability (of ``predicted``) and right (bool). Right ones come first.
    """
    answers = _one(targets, probabilities) if targets.ndim == 1 else _several(targets, probabilities)
    wrong = answers[~answers["right"]].sort_values("sureness", ascending=False, kind="stable")
    right = answers[answers["right"]].sort_values("sureness", ascending=False, kind="stable")
    right = right.iloc[right.groupby("predicted").cumcount().argsort(kind="stable")]
    most = min(len(wrong), max(count // 2, count - len(right)))
    return pd.concat([right[: count - most], wrong[:most]]).drop(columns="sureness").reset_index(drop=True)


def _one(targets: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    predicted, sureness = probabilities.argmax(1), probabilities.max(1)
    return pd.DataFrame(
        {"row": range(len(targets)), "predicted": predicted, "true": targets, "probability": sureness,
         "sureness": sureness, "right": predicted == targets}
    )  # fmt: skip


def _several(targets: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    there, given = targets > 0, probabilities >= THRESHOLD
    wrong = given != there
    is_right = ~wrong.any(1)
    sureness = np.where(given, probabilities, 1 - probabilities)
    asked = np.where(is_right[:, None], np.where(given, probabilities, -1.0), np.where(wrong, sureness, -1.0))
    chosen, rows = asked.argmax(1), np.arange(len(targets))
    is_there = there[rows, chosen]
    answers = pd.DataFrame(
        {"row": rows, "predicted": np.where(given[rows, chosen], chosen, -1), "true": np.where(is_there, chosen, -1),
         "probability": probabilities[rows, chosen], "sureness": asked.max(1), "right": is_right}
    )  # fmt: skip
    return answers[answers["sureness"] >= 0]


def explain_answers(
    saliency: Mapper, answers: pd.DataFrame, pixels: torch.Tensor, rows: pd.DataFrame,
    classes: Sequence[str], split: str, folder: Path,
) -> pd.DataFrame:  # fmt: skip
    """Write a small picture for each map, a sheet of all and a table into a folder; returns the table.

    Args:
        answers: of `choose_answers`.
        pixels, rows: of these answers, in their order.
    """
    wrong = (~answers["right"] & (answers["true"] >= 0) & (answers["true"] != answers["predicted"])).to_numpy()
    of_predicted = np.where(answers["predicted"] >= 0, answers["predicted"], answers["true"])
    given, speaks = _overlays(saliency, pixels, torch.tensor(of_predicted))
    true, _ = _overlays(saliency, pixels[torch.tensor(wrong)], torch.tensor(answers["true"].to_numpy()[wrong]))
    others = iter(true)
    table, pairs = [], []
    for number, (answer, row) in enumerate(zip(answers.to_dict("records"), rows.to_dict("records"), strict=True), 1):
        other = next(others) if wrong[number - 1] else None
        names = [f"explanation_{number:02d}.jpg", f"explanation_{number:02d}_true.jpg" if other is not None else ""]
        for name, overlay in zip(names, (given[number - 1], other), strict=True):
            if overlay is not None:
                _picture(overlay).save(folder / name, quality=88)
        label = row["label"] if isinstance(row["label"], str) else ", ".join(row["label"])
        predicted = classes[answer["predicted"]] if answer["predicted"] >= 0 else ""
        table.append(
            {"path": row["path"], "hash": row["hash"], "label": label, "predicted": predicted,
             "explained": classes[of_predicted[number - 1]], "speaks": speaks[number - 1],
             "probability": answer["probability"],
             "right": answer["right"], "picture": names[0], "picture_of_label": names[1]}
        )  # fmt: skip
        pairs.append((given[number - 1], other))
    found = pd.DataFrame(table)
    found.to_csv(folder / "explanations.csv", index=False, float_format="%.4f")
    squares = pixels.permute(0, 2, 3, 1).numpy()
    explanations_figure(list(squares), pairs, found, f"{split}: what answers rest on").savefig(
        folder / "explanations.png", dpi=120
    )
    return found


def _overlays(saliency: Mapper, pixels: torch.Tensor, classes: torch.Tensor) -> tuple[list[np.ndarray], list[bool]]:
    """Maps laid over images, uint8 ``[S, S, 3]``; each map by its own largest value, only what speaks for a class. And
    whether anything does: of a label that was not given, often nothing."""
    if not len(pixels):
        return [], []
    maps = enlarged(saliency.maps(pixels, classes), SIDE).clamp(min=0)
    most = maps.amax((1, 2), keepdim=True)
    maps /= most.clamp(min=1e-12)
    images = [_picture(each.permute(1, 2, 0).numpy()) for each in pixels]
    overlays = [_overlay(np.asarray(image), each) for image, each in zip(images, maps.numpy(), strict=True)]
    return overlays, (most > 0).flatten().tolist()


def _overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    grey = image.mean(2, keepdims=True) * DIM
    colours = 255 * mpl.colormaps[COLOURS](values)[..., :3]
    cover = STRONGEST * values[..., None]
    return ((1 - cover) * grey + cover * colours).round().astype(np.uint8)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def explanations_figure(
    images: Sequence[np.ndarray], overlays: Sequence[tuple[np.ndarray, np.ndarray | None]], table: pd.DataFrame,
    title: str,
) -> Figure:  # fmt: skip
    """Images with what speaks for the answer below and, of wrong ones, below that what speaks for their label.

    Args:
        overlays: of each image, for the answer and for the label.
        table: as `explain_answers` returns it.
    """
    bands = [
        (places[start : start + COLUMNS], height)
        for places, height in (
            (np.flatnonzero(table["right"]), 2),
            (np.flatnonzero(~table["right"]), 3),
        )
        for start in range(0, len(places), COLUMNS)
    ]
    names = [(short(row["label"]), short(row["predicted"]), row["probability"]) for row in table.to_dict("records")]
    figure = Figure(
        figsize=(1.6 * COLUMNS + 0.4, sum(0.35 + 1.55 * height for _, height in bands) + 0.4), layout="constrained"
    )
    figure.suptitle(title, fontsize=11)
    parts = figure.subfigures(max(1, len(bands)), 1, squeeze=False, height_ratios=[0.22 + h for _, h in bands] or [1])
    for part, (places, height) in zip(parts[:, 0], bands, strict=False):
        grid = part.subplots(height, COLUMNS, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for column, place in enumerate(places):
            label, predicted, probability = names[place]
            right = bool(table["right"].iloc[place])
            told = f"{predicted or 'not given'} ({probability:.0%})" + (
                "" if right else f"\nis {label or 'unlabelled'}"
            )
            grid[0, column].set_title(told, fontsize=8, color=BLUE if right else ORANGE)
            for axes, picture in zip(grid[:, column], (images[place], *overlays[place]), strict=False):
                if picture is not None:
                    axes.imshow(picture, interpolation="nearest" if len(picture) < SIDE else "bilinear")
        for axes, what in zip(grid[:, 0], ("image", "for the answer", "for the label"), strict=False):
            axes.text(-0.06, 0.5, what, rotation=90, ha="right", va="center", fontsize=8, transform=axes.transAxes)
    return figure
