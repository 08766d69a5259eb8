"""Averages of weights, held against their definitions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from tasks.train.heads import Head
from tasks.train.methods.full import Full
from tasks.train.methods.lp_ft import LpFt
from tasks.train.solvers import Fit, fit_linear
from tasks.train.task import Task
from tasks.train.tuning.kept import fit_of
from tasks.train.tuning.mixing import SHARES, Judge, Mixture, between, greedy_soup, mixed_with_frozen
from tasks.train.tuning.run import tune
from tests.train.prepared import Prepared

METHOD = LpFt(epochs=3, batch_size=16, augment="none", learning_rate=3e-3, soup=True, precision="fp32")


@pytest.fixture(scope="module")
def task(few: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Eighty digits that a network was tuned on for three epochs, all of which were kept."""
    task = few.task(tmp_path_factory.mktemp("tuned"))
    tune(METHOD, task)
    return task


def epochs(task: Task) -> list[Fit]:
    return [fit_of(task, epoch) for epoch in (1, 2, 3)]


def mean(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {
        key: torch.stack([state[key] for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for key, tensor in states[0].items()
    }


def assert_alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(tensor, other[key], rtol=1e-4, atol=1e-5)


def test_a_state_between_two_is_their_weighted_mean_and_what_counts_is_the_ends() -> None:
    start = {"weight": torch.tensor([0.0, 2.0]), "count": torch.tensor(1)}
    end = {"weight": torch.tensor([1.0, 0.0]), "count": torch.tensor(5), "new": torch.tensor([3.0])}
    found = between(start, end, 0.25)
    assert found["weight"].tolist() == [0.25, 1.5] and found["count"] == 5 and found["new"].tolist() == [3.0]


def test_mixing_with_the_frozen_weights_tries_every_share_and_keeps_the_best(task: Task) -> None:
    fit = fit_of(task)
    probe = fit_linear(task.plain, task.validation, task.classes).head
    mixed = mixed_with_frozen(fit, task, probe)
    judge = Judge(task, fit.head)
    table = mixed.mixed
    assert table is not None and table["share"].tolist() == list(SHARES) and table["kept"].sum() == 1
    merits = table["validation/accuracy"]
    # At the ends are the probe on frozen features and the training as it was.
    frozen = (probe(task.validation[0]).argmax(1) == task.validation[1]).double().mean().item()
    assert merits.iloc[0] == pytest.approx(frozen, abs=0.02) and merits.iloc[-1] == fit.score
    share = mixed.chosen["share"]
    assert merits[table["kept"]].item() == merits.max() == mixed.score >= fit.score
    start, end = task.network()[0].state_dict(), fit.backbone.state  # type: ignore[union-attr]
    wanted = {
        key: (1 - share) * start[key] + share * tensor if tensor.is_floating_point() else tensor
        for key, tensor in end.items()
    }
    assert_alike(mixed.backbone.state, wanted)  # type: ignore[union-attr]
    assert judge(Mixture.of(mixed))["validation/accuracy"] == mixed.score


def test_a_greedy_soup_is_the_mean_of_those_that_did_not_make_it_worse(task: Task) -> None:
    ranked = sorted(range(3), key=lambda place: -epochs(task)[place].curves["validation/accuracy"][place])
    members = [(f"epoch {place + 1}", partial(fit_of, task, place + 1)) for place in ranked]
    soup = greedy_soup(members, task)
    assert soup.mixed is not None and soup.mixed["mixed"].tolist() == [name for name, _ in members]
    judge = Judge(task, soup.head)
    chosen, score = [ranked[0]], judge(Mixture.of(epochs(task)[ranked[0]]))["validation/accuracy"]
    for place in ranked[1:]:
        those = [Mixture.of(epochs(task)[one]) for one in (*chosen, place)]
        tried = Mixture(mean([one.network for one in those]), mean([one.head for one in those]))
        if (merit := judge(tried)["validation/accuracy"]) >= score:
            chosen, score = [*chosen, place], merit
    assert soup.mixed["kept"].tolist() == [place in chosen for place in ranked]
    assert soup.score == score >= max(fit.score for fit in epochs(task)) and soup.chosen["soup"] == len(chosen)
    assert_alike(soup.backbone.state, mean([epochs(task)[one].backbone.state for one in chosen]))  # type: ignore[union-attr]
    assert soup.mixed["share"].sum() == pytest.approx(1)


@pytest.mark.slow
def test_what_was_mixed_is_kept_beside_the_model_that_is_served(few: Prepared, tmp_path: Path) -> None:
    candidate = few.train(METHOD.model_copy(update={"wise_ft": True}), tmp_path)
    assert candidate.mixed is not None and candidate.backbone is not None
    table = pd.read_parquet(candidate.mixed)
    assert table["mixed"].str.startswith("epoch").sum() == 3 and (table["mixed"] == "frozen and tuned").sum() == 11
    assert {"soup", "share"} <= candidate.chosen.keys()
    assert candidate.score == pytest.approx(table[table["kept"]]["validation/accuracy"].iloc[-1], abs=0.02)
    assert Head.load(candidate.head).kind == "linear"


@pytest.mark.slow
def test_trials_of_a_search_are_averaged_where_that_is_asked_for(few: Prepared, tmp_path: Path) -> None:
    method = METHOD.model_copy(update={"soup": False, "epochs": 1})
    search = type(method).model_validate(method.model_dump() | {"search": {"trials": 3, "soup": True}})
    candidate = few.train(search, tmp_path)
    assert candidate.mixed is not None and candidate.trials is not None
    table = pd.read_parquet(candidate.mixed)
    assert table["mixed"].str.startswith("trial").all() and 2 <= len(table) <= 3 and table["kept"].iloc[0]


def test_going_back_towards_a_head_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="wise_ft goes back towards the solved head"):
        Full(wise_ft=True)
    assert Full(wise_ft=True, head="probe").wise_ft
