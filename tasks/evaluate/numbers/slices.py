"""Parts of a split on which numbers are told worse than on the rest."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.figures import mistakes_figure
from tasks.evaluate.numbers.answers import Numbers
from tasks.evaluate.report import small
from tasks.evaluate.scores.intervals import Interval, Sample
from tasks.evaluate.scores.paired import holm
from tasks.evaluate.slices.clusters import find_clusters
from tasks.evaluate.slices.parts import NAMED, Part, declared, worse
from tasks.evaluate.slices.weak_spots import SHOWN, FeaturesOf
from tasks.groups import groups_among
from tasks.records import Dataset
from tasks.wording import quantity

RESAMPLES = 200
"""Behind the interval of a slice's error."""

COLUMNS = ["slice", "kind", "images", "mae", "low", "high", "rest", "difference", "p", "p_holm", "note"]


def report_number_slices(
    config: EvaluateConfig, dataset: Dataset, choosing: Numbers, answers: Numbers, features_of: FeaturesOf, folder: Path
) -> list[str]:
    """As `tasks.evaluate.slices.weak_spots.report_slices`, by the mean absolute error."""
    split = answers.split
    parts = declared(answers.rows, dataset, config.slices, config.seed)
    if choosing.split != split:
        known, new = features_of(choosing.rows), features_of(answers.rows)
        clusters = find_clusters(known, -choosing.errors, new, choosing.groups, config.seed)
        parts += [_as_part(number, chosen, answers) for number, chosen in enumerate(clusters, 1)]
    table = error_table(parts, answers.errors, answers.groups)
    table.to_csv(folder / f"{split}_slices.csv", index=False, float_format="%.6g")
    if choosing.split == split:  # told of the held-out images, where they are
        return []
    by_name = {part.name: part for part in parts}
    worst = table[(table["p_holm"] < NAMED) & (table["difference"] > 0)].to_dict("records")
    shown = [_images(by_name[row["slice"]], place, dataset, answers, folder) for place, row in enumerate(worst, 1)]
    if shown:
        pd.concat(shown).to_csv(folder / f"{split}_slice_images.csv", index=False)
    return [_told(row, answers) for row in worst]


def error_table(parts: Sequence[Part], errors: np.ndarray, groups: np.ndarray | None = None) -> pd.DataFrame:
    """A row for each part, the worst first: slice, kind, images, mae with low and high, rest (mae of the rest),
    difference, p (one-sided, of being no worse), p_holm (raised for so many questions), note.

    Args:
        errors: absolute ones, float ``[N]``.
        groups: of each image int64 ``[N]``, where images come in groups.
    """
    rows = []
    for part in parts:
        rest = ~part.chosen if part.among is None else part.among & ~part.chosen
        mae, low, high = mean_error(errors[part.chosen], groups_among(groups, part.chosen))
        rows.append({
            "slice": part.name, "kind": part.kind, "images": int(part.chosen.sum()), "mae": mae, "low": low,
            "high": high, "rest": float(errors[rest].mean()), "difference": mae - float(errors[rest].mean()),
            "p": worse(-errors, part.chosen, rest, groups), "note": part.note,
        })  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = holm(table["p"].tolist()) if rows else []
    return table.sort_values(["p", "difference"], ascending=[True, False], kind="stable").reset_index(drop=True)


def mean_error(errors: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> Interval:
    """The mean of absolute errors, float ``[N]``, with its interval; NaN of none."""
    if not len(errors):
        return float("nan"), float("nan"), float("nan")
    sample = Sample(len(errors), groups, seed)
    drawn = sample.resample(lambda weights: {"mae": weights @ errors / weights.sum(1)}, RESAMPLES)
    return sample.interval(float(errors.mean()), drawn["mae"], bounded=False)


def _as_part(number: int, chosen: np.ndarray, answers: Numbers) -> Part:
    low, high = np.quantile(answers.targets[chosen], [0.1, 0.9])
    note = f"mostly {quantity(float(low))} to {quantity(float(high), answers.unit)}"
    return Part(f"cluster {number}", "found", chosen, note=note)


def _told(row: dict[Hashable, Any], answers: Numbers) -> str:
    name = f"{row['slice']} ({row['note']})" if row["note"] else row["slice"]
    mae, rest = (quantity(row[key], answers.unit) for key in ("mae", "rest"))
    return (
        f"{answers.split}: worse on {name}: MAE {mae} of {row['images']:,} images, of the rest {rest} (p "
        f"{row['p_holm']:.2g})"
    )


def _images(part: Part, number: int, dataset: Dataset, answers: Numbers, folder: Path) -> pd.DataFrame:
    """Some images of a slice, the largest errors first: a picture, and their slice, path, hash, label and predicted."""
    places = np.flatnonzero(part.chosen)
    places = places[np.argsort(-answers.errors[places], kind="stable")][:SHOWN]
    rows = answers.table.iloc[places][["path", "hash", "label", "predicted"]]
    images = [small(dataset.image(content), dataset.limits) for content in rows["hash"]]
    told = zip(rows["label"], rows["predicted"], strict=True)
    captions = [f"{quantity(true)}\n{quantity(given, answers.unit)}" for true, given in told]
    title = f"{answers.split}: {part.name} (number, answer)"
    mistakes_figure(images, captions, title).savefig(folder / f"{answers.split}_slice_{number}.png", dpi=110)
    return rows.assign(slice=part.name)
