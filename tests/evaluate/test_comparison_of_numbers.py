"""Numbers and further tasks of a candidate against the champion's, on the same images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.evaluate.comparison.compare import compare_with
from tasks.evaluate.scores.paired import detectable, p_value
from tasks.model.bundle import HEAD, head_file
from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet
from tasks.rival import Rival
from tasks.target import Target
from tasks.train.heads import Head
from tasks.workspace import Workspace
from tests.evaluate.numbered import AGE, CONFIG, SPECIES, TAGS, make_candidate


@pytest.fixture(scope="module")
def candidate(home: Path) -> Candidate:
    return make_candidate(home / "heads", SPECIES, TAGS)


def noisy(file: Path, into: Path, noise: float) -> None:
    """A head that reads noise, too."""
    head = Head.load(file)
    with torch.no_grad():
        head.layers.weight[:2, 5:] += (
            noise * torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 0.0]])[: len(head.layers.weight)]
        )
    head.save(into)


def rival_of(candidate: Candidate, folder: Path, noise: float = 0.0, **changes: Any) -> Rival:
    """The candidate as the champion, each of whose tasks is told worse."""
    folder.mkdir()
    shutil.copy(candidate.head, folder / HEAD)
    for name, file in candidate.further.items():
        noisy(file, folder / head_file(name), noise)
    if noise:
        head = Head.load(candidate.head)
        with torch.no_grad():
            head.layers.weight[0, 5] = 0.3 * noise
        head.save(folder / HEAD)
    values = {
        "fingerprint": f"r{noise}{changes}", "name": "ages", "version": 3, "bundle": folder, "classes": (),
        "targets": (AGE, SPECIES, TAGS), "data": "", "learned_from": ("train", "tune"), "extraction": {},
        "geometry": {},
    }  # fmt: skip
    return Rival(**values | changes)


def compared(candidate: Candidate, rival: Rival, dataset: Dataset, features: FeatureSet, home: Path) -> Comparison:
    (report := home / "evaluated").mkdir(exist_ok=True)
    evaluation = Evaluation(fingerprint="e", report=report, metrics={})
    return compare_with(
        CONFIG, dataset, features, candidate, rival, features, evaluation, features, Workspace(home)
    )  # fmt: skip


@pytest.fixture(scope="module")
def better(candidate: Candidate, dataset: Dataset, features: FeatureSet, home: Path) -> Comparison:
    return compared(candidate, rival_of(candidate, home / "bundle", 3.0), dataset, features, home)


def test_the_difference_of_errors_is_negative_where_ours_are_smaller(better: Comparison) -> None:
    ours, theirs, difference, low, high = better.metrics["val/mae"]
    assert difference == pytest.approx(ours - theirs) and low < difference < high < 0
    assert better.metrics["val/r2"][3] > 0 and better.p_values["val"] < 0.001
    assert better.judged_on == "val" and better.images == {"val": 60, "test": 60}
    assert better.gained["val"] > 40 > better.lost["val"] and better.gained["val"] + better.lost["val"] <= 60
    assert 0 < better.detectable["val"] < -difference


def test_slices_say_by_how_much_less_errors_are(better: Comparison) -> None:
    table = pd.read_csv(better.report / "val_slices.csv")
    assert set(table["kind"]) == {"value", "domain"} and (table["difference"] > 0).all()
    assert table["difference"].to_numpy() == pytest.approx(
        (table["champion"] - table["candidate"]).to_numpy(), abs=2e-4
    )
    changes = pd.read_csv(better.report / "val_changes.csv")
    assert list(changes.columns) == ["path", "label", "before", "after", "change"]
    gain = (changes["before"] - changes["label"]).abs() - (changes["after"] - changes["label"]).abs()
    assert ((gain > 0) == (changes["change"] == "gained")).mean() > 0.95 and gain.abs().is_monotonic_decreasing
    assert (better.report / "val_changes.png").is_file()


def test_further_tasks_stand_beside(better: Comparison) -> None:
    assert better.further == {"val/species": 45, "test/species": 45, "val/tags": 48, "test/tags": 48}
    assert better.metrics["val/species/accuracy"][2] > 0 and "val/tags/average_precision_macro" in better.metrics
    written = json.loads((better.report / "comparison.json").read_text())
    assert written["further"] == better.further and written["metrics"].keys() == better.metrics.keys()
    assert not [line for line in better.findings if "worse" in line]


def test_what_became_worse_is_told(candidate: Candidate, dataset: Dataset, features: FeatureSet, home: Path) -> None:
    rival = rival_of(candidate, home / "other")
    files = {name: home / f"worse_{name}.safetensors" for name in candidate.further}
    for name, file in candidate.further.items():
        noisy(file, files[name], 3.0)
    worse = candidate.model_copy(update={"further": files, "fingerprint": "worse"})
    found = compared(worse, rival, dataset, features, home)
    assert found.metrics["val/mae"][2:] == (0, 0, 0) and found.p_values["val"] == 1
    told = [line for line in found.findings if line.startswith("val/species: worse: accuracy ")]
    assert len(told) == 1 and "45 images" in told[0]


@pytest.mark.parametrize(("theirs", "told"), [
    (AGE.model_copy(update={"unit": "months"}), "it tells age in years, the champion age in months"),
    (Target(name="height", kind="number"), "it tells age in years, the champion height"),
    (SPECIES, "one of the two tells a number, the other one classes"),
])  # fmt: skip
def test_other_tasks_are_not_compared(
    theirs: Target, told: str, candidate: Candidate, dataset: Dataset, features: FeatureSet, home: Path, tmp_path: Path
) -> None:
    rival = rival_of(candidate, tmp_path / "bundle", targets=(theirs, Target(name="wings", classes=("two", "four"))))
    found = compared(candidate, rival, dataset, features, home)
    assert told in found.findings and found.images == {} and found.judged_on is None
    assert found.new_tasks == ("species", "tags") and found.gone_tasks == ("wings",)
    assert "tasks told no more: wings" in found.findings


def test_errors_are_tested_by_the_signs_of_their_differences() -> None:
    random = np.random.default_rng(0)
    ours = np.abs(random.normal(size=200))
    theirs = ours + random.normal(0.07, 0.2, 200)
    groups = np.arange(200) // 40
    assert p_value(ours, theirs) < 0.01 < 0.05 < p_value(ours, theirs, groups)
    assert p_value(ours, ours) == 1 and p_value(theirs, ours) == p_value(ours, theirs)
    flips = random.choice([-1, 1], (4000, 200)) @ (ours - theirs)
    assert p_value(ours, theirs) == pytest.approx((abs(flips) >= abs((ours - theirs).sum())).mean(), abs=0.01)
    assert detectable(ours, theirs) == pytest.approx(2.8 * (ours - theirs).std() / 200**0.5, rel=0.01)
