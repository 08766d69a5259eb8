"""Whether held-out images are of the kind that was learned from, by a model's embeddings; and what goes with the model
so that batches of other images can be asked the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.evaluate.figures import BLUE, FEW, GREEN, GREY, ORANGE, PURPLE
from tasks.evaluate.inspection.looking import draw
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.paired import holm
from tasks.evaluate.shift.two_samples import SMALL, SURE, Shift, compare_samples
from tasks.extract.joined import JoinedStore, counted_alike
from tasks.groups import group_numbers
from tasks.lettering import short
from tasks.model.bundle import REFERENCE
from tasks.model.reference import MOST, Reference, count_answers, embed
from tasks.records import Candidate, Dataset, FeatureSet
from tasks.train.fusion.parts import parts_of
from tasks.train.heads import Head

SAMPLE = 400
"""Images of each side that are compared."""

FEWEST = 20
"""Images of a side below which nothing is compared."""


def write_reference(answers: Answers, features: np.ndarray, head: Head, seed: int, folder: Path) -> None:
    """Keep what the model makes of images that it has not learned from; of images in groups, few of each."""
    counted = count_answers(answers.targets, answers.probabilities)
    keep_embeddings(answers.rows, answers.groups, features, head, answers.split, seed, folder, counted)


def keep_embeddings(
    rows: pd.DataFrame, groups: np.ndarray | None, features: np.ndarray, head: Head, split: str, seed: int,
    folder: Path, counted: np.ndarray | None = None,
) -> None:  # fmt: skip
    """As `write_reference`, of rows of a manifest and their features float32 ``[N, width]``; without ``counted``
    answers, as where they are numbers, the table of these is empty."""
    places = _spread(rows, groups, MOST, seed)
    embeddings = embed(head, torch.from_numpy(features[places]))
    Reference(embeddings, np.zeros((0, 0)) if counted is None else counted, split).save(folder / REFERENCE)


def report_kinship(
    dataset: Dataset, features: FeatureSet, candidate: Candidate, seed: int, folder: Path
) -> Iterator[str]:
    """Compare held-out images with those that were learned from and, where there are domains, each with the others;
    writes ``shift.csv`` and ``projection.png``. What has to be said is yielded.

    Args:
        features: of the frozen backbone, for a tuned one has bent itself to the images that it learned from.
    """
    manifest = dataset.read_manifest()
    sides = [manifest[manifest["split"] == split] for split in ("train", dataset.report_on)]
    sides = [side.iloc[_spread(side, group_numbers(side), SAMPLE, seed)] for side in sides]
    if min(map(len, sides)) < FEWEST:
        return
    rows = pd.concat(sides, ignore_index=True)
    embeddings = embed(_standardising(candidate, features, rows), _read(features, rows))
    is_held_out = (rows["split"] == dataset.report_on).to_numpy()
    questions = {f"{dataset.report_on} and train": is_held_out}
    if "domain" in rows and rows["domain"].nunique() > 1:
        questions |= {
            f"{name} and other domains": (rows["domain"] == name).to_numpy()
            for name in sorted(rows["domain"].dropna().unique())
        }
    groups = group_numbers(rows)
    found = {
        name: _compared(embeddings, chosen, groups, seed)
        for name, chosen in questions.items()
        if min(chosen.sum(), (~chosen).sum()) >= FEWEST
    }
    table = _table(found)
    table.to_csv(folder / "shift.csv", index=False, float_format="%.4f")
    figure = projection_figure(embeddings, rows, f"{dataset.report_on} and train")
    figure.savefig(folder / "projection.png", dpi=160)
    first = table.iloc[0]
    # A question that was asked beforehand: that others are asked, too, of the domains, takes nothing from it.
    if first["p"] < SURE and first["effect"] > SMALL:
        yield (
            f"{dataset.report_on}: its images are unlike those of train: effect {first['effect']:.2f}, p "
            f"{first['p']:.2g}, a classifier tells the two apart with an area of {first['auc']:.2f}"
        )


def _compared(embeddings: np.ndarray, is_second: np.ndarray, groups: np.ndarray | None, seed: int) -> Shift:
    order = np.argsort(is_second, kind="stable")
    first, second = embeddings[~is_second], embeddings[is_second]
    shared = groups is not None and bool(set(groups[is_second]) & set(groups[~is_second]))
    return compare_samples(first, second, None if groups is None or shared else groups[order], seed)


def _table(found: dict[str, Shift]) -> pd.DataFrame:
    rows = [
        {"what": name, "images": shift.images[1], "others": shift.images[0], "effect": shift.effect, "p": shift.p,
         "auc": shift.auc, "p_auc": shift.p_auc}
        for name, shift in found.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_list()))


def _spread(rows: pd.DataFrame, groups: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """Positions of at most so many rows: labels as frequent as in all, and groups as even as they can be."""
    if groups is None or len(rows) <= count:
        return draw(rows, count, seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    turn = pd.Series(groups[order]).groupby(groups[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def _read(features: FeatureSet, rows: pd.DataFrame) -> torch.Tensor:
    return torch.from_numpy(JoinedStore(features).read(rows["hash"]))


def _standardising(candidate: Candidate, features: FeatureSet, rows: pd.DataFrame) -> Head:
    """The candidate's head or, where that belongs to a tuned backbone, another one for the frozen one's features."""
    head = Head.load(candidate.head)
    if candidate.backbone is None:
        return head
    learned = rows[rows["split"] == "train"]
    return Head(features.width, 2, parts=parts_of(counted_alike(features))).standardise_like(_read(features, learned))


def projection_figure(embeddings: np.ndarray, rows: pd.DataFrame, title: str) -> Figure:
    """The two directions in which embeddings vary most (principal components), coloured by split, by class and, where
    there are any, by domain."""
    centred = embeddings - embeddings.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    points = centred @ directions[:2].T
    shares = values**2 / max(float((values**2).sum()), 1e-12)
    columns = {"split": rows["split"], **_by_label(rows["label"])}
    if "domain" in rows and rows["domain"].nunique() > 1:
        columns["domain"] = rows["domain"]
    figure = Figure(figsize=(4.2 * len(columns), 4.0), layout="constrained")
    figure.suptitle(f"{title}: embeddings, {len(rows):,} images", fontsize=10)
    for axes, (what, values_of) in zip(
        figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True
    ):
        _scatter(axes, points, values_of.astype(str), what)
        axes.set(xlabel=f"1st component ({shares[0]:.0%})", ylabel=f"2nd component ({shares[1:2].sum():.0%})")
    return figure


def _by_label(labels: pd.Series) -> dict[str, pd.Series]:
    """What images are coloured by: the class, of several the first, of numbers the quarter that they are in."""
    if pd.api.types.is_float_dtype(labels):
        quarters = pd.qcut(labels, 4, duplicates="drop") if labels.nunique() > 1 else labels
        return {
            "number": quarters.map(
                lambda part: f"{part.left:.4g} to {part.right:.4g}" if hasattr(part, "left") else f"{part:.4g}"
            )
        }
    return {"class": labels.map(lambda label: label if isinstance(label, str) else (list(label) or ["none"])[0])}


def _scatter(axes: Axes, points: np.ndarray, values: pd.Series, what: str) -> None:
    names: Sequence[str] = values.value_counts().index[:FEW].tolist()
    palette = dict(
        zip(
            sorted(names),
            cycle((BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#F0E442", "#000000")),
            strict=False,
        )
    )
    axes.set_title(what if values.nunique() <= FEW else f"{what}: the {FEW} most frequent", fontsize=9)
    others = ~values.isin(names).to_numpy()
    axes.scatter(points[others, 0], points[others, 1], s=6, color=GREY, alpha=0.3, lw=0)
    for name, marker in zip(sorted(names), "oooooooo^^", strict=False):
        own = points[(values == name).to_numpy()]
        axes.scatter(
            own[:, 0], own[:, 1], s=10, color=palette[name], marker=marker, alpha=0.6, lw=0,
            label=short(name),
        )  # fmt: skip
    axes.legend(fontsize=7, frameon=False, loc="best")
