"""A candidate against a registered version, on images that neither has learned from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.comparison.further import (
    AnyPair,
    compare_further,
    leading_of,
    other_task,
    pair_classes,
    pair_numbers,
)
from tasks.evaluate.comparison.known import Known, known_images, manifest_of
from tasks.evaluate.comparison.number_pair import NumberPair
from tasks.evaluate.comparison.pair import Pair
from tasks.evaluate.comparison.vocabularies import Changes, compare_classes
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.door import answer
from tasks.evaluate.figures import mistakes_figure
from tasks.evaluate.numbers.answers import answer_number, told_by
from tasks.evaluate.report import Answers, small
from tasks.evaluate.slices.parts import declared
from tasks.extract.joined import JoinedStore
from tasks.fingerprint import code_version, fingerprint
from tasks.model.bundle import HEAD
from tasks.progress import progress
from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet
from tasks.rival import Rival
from tasks.train.heads import Head, predict_probabilities
from tasks.wording import quantity
from tasks.workspace import Workspace, fresh_folder

SHOWN = 12
"""Images that were gained, and as many that were lost, in a picture."""

SURE = 0.05
"""A slice that is worse is told where its p-value, raised for the number of slices, is below."""


def compare_with(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, rival: Rival,
    theirs: FeatureSet, evaluation: Evaluation, frozen: FeatureSet, workspace: Workspace,
) -> Comparison:  # fmt: skip
    """Hold a candidate against a registered version.

    Images whose labels one of them has seen, or that look like such, are left out, and so are classes that only one of
    them knows. With one label an image, all of a model's classes stand in its way: a class that is new makes wrong
    answers possible.

    Args:
        theirs: features of the same images, by the registered version's backbone.
        evaluation: of the candidate.
        frozen: features of all images, by the candidate's backbone as it was before training.
    """
    # Of the whole stage, as the flow's cache has it: what is done here rests on its other folders, too.
    code = code_version(Path(__file__).parents[1])
    records = (dataset, candidate, rival, evaluation, frozen)
    rows, their_rows = dataset.read_manifest(), manifest_of(rival, workspace)
    known_here = their_rows is not None
    which = (rival.name, rival.version)  # a candidate may be several versions, and one of them is named
    name = fingerprint(code, config.model_dump(), which, *(record.fingerprint for record in records), known_here)
    final = workspace.cache / "comparisons" / name
    changes = compare_classes(dataset.classes, rival.classes, rows, their_rows)
    head = Head.load(rival.bundle / HEAD)
    pairs: list[AnyPair] = []
    splits = [split for split in dict.fromkeys((dataset.choose_on, dataset.report_on)) if split != "tune"]
    known = known_images(dataset, candidate, evaluation, rival, their_rows, (frozen, theirs), splits, config.seed)
    findings = list(known.findings)
    beside = compare_further(config, dataset, features, candidate, rival, theirs, known, splits)
    if unlike := other_task(dataset.target, leading_of(rival, head)):
        splits, findings = [], [unlike]
    with fresh_folder(final) as folder, progress("compare", len(splits), "split") as advance:
        for split in splits:
            if dataset.target.kind == "number":
                pairs.append(_paired_numbers(split, dataset, features, candidate, head, theirs, known))
            else:
                answers = answer(split, dataset, features, candidate)
                pairs.append(_paired(answers, _their_answers(answers, head, theirs), rival, changes, known, dataset))
            advance(1)
        for pair in pairs:
            findings += _report(pair, dataset, config, folder) if len(pair.rows) else ()
        comparison = _comparison(name, final, rival, pairs, changes, dataset, config, [*findings, *beside.findings])
        comparison = comparison.model_copy(update=beside.entries(comparison))
        content = json.loads(comparison.model_dump_json(exclude={"report", "fingerprint"}))
        (folder / "comparison.json").write_text(json.dumps(content, indent=2))
    return comparison


def _their_answers(answers: Answers, head: Head, theirs: FeatureSet) -> np.ndarray:
    inputs = JoinedStore(theirs).read(answers.rows["hash"])
    return predict_probabilities(head, torch.from_numpy(inputs)).numpy()


def _paired(
    answers: Answers, theirs: np.ndarray, rival: Rival, changes: Changes, known: Known, dataset: Dataset
) -> Pair:
    return pair_classes(answers, theirs, dataset.classes, rival.classes, changes, known)


def _paired_numbers(
    split: str, dataset: Dataset, features: FeatureSet, candidate: Candidate, head: Head, theirs: FeatureSet,
    known: Known,
) -> NumberPair:  # fmt: skip
    ours = answer_number(split, dataset, features, candidate)
    inputs = torch.from_numpy(JoinedStore(theirs).read(ours.rows["hash"]))
    return pair_numbers(ours, told_by(head, inputs, split, ours.rows, ours.unit), known)


def _report(pair: AnyPair, dataset: Dataset, config: EvaluateConfig, folder: Path) -> Iterator[str]:
    """Write the files of a split, each named after it; what has to be said is yielded."""
    parts = declared(pair.rows, dataset, config.slices, config.seed)
    changed, slices = pair.changed(), pair.slices(config.seed, parts)
    changed.drop(columns="hash").to_csv(folder / f"{pair.split}_changes.csv", index=False)
    # Digits that count: p-values are read from here and raised for so many questions.
    slices.to_csv(folder / f"{pair.split}_slices.csv", index=False, float_format="%.6g")
    shown = pd.concat([changed[changed["change"] == kind].head(SHOWN) for kind in ("gained", "lost")])
    if len(shown):
        images = [small(dataset.image(content), dataset.limits) for content in shown["hash"]]
        captions = [
            f"{row.change}: {_spelt(row.label)},\n{_spelt(row.before)} before, {_spelt(row.after)} now"
            for row in shown.itertuples()
        ]
        title = f"{pair.split}: answers that changed"
        mistakes_figure(images, captions, title).savefig(folder / f"{pair.split}_changes.png", dpi=110)
    numbers = isinstance(pair, NumberPair)
    what, told = "MAE " * numbers, quantity if numbers else "{:.4f}".format
    for row in slices[(slices["p_holm"] < SURE) & (slices["difference"] < 0)].to_dict("records"):
        yield (
            f"{pair.split}: worse on {row['slice']}: {what}{told(row['candidate'])} where it was "
            f"{told(row['champion'])} ({row['images']:,} images, p {row['p_holm']:.2g})"
        )


def _spelt(label: Any) -> str:
    return quantity(label) if isinstance(label, float) else str(label)


def _comparison(
    name: str, final: Path, rival: Rival, pairs: list[AnyPair], changes: Changes, dataset: Dataset,
    config: EvaluateConfig, findings: list[str],
) -> Comparison:  # fmt: skip
    left_out, near = ({pair.split: getattr(pair, name) for pair in pairs} for name in ("left_out", "near"))
    pairs = [pair for pair in pairs if len(pair.rows)]
    moved = {pair.split: pair.moved for pair in pairs}
    return Comparison(
        fingerprint=name,
        report=final,
        version=rival.version,
        judged_on=dataset.choose_on if dataset.choose_on in moved else None,
        images={pair.split: len(pair.rows) for pair in pairs},
        left_out=left_out,
        near=near,
        metrics={
            f"{pair.split}/{figure}": astuple(difference)
            for pair in pairs
            for figure, difference in pair.differences(config).items()
        },
        p_values={pair.split: pair.p for pair in pairs},
        detectable={pair.split: pair.detectable for pair in pairs},
        gained={split: gained for split, (gained, _) in moved.items()},
        lost={split: lost for split, (_, lost) in moved.items()},
        new=changes.new,
        gone=changes.gone,
        renamed=changes.renamed,
        findings=tuple(findings),
    )
