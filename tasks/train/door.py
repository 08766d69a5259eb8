"""The door of the train stage."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pandas as pd
import torch

from tasks.errors import ConfigurationError
from tasks.extract import tensors
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.fingerprint import code_version, fingerprint
from tasks.records import Candidate, Dataset, FeatureSet, Preprocessed
from tasks.teachers import Teachers
from tasks.train.check import begins_from, check_attack, check_labels, check_pool, check_tasks, check_teacher
from tasks.train.distillation.config import Distillation
from tasks.train.further import check_further, curves_of, fit_further, served_merit, settle_head, tuned_task
from tasks.train.heads import as_numbers, as_probabilities
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.search import search
from tasks.train.solvers import Fit
from tasks.train.targets import kind_of, measured, merit_name
from tasks.train.task import LEARNED, Task, labelled
from tasks.workspace import Workspace, fresh_folder

__all__ = ["labelled", "train_head"]


def train_head(
    config: Method, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, workspace: Workspace,
    teachers: Teachers | None = None,
) -> Candidate:  # fmt: skip
    """Fit a head, and the backbone where the method trains through it, with each of the seeds; the best one on
    validation is kept or, of adapted models, the one whose answers tell most of the target's images. Then each further
    task of the dataset gets a head on the same features (see `tasks.train.further`).

    Args:
        teachers: registered versions that the method learns from, where it names some.

    Raises:
        ConfigurationError: the method is not made for what is to be told of the images, or a further task has too few
            labels.
    """
    check_labels(config, dataset.source, dataset.target.kind)
    check_tasks(config, dataset.targets)
    check_pool(config, dataset)
    check_teacher(config)
    check_attack(config)
    code = code_version(Path(__file__).parent)
    taught = [teachers.fingerprint] if teachers else []
    seen = [features.fingerprint, *_other_views(preprocessed, features)]
    name = fingerprint(code, config.model_dump(), dataset.fingerprint, *seen, *taught)
    checkpoints = workspace.cache / "checkpoints" / name
    weights = workspace.resolve(features.weights)
    whole = Task(dataset, preprocessed, features, weights, checkpoints, teachers=teachers)
    check_further(whole, config)
    if config.reads_pool and dataset.counts.get("pool"):
        asked = ExtractConfig.model_validate(features.extraction)
        extract_features(asked, dataset, begins_from(config, preprocessed), workspace, ("pool",))
    several = preprocessed.geometry["views"] != "one"  # of which trainings look at one
    served = partial(served_merit, workspace=workspace) if several else None
    fits: dict[int, Fit] = {}
    diverged: set[int] = set()
    for seed in config.seeds or [config.seed]:
        task = replace(whole, folder=checkpoints / str(seed), seed=seed)
        fits[seed] = search(config, task, served) if config.search else config.fit(task)
        # One that is cross-validated has learned from the images that choices are made on.
        if not fits[seed].cross_validated and not _finish(fits[seed], config, task, workspace):
            diverged.add(seed)
    seed = max(fits, key=lambda seed: (seed not in diverged, *_preferred(fits[seed], config)))
    best = fits[seed]
    best.scores = {seed: fit.score for seed, fit in fits.items()} if len(fits) > 1 else {}
    # A search within so many minutes may end another way the next time.
    name = fingerprint(name, best.method, best.chosen, best.score)
    further = fit_further(best, config, replace(whole, folder=checkpoints / str(seed), seed=seed), workspace)
    _check_finite(best, further, seed in diverged)
    if best.further:
        best.curves = curves_of(dataset.target.name, best.curves, leads=True)
    candidate = _keep(best, further, config.method, workspace.cache / "candidates" / name, dataset, seen)
    if teachers and issubclass(METHODS[candidate.method], Distillation):
        candidate = candidate.model_copy(update={"teachers": teachers.names})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return candidate


def _other_views(preprocessed: Preprocessed, features: FeatureSet) -> list[str]:
    """The views that a model is served by, where its training begins from the features of others."""
    views = preprocessed.geometry["views"]
    return [] if views == features.geometry.get("views", views) else [views]


def _check_finite(best: Fit, further: dict[str, Fit], diverged: bool) -> None:
    """Raise where weights or answers are no numbers, of which no evaluation could tell anything."""
    heads = (fit.head.state_dict().values() for fit in (best, *further.values()))
    if diverged or not all(tensor.isfinite().all() for tensor in chain.from_iterable(heads)):
        raise ConfigurationError(
            "the training has diverged, its weights or answers are no numbers: lower train.learning_rate, leave "
            "train.clip as it is, or, where numbers are told, look for one that is larger than all others by far"
        )


def _preferred(fit: Fit, config: Method) -> tuple[bool, bool, float]:
    """What seeds are compared by: of adapted models, of which validation images say little, how much their answers tell
    of the target's images, where they have something to do with what the labels taught."""
    if not fit.adapted:
        return False, False, fit.compared
    agreed = fit.chosen.get("agreement", 1.0) >= getattr(config, "least_agreement", 0.0)
    return True, agreed, fit.chosen["information"]


