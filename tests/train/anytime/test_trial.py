"""A method tried on a part of the training images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.train.anytime.trial import part_of, try_method
from tasks.train.methods.linear import Linear
from tasks.train.methods.lp_ft import LpFt
from tasks.train.methods.neighbours import KNearest
from tasks.train.solvers import fit_linear
from tasks.train.tuning.clock import ending_after
from tasks.workspace import Workspace
from tests.train.prepared import Prepared


def test_a_part_has_so_many_images_of_both_splits_and_nothing_of_the_held_out_one(
    digits: Prepared, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    small, large = (part_of(digits.dataset, images, 50, workspace) for images in (40, 90))
    rows, more = small.read_manifest(), large.read_manifest()
    assert rows["split"].value_counts().to_dict() == small.counts == {"val": 50, "train": 40}
    assert set(rows["path"]) < set(more["path"]) and len({small.fingerprint, large.fingerprint}) == 2
    everything = part_of(digits.dataset, 10**6, 10**6, workspace)
    assert everything.counts == {split: digits.dataset.counts[split] for split in ("train", "val")}
    assert part_of(digits.dataset, 40, 50, workspace) == small


def test_a_head_is_judged_on_the_images_that_every_method_is_judged_on(few: Prepared, tmp_path: Path) -> None:
    rows = few.dataset.read_manifest()
    ready = few.with_rows(rows.replace({"split": {"val": "tune"}}), tmp_path, choose_on="tune")
    made = (ready.dataset, ready.preprocessed, ready.features, 60, 40, Workspace(tmp_path))
    linear, near = try_method(Linear(), *made), try_method(KNearest(), *made)
    assert (linear.images, linear.judged) == (near.images, near.judged) == (60, 40)
    assert linear.score == linear.frozen > 0.5 and (linear.score * 40) % 1 == pytest.approx(0, abs=1e-9)


def test_a_training_that_was_cut_short_says_what_it_came_to(few: Prepared, tmp_path: Path) -> None:
    method = LpFt(epochs=3, batch_size=8, augment="none", minutes=1.0)
    made = (few.dataset, few.preprocessed, few.features, 40, 30, Workspace(tmp_path))
    with ending_after(0.0):
        assert try_method(method, *made).seen == 8
    assert try_method(method.model_copy(update={"seed": 1}), *made).seen == 3 * 40


def test_tuning_is_held_against_frozen_features_of_the_same_images(few: Prepared, tmp_path: Path) -> None:
    method = LpFt(epochs=1, batch_size=16, augment="none", minutes=1.0)
    workspace = Workspace(tmp_path)
    trial = try_method(method, few.dataset, few.preprocessed, few.features, 40, 30, workspace)
    part = part_of(few.dataset, 40, 30, workspace)
    task = Prepared(part, few.preprocessed, few.features).task(tmp_path / "task")
    assert trial.frozen == fit_linear(task.plain, task.validation, task.classes).score
    assert trial.curve == (trial.score,) and trial.method == "lp_ft"
    assert not list((workspace.cache / "checkpoints").iterdir())
