"""Notes of a run within a budget: what a kill leaves of them, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tasks.train.anytime.notes import Notes
from tasks.train.anytime.step import Step
from tests.flows.homes import eventually

PROBE = Step("probe", "resnet_32px", "linear", 100, predicted=20.0)


def test_what_was_done_and_what_was_at_work_are_found_again(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "new" / "notes.json", 60.0)
    begun = notes.begin(PROBE, 3.0)
    found = Notes(notes.path, 60.0).unfinished
    assert found is not None and str(found) == str(begun) and begun.state == "begun"
    over = replace(begun, state="done", score=0.9, took=21.0)
    notes.end([over], 25.0)
    tune = notes.begin(Step("tune", "resnet_32px", "lp_ft"), 26.0)

    again = Notes(notes.path, 60.0)
    assert again.spent == 26.0 and str(again.unfinished) == str(tune)
    assert list(map(str, again.done)) == [str(over)]
    assert [path.name for path in notes.path.parent.iterdir()] == ["notes.json"]


def test_time_that_a_killed_step_had_taken_is_not_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.train.anytime.notes.OFTEN", 0.01)
    notes = Notes(tmp_path / "notes.json", 60.0)
    notes.begin(PROBE, 3.0)
    with notes.kept_up(lambda: 21.0, lambda: 18.0):
        assert eventually(lambda: Notes(notes.path, 60.0).spent == 21.0)
    found = Notes(notes.path, 60.0).unfinished
    assert found is not None and found.took == 18.0


def test_what_failed_is_tried_again_by_the_next_start(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.json", 60.0)
    notes.end([replace(PROBE, state="done"), Step("tune", "a", "lp_ft", state="failed", why="out of memory")], 25.0)
    assert [step.kind for step in Notes(notes.path, 60.0).done] == ["probe"]


def test_a_larger_budget_thinks_again_of_what_was_left_out(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.json", 60.0)
    notes.end([replace(PROBE, state="done"), Step("rank", "", state="left out", why="no time")], 25.0)
    assert [len(Notes(notes.path, budget).done) for budget in (30.0, 60.0, 90.0)] == [2, 2, 1]


def test_the_choice_names_a_table_of_all_steps(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.json", 60.0)
    done = replace(PROBE, state="done", score=0.9, took=21.0, why="a model at once")
    notes.end([done, Step("rank", "", state="left out", why="no time")], 25.0)
    choice = notes.choice(done, tmp_path)
    table = pd.read_parquet(choice.steps)
    assert table["kind"].tolist() == ["probe", "rank"] and table["state"].tolist() == ["done", "left out"]
    assert (table["score"][0], table["predicted"][0], table["took"][0]) == (0.9, 20.0, 21.0)
    assert (choice.backbone, choice.method, choice.budget, choice.spent) == ("resnet_32px", "linear", 60.0, 25.0)
    assert choice.is_complete() and notes.choice(done, tmp_path).fingerprint == choice.fingerprint