def _finish(fit: Fit, config: Method, task: Task, workspace: Workspace) -> bool:
    """Calibrate a fit and score it by the very features that it is evaluated and served by, so that there is one
    figure of it, whatever the method made its choices by; returns whether its answers are numbers."""
    images = task.validation if fit.backbone is None else tuned_task(fit, task, workspace).validation
    with torch.inference_mode():
        seen = measured("validation", fit.head(images[0]), images[1])
    settle_head(fit, config.calibrate, images)
    if fit.backbone is not None and fit.mixed is None:  # an average is no epoch's
        seen[f"validation/{merit_name(kind_of(images[1]))}"] = fit.score
        fit.curves.loc[fit.curves["step"] == fit.chosen["epoch"], list(seen)] = list(seen.values())
    return math.isfinite(seen["validation/loss"])


def _keep(fit: Fit, further: dict[str, Fit], method: str, final: Path, dataset: Dataset, seen: list[str]) -> Candidate:
    with fresh_folder(final) as folder:
        for suffix, each in {"": fit, **{f"_{name}": other for name, other in further.items()}}.items():
            each.head.save(folder / f"head{suffix}.safetensors")
            curves = each.curves.rename(columns=lambda column: column.replace("validation/", f"{dataset.choose_on}/"))
            curves.to_parquet(folder / f"curves{suffix}.parquet", index=False)
        if fit.backbone is not None:
            fit.backbone.save(folder / "backbone.safetensors")
        tables = {"rates": fit.rates, "trials": fit.trials, "mixed": fit.mixed, "held_out": _held_out(fit, dataset)}
        for name, table in tables.items():
            if table is not None:
                table.to_parquet(folder / f"{name}.parquet", index=False)
    contents = [tensors.name(path) for path in sorted(final.glob("*.safetensors"))]
    there = {path.stem: path for path in final.iterdir()}
    return Candidate(
        fingerprint=fingerprint(dataset.version, *seen, *contents),
        method=fit.method or method,
        head=there["head"],
        further={name: there[f"head_{name}"] for name in further},
        backbone=there.get("backbone"),
        curves=there["curves"],
        rates=there.get("rates"),
        trials=there.get("trials"),
        mixed=there.get("mixed"),
        held_out=there.get("held_out"),
        chosen=fit.chosen
        | {f"{name}/{key}": value for name, each in further.items() for key, value in each.chosen.items()},
        score=fit.score,
        scores=fit.scores,
        cross_validated=fit.cross_validated,
    )


def _held_out(fit: Fit, dataset: Dataset) -> pd.DataFrame | None:
    """What heads of a cross-validation gave the images that they had not learned from; or what the one that is served
    on another domain gave validation images as images of their own."""
    manifest = dataset.read_manifest()
    if fit.validated is not None:
        given = (fit.validated / fit.head.temperature).softmax(1).numpy()
        chosen_on = manifest.loc[manifest["split"] == dataset.choose_on, "path"]
        return pd.DataFrame({"path": chosen_on.to_numpy(), "probability": list(given)})
    if fit.held_out is None:
        return None
    paths = manifest.loc[manifest["split"].isin(LEARNED), "path"].to_numpy()
    known = ~fit.held_out.isnan().any(1).numpy()
    if fit.head.number:
        return pd.DataFrame({"path": paths[known], "value": as_numbers(fit.held_out)[0].numpy()[known]})
    probabilities = as_probabilities(fit.held_out, fit.head.multi_label).numpy()
    return pd.DataFrame({"path": paths[known], "probability": list(probabilities[known])})
