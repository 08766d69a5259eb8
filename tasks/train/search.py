"""A search for better settings on validation, within a budget of trials and of time."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from tasks.progress import progress, tell
from tasks.target import Kind
from tasks.train.method import NOT_TRIED, Method
from tasks.train.methods import METHODS
from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.train.tuning.method import ThroughBackbone

ENDED = "ended"
"""Attribute of a study whose trials or minutes are used up."""

OVER = (TrialState.COMPLETE, TrialState.PRUNED)

SGD = 30.0
"""How many times as large the rates are that sgd takes, for those that are proposed, which are AdamW's."""


def search(configured: Method, task: Task, served: Callable[[Fit, Task], float] | None = None) -> Fit:
    """The best fit on validation of those that `SearchConfig` allows; its ``trials`` tell of all of them.

    The first trial is the configuration as it is. What is tried then is proposed by a tree-structured Parzen estimator
    (Bergstra et al. 2011); a trial that trains for several epochs ends once it is worse than half of the earlier ones
    were at its epoch (Optuna's median pruner). Killed, a second call with the same task takes up the trial that was at
    work, and tries what an unbroken search would have tried.

    Args:
        served: merit on validation of a training through the backbone as it is served, where its own is of a part of
            that, such as one view of several, and heads on features of all of it compete.
    """
    budget = configured.search
    assert budget is not None
    task = replace(task, compared=bool(set(budget.methods) - {configured.method}))
    task.folder.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * budget.minutes
    best: Fit | None = None
    log = str(task.folder / "trials.log")
    # A killed process may leave the lock, which is held for milliseconds.
    lock = JournalFileSymlinkLock(log, grace_period=4)
    with _quiet(), progress("search", budget.trials, "trial") as advance:
        study = optuna.create_study(
            study_name="search",
            direction="maximize",
            storage=JournalStorage(JournalFileBackend(log, lock)),
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        )
        advance(_count(study))
        while not study.user_attrs.get(ENDED) and (done := _count(study)) < budget.trials:
            if done and time.monotonic() >= ends:
                break
            trial = _next(study, (budget.seed * 100_003 + done) % 2**32)
            fit = _attempt(study, trial, configured, task, ends, served if task.compared else None)
            if study.best_trial.number == trial.number:
                best = fit
            _tidy(study, task, keeps=budget.soup)
            advance(1)
        study.set_user_attr(ENDED, True)  # a kill of what comes after it does not give it its minutes once more
    method = _method_of(study.best_trial)
    if best is None:
        # Of a process that was killed: what a training left behind is found again, a head is solved once more.
        best, _ = _fit(method, task, study.best_trial, ends)
    if budget.soup and len(members := _members(study, task, ends)) > 1:
        from tasks.train.tuning.mixing import greedy_soup  # Lightning takes seconds to import

        best = greedy_soup(members, task)
        method = _method_of(study.best_trial)
    best.method, best.settings, best.trials = method.method, _values(method), table_of(study)
    return best


def _members(study: optuna.Study, task: Task, ends: float) -> list[tuple[str, Callable[[], Fit]]]:
    """Trials through the backbone, the best first, and what reads them; none where a head alone is better."""
    trials = sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda one: -(one.value or 0))
    if not isinstance(_method_of(study.best_trial), ThroughBackbone):
        return []
    those = [trial for trial in trials if isinstance(_method_of(trial), ThroughBackbone)]
    return [
        (f"trial {trial.number + 1}", partial(_fit_again, trial, task, ends))
        for trial in those
        if _folder(task, trial.number).is_dir()
    ]


def _fit_again(trial: optuna.trial.FrozenTrial, task: Task, ends: float) -> Fit:
    """What a trial left behind."""
    return _fit(_method_of(trial), task, trial, ends)[0]


def _count(study: optuna.Study) -> int:
    """How many trials are over."""
    return len(study.get_trials(deepcopy=False, states=OVER))


def _next(study: optuna.Study, seed: int) -> optuna.Trial:
    """The trial that a killed search left, or a new one."""
    # Each has its own seed: with one for all, a search that is taken up would draw what it drew at its beginning.
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return optuna.Trial(study, left[0]._trial_id) if left else study.ask()


