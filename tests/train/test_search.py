"""A search tries the configuration first, keeps to its budget, and ends the same way, killed in between or not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter

from tasks.errors import ConfigurationError
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.progress import watched_by
from tasks.train.anytime.trial import try_method
from tasks.train.check import begins_from, check_labels
from tasks.train.config import TrainConfig
from tasks.train.door import train_head
from tasks.train.heads import Head
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.methods.full import Full
from tasks.train.methods.linear import Linear
from tasks.train.methods.lp_ft import LpFt
from tasks.train.methods.mlp import Mlp
from tasks.train.methods.partial import Partial
from tasks.train.methods.ridge import Ridge
from tasks.train.search import _drawn, search
from tasks.train.solvers import Fit
from tasks.train.tuning.watch import Pruning
from tasks.workspace import Workspace
from tests.train.prepared import Prepared

QUICK = {"blocks": 1, "augment": "none", "batch_norm": "frozen", "precision": "fp32", "batch_size": 16}
COLUMNS = ["trial", "method", "settings", "state", "score", "epochs", "started", "ended"]


class Killed(BaseException):
    """What ends a process ends no trial."""


def mlp(**search: Any) -> Mlp:
    return Mlp(epochs=2, hidden=8, search=search)


def trials(fit: Fit) -> pd.DataFrame:
    """The table without the times."""
    assert fit.trials is not None and fit.trials.columns.tolist() == COLUMNS
    assert (fit.trials["started"] <= fit.trials["ended"]).all()
    return fit.trials.drop(columns=["started", "ended"])


def settings(fit: Fit) -> list[dict[str, Any]]:
    return [json.loads(text) for text in trials(fit)["settings"]]


def assert_same(first: Fit, second: Fit) -> None:
    pd.testing.assert_frame_equal(trials(first), trials(second))
    pd.testing.assert_frame_equal(first.curves, second.curves)
    assert (first.score, first.method, first.chosen) == (second.score, second.method, second.chosen)
    for part in (lambda fit: fit.head.state_dict(), lambda fit: fit.backbone.state if fit.backbone else {}):
        assert all(torch.equal(*pair) for pair in zip(part(first).values(), part(second).values(), strict=True))


def test_the_first_trial_is_the_configuration_and_the_best_of_all_is_kept(digits: Prepared, tmp_path: Path) -> None:
    watcher = Mock()
    with watched_by(watcher):
        fit = search(mlp(trials=5), digits.task(tmp_path))
    table, tried = trials(fit), settings(fit)
    assert table["trial"].tolist() == [0, 1, 2, 3, 4] and set(table["state"]) == {"complete"}
    assert tried[0] == {"epochs": 2, "hidden": 8}
    assert all(one["epochs"] == 2 and one.keys() >= {"hidden", "learning_rate", "weight_decay"} for one in tried[1:])
    assert len({one["learning_rate"] for one in tried[1:]}) == 4
    assert fit.score == table["score"].max() > table["score"][0]
    best = Mlp.model_validate(tried[int(table["score"].argmax())]).fit(digits.task(tmp_path))
    assert torch.equal(best.head.layers[0].weight, fit.head.layers[0].weight) and best.score == fit.score
    told = [call.args[0] for call in watcher.tell.call_args_list]
    assert told == [f"search\ttrial {row.trial + 1}: mlp {row.score:.4f}" for row in table.itertuples()]


def test_another_seed_of_the_search_tries_something_else(few: Prepared, tmp_path: Path) -> None:
    fits = [
        search(mlp(trials=2, seed=seed), few.task(tmp_path / f"{name}")) for name, seed in enumerate((0, 0, 20_240_613))
    ]
    tried = [settings(fit)[1] for fit in fits]
    assert tried[0] == tried[1] != tried[2]


def test_no_trial_begins_when_the_time_is_up(few: Prepared, tmp_path: Path) -> None:
    fit = search(mlp(trials=50, minutes=1e-9), few.task(tmp_path))
    assert len(trials(fit)) == 1


def test_a_search_that_was_over_is_over_when_what_came_after_it_was_killed(few: Prepared, tmp_path: Path) -> None:
    first = search(mlp(trials=50, minutes=1e-9), few.task(tmp_path))
    assert_same(search(mlp(trials=50, minutes=60), few.task(tmp_path)), first)


def test_the_table_has_what_trials_were_compared_by_where_weights_are_averaged(few: Prepared, tmp_path: Path) -> None:
    method = Partial(epochs=2, wise_ft=True, search={"trials": 3}, **QUICK | {"learning_rate": 0.05, "clip": 0.0})
    watcher = Mock()
    with watched_by(watcher):
        fit = search(method, few.task(tmp_path))
    told = [call.args[0].split("partial ")[1] for call in watcher.tell.call_args_list if "trial" in call.args[0]]
    whole = trials(fit)[trials(fit)["state"] == "complete"]
    assert whole["score"].max() == fit.score
    assert [f"{row.score:.4f}" for row in whole.itertuples()] == [each for each in told if "early" not in each]


def test_trials_are_compared_by_all_views_where_heads_see_all_of_them(few: Prepared, tmp_path: Path) -> None:
    """A training that changes nothing is as good as the head that it began from."""
    (workspace := Workspace(tmp_path / "ten")).root.mkdir()
    preprocessed = preview_recipe(PreprocessConfig(views="ten"), few.dataset, workspace)
    features = extract_features(
        ExtractConfig.model_validate(few.features.extraction), few.dataset, preprocessed, workspace
    )
    frozen = train_head(Linear(), few.dataset, preprocessed, features, workspace).score
    search = {"trials": 1, "methods": ["partial", "linear"]}
    method = Partial(epochs=1, search=search, head="probe", **QUICK | {"learning_rate": 1e-12})
    candidate = train_head(method, few.dataset, preprocessed, features, workspace)
    assert candidate.trials is not None
    assert pd.read_parquet(candidate.trials)["score"].tolist() == [candidate.score] == [frozen]
    alone = Partial(epochs=1, head="probe", **QUICK | {"learning_rate": 1e-12})
    trial = try_method(alone, few.dataset, preprocessed, features, 10_000, 10_000, workspace)
    assert trial.score == trial.frozen != frozen  # both by one view


@pytest.mark.parametrize(
    ("section", "tunes"),
    [
        ({"method": "linear"}, False),
        ({"method": "lp_ft"}, True),
        ({"method": "lp_ft", "search": {"methods": ["lp_ft", "full"]}}, True),
        ({"method": "lp_ft", "search": {"methods": ["lp_ft", "linear"]}}, False),
        ({"method": "linear", "search": {"methods": ["lp_ft"]}}, False),
        ({"method": "adapt_tuned"}, False),  # which may keep the plain network
    ],
    ids=["head", "tuned", "tuned, tuned", "tuned, head", "head, tuned", "adapted"],
)
def test_a_training_through_the_backbone_begins_from_features_of_one_view(
    few: Prepared, section: dict[str, Any], tunes: bool
) -> None:
    ten = few.preprocessed.model_copy(update={"views": "ten"})
    begun = begins_from(TypeAdapter(TrainConfig).validate_python(section), ten)
    assert begun == (ten.by_one_view if tunes else ten) and begun.views == ("one" if tunes else "ten")


def test_a_training_ends_with_its_epoch_when_the_time_is_up_and_is_found_again_as_it_was(
    few: Prepared, tmp_path: Path
) -> None:
    method = Partial(epochs=5, search={"minutes": 1e-9}, **QUICK)
    fit = search(method, few.task(tmp_path))
    assert trials(fit).loc[0, ["state", "epochs", "score"]].tolist() == ["complete", 1, fit.score]
    assert_same(search(method, few.task(tmp_path)), fit)


def test_several_methods_are_tried_and_none_twice_with_the_same_settings(few: Prepared, tmp_path: Path) -> None:
    watcher = Mock()
    method = Mlp(epochs=2, search={"trials": 12, "methods": ["mlp", "linear", "ridge"]})
    with watched_by(watcher):
        fit = search(method, few.task(tmp_path))
    table, tried = trials(fit), settings(fit)
    assert set(table["method"]) == {"mlp", "linear", "ridge"} and fit.method == table["method"][table["score"].argmax()]
    assert all(
        one.keys() <= METHODS[name].model_fields.keys() for name, one in zip(table["method"], tried, strict=True)
    )
    repeated = table.duplicated(["method", "settings"])
    told = [call.args[0] for call in watcher.tell.call_args_list]
    assert [", as trial " in line for line in told] == repeated.tolist() and repeated.any()
    assert (table.groupby(["method", "settings"])["score"].nunique() == 1).all()


def test_among_several_methods_linear_is_chosen_on_the_same_images_as_the_others(few: Prepared, tmp_path: Path) -> None:
    rows = few.dataset.read_manifest()
    ready = few.with_rows(rows.replace({"split": {"val": "tune"}}), tmp_path, choose_on="tune")
    assert ready.task(tmp_path).is_cross_validated
    alone = search(Linear(search={"trials": 1}), ready.task(tmp_path / "alone"))
    among = search(Linear(search={"trials": 1, "methods": ["linear", "mlp"]}), ready.task(tmp_path / "among"))
    assert alone.cross_validated and not among.cross_validated
    assert among.score == Linear().fit(few.task(tmp_path)).score
    other = Linear().fit(ready.task(tmp_path, seed=1))  # the folds follow the seed
    assert not other.curves.equals(alone.curves)


def test_where_so_many_images_of_a_class_are_to_be_learned_from_those_of_choices_are_not(
    few: Prepared, tmp_path: Path
) -> None:
    rows = few.dataset.read_manifest().replace({"split": {"val": "tune"}})
    later = (rows["split"] == "train") & (rows.groupby(["split", "label"]).cumcount() >= 5)
    shots = rows.assign(split=rows["split"].mask(later, "pool"))
    ready = few.with_rows(shots, tmp_path, choose_on="tune")
    assert not ready.task(tmp_path).is_cross_validated
    unlabelled = shots.assign(label=shots["label"].mask(later, None))
    (other := tmp_path / "unlabelled").mkdir()
    assert few.with_rows(unlabelled, other, choose_on="tune").task(tmp_path).is_cross_validated


def test_a_soup_of_trials_needs_networks_that_are_trained() -> None:
    section = {"method": "mlp", "search": {"soup": True}}
    with pytest.raises(ConfigurationError, match=r"train\.search\.soup averages .* none is tried"):
        check_labels(TypeAdapter(TrainConfig).validate_python(section), "photos", "class")
    section["search"] = {"soup": True, "methods": ["lp_ft"]}
    check_labels(TypeAdapter(TrainConfig).validate_python(section), "photos", "class")


def test_keys_that_mean_something_else_in_another_method_stay_behind() -> None:
    configured = Partial(seed=3, epochs=9, blocks=2, head="zero", optimiser="sgd", learning_rate=0.1, calibrate=False)
    shared = {"seed": 3, "epochs": 9, "optimiser": "sgd", "learning_rate": 0.1, "calibrate": False}
    assert configured.shared_with(Partial) == shared | {"blocks": 2, "head": "zero"}
    assert configured.shared_with(Full) == configured.shared_with(LpFt) == shared
    assert configured.shared_with(Mlp) == {"seed": 3, "calibrate": False}
    assert Mlp(balance="sampling", seed=1).shared_with(Linear) == {"seed": 1}


def test_what_a_method_cannot_take_is_told_before_the_first_trial() -> None:
    config = LpFt(wise_ft=True, search={"methods": ["lp_ft", "full"]})
    with pytest.raises(ConfigurationError, match=r"^full \(train.search.methods\) cannot take .* lp_ft: wise_ft .*"):
        check_labels(config, "photos", "class")
    check_labels(config.model_copy(update={"wise_ft": False}), "photos", "class")


def test_tasks_are_learned_at_once_by_all_methods_that_can() -> None:
    for one, other in ((Mlp(tasks={"weights": "gradnorm"}), LpFt), (LpFt(tasks={"weights": "equal"}), Mlp)):
        assert one.tasks is not None
        assert one.shared_with(other)["tasks"] == {"weights": one.tasks.weights}  # type: ignore[type-abstract]
    assert "tasks" not in Mlp(tasks={}).shared_with(Linear)


def test_rates_that_are_proposed_to_sgd_are_its_own() -> None:
    trial = optuna.create_study().ask()
    drawn = _drawn(trial, LpFt(optimiser="sgd", learning_rate=0.015, search={}), "class")
    assert isinstance(drawn, LpFt) and drawn.optimiser == "sgd"
    assert drawn.learning_rate == pytest.approx(30 * trial.params["lp_ft.learning_rate"])


def test_images_of_several_classes_are_not_balanced(shapes: Prepared, tmp_path: Path) -> None:
    fit = search(Linear(search={"trials": 4}), shapes.task(tmp_path))
    assert settings(fit) == [{}] * 4 and trials(fit)["score"].nunique() == 1


def test_a_method_that_does_not_exist_is_one_error() -> None:
    with pytest.raises(ValueError, match=r"search\.methods\n.*there is no method 'mpl'; did you mean 'mlp'\?"):
        TypeAdapter(TrainConfig).validate_python({"search": {"methods": ["linear", "mpl"]}})


@pytest.mark.slow
def test_a_training_that_is_worse_than_others_ends_early(few: Prepared, tmp_path: Path) -> None:
    fit = search(Partial(epochs=2, search={"trials": 9}, **QUICK | {"batch_norm": "update"}), few.task(tmp_path))
    table = trials(fit)
    ended = table[table["state"] == "pruned"]
    assert len(ended) and (ended["trial"] >= 4).all() and (ended["epochs"] == 1).any()
    assert set(table["state"]) == {"complete", "pruned"} and fit.score == table["score"].max()
    assert (table["epochs"][table["state"] == "complete"] == 2).all()
    assert {path.name for path in tmp_path.glob("trial-*")} == {f"trial-{table['score'].argmax()}"}


def killed_at(number: int, kind: type, name: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have the n-th call of a method from now on end the process."""
    whole, calls = getattr(kind, name), []

    def dying(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == number:
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(kind, name, dying)
    return monkeypatch


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_ends_as_an_unbroken_one(
    number: int, few: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = mlp(trials=10, methods=["mlp", "ridge"])
    unbroken = search(method, few.task(tmp_path / "unbroken"))
    fitted: list[Method] = []
    for kind in (Mlp, Ridge):
        whole = kind.fit
        monkeypatch.setattr(kind, "fit", lambda self, task, whole=whole: fitted.append(self) or whole(self, task))
    with monkeypatch.context() as context, pytest.raises(Killed):
        killed_at(number, Mlp, "fit", context)
        search(method, few.task(tmp_path / "broken"))
    broken = search(method, few.task(tmp_path / "broken"))
    assert_same(broken, unbroken)
    distinct = len(trials(unbroken).drop_duplicates(["method", "settings"]))
    # The best one may have to be solved once more.
    assert distinct <= len(fitted) <= distinct + 1
    assert_same(search(method, few.task(tmp_path / "broken")), unbroken)


@pytest.mark.slow
def test_a_lock_that_a_killed_search_left_is_taken_away(few: Prepared, tmp_path: Path) -> None:
    unbroken = search(mlp(trials=1), few.task(tmp_path))
    (tmp_path / "trials.log.lock").symlink_to("trials.log")
    started = time.monotonic()
    assert_same(search(mlp(trials=1), few.task(tmp_path)), unbroken)
    assert time.monotonic() - started < 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4])
def test_a_training_that_was_killed_goes_on_within_its_trial(
    number: int, few: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Partial(epochs=2, search={"trials": 3}, **QUICK)
    unbroken = search(method, few.task(tmp_path / "unbroken"))
    with monkeypatch.context() as context, pytest.raises(Killed):
        killed_at(number, Pruning, "on_validation_end", context)
        search(method, few.task(tmp_path / "broken"))
    watcher = Mock()
    with watched_by(watcher):
        broken = search(method, few.task(tmp_path / "broken"))
    assert any("goes on after epoch 1" in call.args[0] for call in watcher.tell.call_args_list)
    assert_same(broken, unbroken)


def test_the_stage_keeps_the_table_and_the_method_that_was_best(digits: Prepared, tmp_path: Path) -> None:
    candidate = digits.train(mlp(trials=3, methods=["linear", "mlp"]), tmp_path)
    table = pd.read_parquet(candidate.trials)
    assert table.columns.tolist() == COLUMNS and len(table) == 3
    assert candidate.method == "linear" and candidate.score == table["score"].max()
    head = Head.load(candidate.head)
    assert head.kind == "linear" and head.temperature != 1
    assert not list((tmp_path / ".headstart" / "checkpoints").iterdir())
