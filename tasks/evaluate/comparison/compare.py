"""A candidate against a registered version, on images that neither has learned from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.comparison.known import Known, known_images, manifest_of
from tasks.evaluate.comparison.pair import Pair
from tasks.evaluate.comparison.vocabularies import Changes, aligned, compare_classes
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.door import answer
from tasks.evaluate.figures import mistakes_figure
from tasks.evaluate.report import Answers, small
from tasks.evaluate.scores.paired import detectable, p_value
from tasks.evaluate.slices.parts import declared
from tasks.extract.joined import JoinedStore
from tasks.fingerprint import code_version, fingerprint
from tasks.groups import group_numbers
from tasks.model.bundle import HEAD
from tasks.progress import progress
from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet, Rival
from tasks.train.heads import Head, predict_probabilities
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
    code = code_version(Path(__file__).parent)
    records = (dataset, candidate, rival, evaluation, frozen)
    name = fingerprint(code, config.model_dump(), *(record.fingerprint for record in records))
    final = workspace.cache / "comparisons" / name
    rows, their_rows = dataset.read_manifest(), manifest_of(rival, workspace)
    changes = compare_classes(dataset.classes, rival.classes, rows, their_rows)
    head = Head.load(rival.bundle / HEAD)
    pairs: list[Pair] = []
    splits = [split for split in dict.fromkeys((dataset.choose_on, dataset.report_on)) if split != "tune"]
    known = known_images(dataset, candidate, evaluation, rival, their_rows, (frozen, theirs), splits, config.seed)
    findings = list(known.findings)
    if head.multi_label != dataset.multi_label:
        splits, findings = [], ["one of the two gives several labels an image, the other one"]
    with fresh_folder(final) as folder, progress("compare", len(splits), "split") as advance:
        for split in splits:
            answers = answer(split, dataset, features, candidate)
            pairs.append(_paired(answers, _their_answers(answers, head, theirs), rival, changes, known, dataset))
            advance(1)
        for pair in pairs:
            findings += _report(pair, dataset, config, folder) if len(pair.rows) else ()
        comparison = _comparison(name, final, rival, pairs, changes, dataset, config, findings)
        content = json.loads(comparison.model_dump_json(exclude={"report", "fingerprint"}))
        (folder / "comparison.json").write_text(json.dumps(content, indent=2))
    return comparison


def _their_answers(answers: Answers, head: Head, theirs: FeatureSet) -> np.ndarray:
    inputs = JoinedStore(theirs).read(answers.rows["hash"])
    return predict_probabilities(head, torch.from_numpy(inputs)).numpy()


def _paired(
    answers: Answers, theirs: np.ndarray, rival: Rival, changes: Changes, known: Known, dataset: Dataset
) -> Pair:
    near = answers.rows["hash"].isin(known.near).to_numpy()
    keep = ~(near | answers.rows["hash"].isin(known.learned).to_numpy())
    names = [changes.renamed.get(name, name) for name in rival.classes]
    if dataset.multi_label:  # each class is a question of its own
        columns = changes.shared
        targets = aligned(answers.targets, dataset.classes, columns)
    else:
        keep &= answers.rows["label"].isin(changes.shared).to_numpy()
        columns = (*dataset.classes, *changes.gone)
        targets = answers.targets
    rows = answers.rows[keep].reset_index(drop=True)
    ours = aligned(answers.probabilities, dataset.classes, columns)
    theirs = aligned(theirs, names, columns)
    return Pair(
        answers.split, rows, columns, targets[keep], ours[keep], theirs[keep], group_numbers(rows), int((~keep).sum()),
        int(near.sum()),
    )  # fmt: skip


def _report(pair: Pair, dataset: Dataset, config: EvaluateConfig, folder: Path) -> Iterator[str]:
    """Write the files of a split, each named after it; what has to be said is yielded."""
    parts = declared(pair.rows, dataset, config.slices, config.seed)
    changed, slices = pair.changed(), pair.slices(config.seed, parts)
    changed.drop(columns="hash").to_csv(folder / f"{pair.split}_changes.csv", index=False)
    slices.to_csv(folder / f"{pair.split}_slices.csv", index=False, float_format="%.4f")
    shown = pd.concat([changed[changed["change"] == kind].head(SHOWN) for kind in ("gained", "lost")])
    if len(shown):
        images = [small(dataset.image(content), dataset.limits) for content in shown["hash"]]
        captions = [f"{row.change}: {row.label},\n{row.before} before, {row.after} now" for row in shown.itertuples()]
        title = f"{pair.split}: answers that changed"
        mistakes_figure(images, captions, title).savefig(folder / f"{pair.split}_changes.png", dpi=110)
    for row in slices[(slices["p_holm"] < SURE) & (slices["difference"] < 0)].itertuples():
        yield (
            f"{pair.split}: worse on {row.slice}: {row.candidate:.4f} where it was {row.champion:.4f} "
            f"({row.images:,} images, p {row.p_holm:.2g})"
        )


def _comparison(
    name: str, final: Path, rival: Rival, pairs: list[Pair], changes: Changes, dataset: Dataset, config: EvaluateConfig,
    findings: list[str],
) -> Comparison:  # fmt: skip
    left_out, near = ({pair.split: getattr(pair, name) for pair in pairs} for name in ("left_out", "near"))
    pairs = [pair for pair in pairs if len(pair.rows)]
    right = {pair.split: (*pair.right, pair.groups) for pair in pairs}
    return Comparison(
        fingerprint=name,
        report=final,
        version=rival.version,
        judged_on=dataset.choose_on if dataset.choose_on in right else None,
        images={pair.split: len(pair.rows) for pair in pairs},
        left_out=left_out,
        near=near,
        metrics={
            f"{pair.split}/{figure}": astuple(difference)
            for pair in pairs
            for figure, difference in pair.differences(config).items()
        },
        p_values={split: p_value(*answers) for split, answers in right.items()},
        detectable={split: detectable(*answers) for split, answers in right.items()},
        gained={split: int((ours & ~theirs).sum()) for split, (ours, theirs, _) in right.items()},
        lost={split: int((theirs & ~ours).sum()) for split, (ours, theirs, _) in right.items()},
        new=changes.new,
        gone=changes.gone,
        renamed=changes.renamed,
        findings=tuple(findings),
    )
