"""The mistakes that a model was surest of, beside what it learned from that is most like them, and which classes it
takes for each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tasks.evaluate.figures import mistakes_figure
from tasks.evaluate.neighbours.nearest import Learned, nearest
from tasks.evaluate.report import small
from tasks.ingest.relabel import label_text
from tasks.records import Dataset

BESIDE = 3
"""Neighbours of a mistake."""
SIDE, GAP = 192, 4
"""Pixels of a mistake in the picture, below which its neighbours stand in a row, and between these."""
EXAMPLES, LISTED = 3, 100
"""Images of a pair of classes, and pairs."""


def show_mistakes(
    wrong: pd.DataFrame,
    split: str,
    dataset: Dataset,
    learned: Learned,
    folder: Path,
    what: str = "most confident mistakes",
) -> None:
    """Write ``{split}_mistakes.csv`` and a picture of them; see `tasks.records` for the columns.

    Args:
        wrong: columns path, hash, label, predicted, probability (of numbers, low, high and error) and caption; the
            worst first.
        what: they are, in words.
    """
    if wrong.empty:
        return
    found = nearest(learned.place(wrong["hash"].tolist()), learned.directions, BESIDE)
    table = wrong.drop(columns="caption").reset_index(drop=True)
    for name in ("label", "predicted"):
        table[name] = table[name].map(_as_cell)
    for place in range(found.index.shape[1]):
        theirs = learned.rows.iloc[found.index[:, place]].reset_index(drop=True)
        name = f"neighbour_{place + 1}"
        table[name], table[f"{name}_hash"] = theirs["path"], theirs["hash"]
        table[f"{name}_label"] = theirs["label"].map(_as_cell)
        table[f"{name}_similarity"] = found.similarity[:, place]
    digits = "%.6g" if "error" in table else "%.4f"
    table.to_csv(folder / f"{split}_mistakes.csv", index=False, float_format=digits)
    beside = learned.rows["hash"].to_numpy()[found.index]
    images = [_sheet(own, row.tolist(), dataset) for own, row in zip(wrong["hash"], beside, strict=True)]
    title = f"{split}: the {what}, above the nearest images that were learned from"
    mistakes_figure(images, list(wrong["caption"]), title).savefig(folder / f"{split}_mistakes.png", dpi=110)


def _as_cell(label: object) -> object:
    """A number stays one."""
    return label if isinstance(label, float) else label_text(label)


def _sheet(own: str, beside: list[str], dataset: Dataset) -> np.ndarray:
    """A mistake above its neighbours: uint8 ``[H, W, 3]`` on white."""
    part = (SIDE - (BESIDE - 1) * GAP) // BESIDE
    sheet = Image.new("RGB", (SIDE, SIDE + GAP + part), "white")
    places = [(0, 0, SIDE), *((number * (part + GAP), SIDE + GAP, part) for number in range(len(beside)))]
    for content, (left, top, side) in zip([own, *beside], places, strict=True):
        picture = Image.fromarray(small(dataset.image(content), dataset.limits))
        scale = side / max(picture.size)
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
    return np.asarray(sheet)


def list_confusions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Which classes were taken for which others, the most images first; see `tasks.records` for the columns.

    Args:
        predictions: columns path, hash, label, predicted and probability.
    """
    sizes = predictions["label"].value_counts()
    wrong = predictions[predictions["label"] != predictions["predicted"]].sort_values("probability", ascending=False)
    rows = []
    for (true, predicted), images in wrong.groupby(["label", "predicted"], sort=True):
        shown = {
            key: value
            for place, (path, content) in enumerate(images[["path", "hash"]].head(EXAMPLES).itertuples(index=False), 1)
            for key, value in ((f"example_{place}", path), (f"example_{place}_hash", content))
        }
        share = len(images) / int(sizes.loc[str(true)])
        rows.append({"true": true, "predicted": predicted, "images": len(images), "share": share, **shown})
    columns = [f"example_{place}{what}" for place in range(1, EXAMPLES + 1) for what in ("", "_hash")]
    table = pd.DataFrame(rows, columns=["true", "predicted", "images", "share", *columns])
    order = ["images", "share"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True).head(LISTED)
