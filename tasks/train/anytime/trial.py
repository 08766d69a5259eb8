"""A method tried on a part of the training images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from tasks.choice import Trial
from tasks.fingerprint import code_version, fingerprint
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.train.method import Method
from tasks.train.solvers import Fit, fit_linear
from tasks.train.targets import merit_name
from tasks.train.task import Task
from tasks.train.tuning.config import TuningConfig
from tasks.workspace import Workspace, write_whole


def try_method(
    method: Method, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, images: int, judged: int,
    workspace: Workspace,
) -> Trial:  # fmt: skip
    """Fit a method to so many of the training images, and judge it by so many of those that choices are made on.

    Which ones follows from their content, so that a larger part contains a smaller one. Killed, a second call with the
    same arguments goes on with the training that was at work.
    """
    part = part_of(dataset, images, judged, workspace)
    code = code_version(Path(__file__).parents[1])
    name = fingerprint(code, method.model_dump(), part.fingerprint, features.fingerprint)
    folder = workspace.cache / "checkpoints" / name
    weights = workspace.resolve(features.weights)
    task = Task(part, preprocessed, features, weights, folder, method.seed, compared=True)
    fit = method.fit(task)
    frozen = fit.score
    if isinstance(method, TuningConfig):  # the probe that it began from is known already
        probe = task.once(("probe", "none"), lambda: fit_linear(task.plain, task.validation, task.classes))
        frozen = probe.score if preprocessed.geometry["views"] == "one" else _by_one_view(probe, task)
    curve = fit.curves.get(f"validation/{merit_name(dataset.target.kind)}")
    shutil.rmtree(folder, ignore_errors=True)
    return Trial(
        fingerprint=name, method=method.method, score=fit.score, frozen=frozen, images=part.counts["train"],
        judged=part.counts[dataset.choose_on], curve=() if curve is None else tuple(curve),
        seen=int(fit.curves["images"].iloc[-1]) if "images" in fit.curves else 0,
    )  # fmt: skip


def _by_one_view(probe: Fit, task: Task) -> float:
    """The merit of a head on frozen features of one view of an image, which is what trainings are judged by."""
    from tasks.train.tuning.mixing import Judge, Mixture  # Lightning takes seconds to import

    judge = Judge(task, probe.head)
    return judge(Mixture(task.network()[0].state_dict(), probe.head.state_dict()))[judge.merit]


def part_of(dataset: Dataset, images: int, judged: int, workspace: Workspace) -> Dataset:
    """A dataset of some of the training images and some of those that choices are made on; nothing else of it is in
    reach."""
    manifest = dataset.read_manifest()
    kept = [_first(manifest, split, count) for split, count in (("train", images), (dataset.choose_on, judged))]
    rows = pd.concat(kept).sort_values("path", ignore_index=True)
    name = fingerprint(dataset.fingerprint, "part", *map(len, kept))
    path = workspace.cache / "samples" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, rows.to_parquet())
    counts = rows["split"].value_counts().to_dict()
    return dataset.model_copy(update={"fingerprint": name, "manifest": path, "counts": counts})


def _first(manifest: pd.DataFrame, split: str, count: int) -> pd.DataFrame:
    """So many images of a split, in the order of their content's hash, which says nothing of what they show."""
    return manifest[manifest["split"] == split].sort_values("hash", kind="stable").head(count)
