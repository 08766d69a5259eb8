"""What is written about slices: where a model is worse than elsewhere, and images of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.figures import mistakes_figure
from tasks.evaluate.report import Answers, small
from tasks.evaluate.scores.metrics import positives
from tasks.evaluate.scores.selective import rightness
from tasks.evaluate.slices.clusters import as_part, find_clusters
from tasks.evaluate.slices.parts import Part, declared, named, slice_table
from tasks.model.decisions import THRESHOLD, given_labels
from tasks.model.decisions import named as names_of
from tasks.records import Dataset

SHOWN = 12
"""Images of a slice in a picture, and rows of the table of its images."""

FeaturesOf = Callable[[pd.DataFrame], torch.Tensor]
"""Gives the features float32 ``[N, width]`` of rows of the manifest."""


def report_slices(
    config: EvaluateConfig, dataset: Dataset, choosing: Answers, answers: Answers, features_of: FeaturesOf, folder: Path
) -> list[str]:
    """Write the slices of a split, each file named after it; returns a line for each on which it is really worse.

    Clusters are found on the split that choices are made on, and tested on another one.
    """
    split, right = answers.split, rightness(answers.targets, answers.probabilities)
    parts = declared(answers.rows, dataset, config.slices, config.seed)
    if choosing.split != split:
        parts += _found(config, dataset, choosing, answers, features_of)
    table = slice_table(parts, right, answers.groups)
    table.to_csv(folder / f"{split}_slices.csv", index=False, float_format="%.6g")
    if choosing.split == split:  # told of the held-out images, where they are
        return []
    by_name = {part.name: part for part in parts}
    worst = [(row, by_name[row["slice"]]) for row in named(table).to_dict("records")]
    shown = [_images(part, number, dataset, answers, right, folder) for number, (_, part) in enumerate(worst, 1)]
    if shown:
        pd.concat(shown).to_csv(folder / f"{split}_slice_images.csv", index=False)
    return [
        f"{split}: worse on {_spelt(part)}: {row['accuracy']:.4f} of {row['images']:,} images right, of the rest "
        f"{row['rest']:.4f} (p {row['p_holm']:.2g})"
        for row, part in worst
    ]


def _spelt(part: Part) -> str:
    return f"{part.name} ({part.note})" if part.note else part.name


def _found(
    config: EvaluateConfig, dataset: Dataset, choosing: Answers, answers: Answers, features_of: FeaturesOf
) -> list[Part]:
    known, new = features_of(choosing.rows), features_of(answers.rows)
    right = rightness(choosing.targets, choosing.probabilities)
    count = len(dataset.classes)
    true = positives(answers.targets, count)
    given = answers.probabilities >= THRESHOLD
    if answers.targets.ndim == 1:
        given = positives(answers.probabilities.argmax(1), count)
    clusters = find_clusters(known, right, new, choosing.groups, config.seed)
    return [as_part(number, chosen, true, given, dataset.classes) for number, chosen in enumerate(clusters, 1)]


def _images(
    part: Part, number: int, dataset: Dataset, answers: Answers, right: np.ndarray, folder: Path
) -> pd.DataFrame:
    """Some images of a slice, mistakes first: a picture, and their slice, path, hash, label, predicted and right."""
    split, probabilities, several = answers.split, answers.probabilities, answers.targets.ndim == 2
    places = np.flatnonzero(part.chosen)
    places = places[np.argsort(right[places], kind="stable")][:SHOWN]
    true = positives(answers.targets, len(dataset.classes))[places]
    labels = [", ".join(each) for each in names_of(true, dataset.classes)]
    if several:
        predicted = [", ".join(each) for each in given_labels(probabilities[places], dataset.classes)]
    else:
        predicted = [dataset.classes[c] for c in probabilities[places].argmax(1)]
    rows = answers.rows.iloc[places][["path", "hash"]]
    images = [small(dataset.image(content), dataset.limits) for content in rows["hash"]]
    captions = [f"{true}\n{given}" for true, given in zip(labels, predicted, strict=True)]
    title = f"{split}: {part.name} (label, answer)"
    mistakes_figure(images, captions, title).savefig(folder / f"{split}_slice_{number}.png", dpi=110)
    return rows.assign(label=labels, predicted=predicted, right=right[places]).assign(slice=part.name)