def _attempt(
    study: optuna.Study, trial: optuna.Trial, configured: Method, task: Task, ends: float,
    served: Callable[[Fit, Task], float] | None,
) -> Fit | None:  # fmt: skip
    """Carry a trial out; None where an earlier one was the same."""
    method = configured if trial.number == 0 else _drawn(trial, configured, task.aim.kind)
    trial.set_user_attr("method", method.method)
    trial.set_user_attr("settings", method.model_dump_json(exclude=NOT_TRIED, exclude_unset=True))
    told = f"search\ttrial {trial.number + 1}: {method.method}"
    for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if _values(_method_of(other)) == _values(method):
            study.tell(trial, other.value)
            tell(f"{told} {other.value:.4f}, as trial {other.number + 1}")
            return None
    fit, pruned = _fit(method, task, trial, ends)
    score = fit.compared
    if served and fit.backbone is not None and fit.attacked is None and not pruned:
        score = served(fit, replace(task, folder=_folder(task, trial.number)))
    study.tell(trial, None if pruned else score, TrialState.PRUNED if pruned else TrialState.COMPLETE)
    tell(f"{told} {score:.4f}{', ended early' if pruned else ''}")
    return fit


def _method_of(trial: optuna.trial.FrozenTrial) -> Method:
    """The method that a trial tried, with its settings."""
    return METHODS[trial.user_attrs["method"]].model_validate_json(trial.user_attrs["settings"])


def _values(method: Method) -> dict[str, Any]:
    return method.model_dump(exclude=NOT_TRIED)


def _drawn(trial: optuna.Trial, configured: Method, target: Kind) -> Method:
    assert configured.search is not None
    names = configured.search.methods or [configured.method]
    name = trial.suggest_categorical("method", names) if len(names) > 1 else names[0]
    kind = METHODS[name]
    drawn = kind.space(_Named(trial, name))
    if target != "class":
        drawn.pop("balance", None)  # images of several classes, or of none, cannot be balanced by them
    if target == "number":
        drawn.pop("label_smoothing", None)
    shared = configured.shared_with(kind)
    if shared.get("layers"):
        drawn.pop("blocks", None)  # the layers that are named learn instead
    if shared.get("optimiser") == "sgd" and "learning_rate" in drawn:
        drawn["learning_rate"] *= SGD
    return kind.model_validate(shared | drawn)


class _Named:
    """An Optuna trial whose suggestions are the method's own: two methods may have a key of one name."""

    def __init__(self, trial: optuna.Trial, prefix: str) -> None:
        self._trial, self._prefix = trial, prefix

    def __getattr__(self, name: str) -> Any:
        suggest = getattr(self._trial, name)
        return lambda key, *values, **options: suggest(f"{self._prefix}.{key}", *values, **options)


def _fit(method: Method, task: Task, trial: Any, ends: float) -> tuple[Fit, bool]:
    """A trial's fit, and whether it ended early for being worse than others."""
    task = replace(task, folder=_folder(task, trial.number))
    if not isinstance(method, ThroughBackbone):
        return method.fit(task), False
    from tasks.train.tuning.run import tune  # Lightning takes seconds to import
    from tasks.train.tuning.watch import Pruning

    merit = method.compared_by(task.aim.kind)
    # The trial is asked once more, for a training that was over when it was killed hears of no epoch now.
    return tune(method, task, Pruning(trial, merit, ends)), trial.should_prune()


def _folder(task: Task, number: int) -> Path:
    return task.folder / f"trial-{number}"


def _tidy(study: optuna.Study, task: Task, keeps: bool) -> None:
    """Remove the checkpoints of all trials that are over but the best one's or, where they are to be averaged, of those
    that ended early."""
    for trial in study.get_trials(deepcopy=False, states=OVER):
        if trial.number != study.best_trial.number and not (keeps and trial.state == TrialState.COMPLETE):
            shutil.rmtree(_folder(task, trial.number), ignore_errors=True)


def table_of(study: optuna.Study) -> pd.DataFrame:
    """A row for each trial; see `tasks.records` for the columns."""
    rows = []
    for trial in study.get_trials(deepcopy=False, states=OVER):
        reported = trial.intermediate_values
        # What trials are compared by is of what they come to, an average of epochs say, and not of any epoch.
        is_whole = trial.state == TrialState.COMPLETE
        assert trial.datetime_start is not None and trial.datetime_complete is not None
        rows.append({
            "trial": trial.number, "method": trial.user_attrs["method"], "settings": trial.user_attrs["settings"],
            "state": trial.state.name.lower(),
            "score": trial.value if is_whole else max(reported.values(), default=trial.value),
            "epochs": len(reported), "started": trial.datetime_start.timestamp(),
            "ended": trial.datetime_complete.timestamp(),
        })  # fmt: skip
    return pd.DataFrame(rows)


@contextmanager
def _quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
