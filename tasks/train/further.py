"""Heads of further tasks: what is to be told of an image beside the leading task, from the same features."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch

from tasks.errors import ConfigurationError
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.progress import tell
from tasks.records import Split
from tasks.target import Kind, Target
from tasks.train.calibration import calibrate, temperature
from tasks.train.check import searched, suited_to
from tasks.train.heads import predict_probabilities
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.methods.linear import Linear
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, merit, merit_name
from tasks.train.task import LEARNED, Task
from tasks.train.tuning.config import TuningConfig
from tasks.workspace import Workspace

FEWEST = 2
"""Images with a label of a task that it is learned from, at least."""


LEARNED_FROM: tuple[Split, ...] = ("train", "tune", "val", "partial")
"""Splits that further tasks are learned from, and choose on."""


def check_further(task: Task, config: Method) -> None:
    """Whether there are labels enough of each further task of the dataset, before anything takes time.

    Raises:
        ConfigurationError: there are not.
    """
    tried = (config, *searched(config))
    for target in task.dataset.further:
        alone = task.on(target)
        folds = alone.is_cross_validated and all(_cross_validates(method, target.kind) for method in tried)
        learned = alone.rows(*(LEARNED if folds else ("train",)))
        if len(learned) < FEWEST:
            raise ConfigurationError(
                f"the task {target.name!r} has {len(learned)} labelled images to learn from, and {FEWEST} are the "
                "least: label more, or leave it out of ingest.source.label"
            )
        if folds and not _tells_by_folds(learned[target.column], alone):
            few = "every class has a single image or group" if target.kind == "class" else "there is a single group"
            raise ConfigurationError(
                f"of the task {target.name!r}, {few} to learn from, and none can be left out to choose by: label more, "
                "or leave it out of ingest.source.label"
            )
        if not folds and alone.rows(task.dataset.choose_on).empty:
            raise ConfigurationError(
                f"the task {target.name!r} has no labelled images in the split {task.dataset.choose_on!r}, on which "
                "choices are made: label some there, or leave it out of ingest.source.label"
            )


def _tells_by_folds(labels: pd.Series, task: Task) -> bool:
    """Whether there are images, or groups of them, to be left out and others to be learned from; where an image has
    one class, of some class."""
    units = pd.Series(range(len(labels)) if task.groups is None else task.groups, index=labels.index)
    return int(units.groupby(labels).nunique().max() if task.aim.kind == "class" else units.nunique()) > 1


def _cross_validates(method: Method, kind: Kind) -> bool:
    """Whether what a further task of this kind gets needs no images to choose on."""
    if getattr(method, "tasks", None) is not None:
        return False
    return isinstance(method, TuningConfig) or suited_to(method, kind).cross_validates


def fit_further(best: Fit, config: Method, task: Task, workspace: Workspace) -> dict[str, Fit]:
    """A fit for each further task of the dataset, by its name: by the method of the leading one as far as it suits
    (`tasks.train.check.suited_to`) or, where that has tuned the backbone, a linear head on what it sees now; where they
    were learned at once with it, what came of that.

    Args:
        best: of the leading task.
    """
    if not task.dataset.further:
        return {}
    if best.further:
        if best.backbone is not None:
            task = tuned_task(best, task, workspace)
        return {target.name: _learned_at_once(best, config, task.on(target), target) for target in task.dataset.further}
    method = METHODS[best.method].model_validate(best.settings) if best.method else config
    if best.backbone is not None:
        task, method = tuned_task(best, task, workspace, LEARNED_FROM), Linear(calibrate=config.calibrate)
    return {target.name: _fitted(method, task.on(target), target) for target in task.dataset.further}


def _fitted(method: Method, task: Task, target: Target) -> Fit:
    suited = suited_to(method, target.kind)
    fit = suited.fit(task)
    if not fit.cross_validated:
        settle_head(fit, suited.calibrate, task.validation)
    _tell(target, suited.method, fit)
    return fit


def _learned_at_once(best: Fit, config: Method, task: Task, target: Target) -> Fit:
    """What came of a further task that was learned at once with the leading one."""
    fit = Fit(best.further[target.name], 0.0, {}, curves_of(target.name, best.curves))
    settle_head(fit, config.calibrate, task.validation)
    _tell(target, config.method, fit)
    return fit


def curves_of(name: str, curves: pd.DataFrame, leads: bool = False) -> pd.DataFrame:
    """Of a training of several tasks at once, what was measured of one: ``weight/NAME`` as ``weight`` and, unless it
    leads and has the plain columns, ``validation/NAME/loss`` as ``validation/loss``."""
    names = {f"weight/{name}": "weight"}
    for column in map(str, curves):
        first, *rest = column.split("/")
        if leads and first != "weight" and len(rest) < 2:
            names[column] = column
        elif not leads and rest[:-1] == [name]:
            names[column] = f"{first}/{rest[-1]}"
    return curves[list(dict.fromkeys(["step", *names]))].rename(columns=names)


def _tell(target: Target, method: str, fit: Fit) -> None:
    merit = merit_name(target.kind).replace("_", " ")
    tell(f"train\t{target.name}: {method}, validation {merit} {fit.score:.4f}")


def settle_head(fit: Fit, calibrated: bool, images: Labelled) -> None:
    """Calibrate a fitted head on images that it has not learned from, if it is to be, and score it by them.

    A head that is served on another domain is calibrated by what it answers where both know their own domain's
    statistics; a network, of which that is not known, is not.
    """
    features, targets = images
    if fit.validated is not None:
        if calibrated:
            fit.head.temperature.mul_(temperature(fit.validated, targets))
        fit.score = merit(fit.validated, targets)
        return
    if calibrated and not fit.adapted:
        calibrate(fit.head, images)
    with torch.inference_mode():
        answers = fit.head(features) if fit.head.number else predict_probabilities(fit.head, features)
    fit.score = merit(answers, targets)


def served_merit(fit: Fit, task: Task, workspace: Workspace) -> float:
    """The merit on validation of a tuned backbone by the features that it is served by, of all views of an image."""
    features, targets = tuned_task(fit, task, workspace).validation
    with torch.inference_mode():
        return merit(fit.head(features), targets)


def tuned_task(fit: Fit, task: Task, workspace: Workspace, splits: tuple[Split, ...] = ()) -> Task:
    """The same task on features of the tuned backbone, of some splits; where they are evaluated, too, they are found in
    the store.

    Args:
        splits: by default the one that choices are made on.
    """
    assert fit.backbone is not None
    task.folder.mkdir(parents=True, exist_ok=True)
    fit.backbone.save(path := task.folder / "tuned.safetensors")
    config = ExtractConfig.model_validate(task.features.extraction | {"weights": str(path)})
    wanted = splits or (task.dataset.choose_on,)
    features = extract_features(config, task.dataset, task.preprocessed, workspace, wanted)
    return replace(task, features=features, weights_file=path, known={})
