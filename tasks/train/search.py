"""A search for better settings on validation, within a budget of trials and of time."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tasks.errors import ConfigurationError
from tasks.progress import progress, tell
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.solvers import Fit
from tasks.train.targets import merit_name
from tasks.train.task import Task
from tasks.train.tuning.method import ThroughBackbone

OVER = (TrialState.COMPLETE, TrialState.PRUNED)


def search(configured: Method, task: Task) -> Fit:
    """The best fit on validation of those that `SearchConfig` allows; its ``trials`` tell of all of them.

    The first trial is the configuration as it is. What is tried then is proposed by a tree-structured Parzen estimator
    (Bergstra et al. 2011); a trial that trains for several epochs ends once it is worse than half of the earlier ones
    were at its epoch (Optuna's median pruner). Killed, a second call with the same task goes on after the last trial
    that was over.

    Raises:
        ConfigurationError: a method that is named does not exist.
    """
    budget = configured.search
    assert budget is not None
    names = budget.methods or [configured.method]
    for name in names:
        if name not in METHODS:
            raise ConfigurationError(f"train.search.methods: there is no method {name!r}; known: {', '.join(METHODS)}")
    task.folder.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * budget.minutes
    with _quiet(), progress("search", budget.trials, "trial") as advance:
        study = optuna.create_study(
            study_name="search",
            direction="maximize",
            storage=JournalStorage(JournalFileBackend(str(task.folder / "trials.log"))),
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=budget.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        )

        def attempt(trial: optuna.Trial) -> float:
            first = not study.get_trials(deepcopy=False, states=OVER)
            method = configured if first else _drawn(trial, configured, names)
            trial.set_user_attr("method", method.method)
            trial.set_user_attr("settings", method.model_dump_json(exclude={"search", "seeds"}, exclude_unset=True))
            fit, pruned = _fit(method, task, trial, ends)
            tell(
                f"search\ttrial {trial.number + 1}: {method.method} {fit.score:.4f}{', ended early' if pruned else ''}"
            )
            if pruned:
                raise optuna.TrialPruned
            return fit.score

        def over(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            advance(1)
            for other in study.get_trials(deepcopy=False, states=OVER):
                if other.number != study.best_trial.number:
                    shutil.rmtree(_folder(task, other.number), ignore_errors=True)
            if time.monotonic() >= ends:
                study.stop()

        done = len(study.get_trials(deepcopy=False, states=OVER))
        advance(done)
        if done < budget.trials:
            study.optimize(attempt, n_trials=budget.trials - done, callbacks=[over])
        best = study.best_trial
        settings = json.loads(best.user_attrs["settings"]) | {"method": best.user_attrs["method"]}
        # What a training left behind is found again; a head is solved once more.
        fit, _ = _fit(METHODS[settings["method"]].model_validate(settings), task, best, float("inf"))
    fit.method, fit.trials = settings["method"], table_of(study)
    return fit


def _drawn(trial: optuna.Trial, configured: Method, names: list[str]) -> Method:
    name = trial.suggest_categorical("method", names) if len(names) > 1 else names[0]
    kind = METHODS[name]
    shared = {
        key: value
        for key, value in configured.model_dump(exclude={"method", "search"}, exclude_unset=True).items()
        if key in kind.model_fields
    }
    if "head" in kind.model_fields:
        shared.pop("head", None)
    return kind.model_validate(shared | kind.space(_Named(trial, name)))


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

    pruning = Pruning(trial, f"validation/{merit_name(task.dataset.multi_label)}", ends)
    return tune(method, task, pruning), pruning.pruned


def _folder(task: Task, number: int) -> Path:
    return task.folder / f"trial-{number}"


def table_of(study: optuna.Study) -> pd.DataFrame:
    """A row for each trial; see `tasks.records` for the columns."""
    rows = []
    for trial in study.trials:
        reported = trial.intermediate_values
        score = trial.value if trial.value is not None else max(reported.values(), default=float("nan"))
        rows.append({
            "trial": trial.number, "method": trial.user_attrs.get("method", ""),
            "settings": trial.user_attrs.get("settings", json.dumps({})), "state": trial.state.name.lower(),
            "score": score, "epochs": len(reported),
            "started": trial.datetime_start.timestamp() if trial.datetime_start else float("nan"),
            "ended": trial.datetime_complete.timestamp() if trial.datetime_complete else float("nan"),
        })  # fmt: skip
    return pd.DataFrame(rows)


@contextmanager
def _quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
