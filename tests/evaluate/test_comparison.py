"""A candidate against the champion: on the same images, whatever became of data and classes meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tasks.evaluate import stage
from tasks.evaluate.comparison.compare import compare_with
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.scores.paired import holm
from tasks.extract.keys import keys_of
from tasks.extract.store import FeatureStore
from tasks.ingest.objects import object_path
from tasks.ingest.repository import object_store
from tasks.model.bundle import HEAD
from tasks.records import Candidate, Comparison, Evaluation
from tasks.rival import Rival
from tasks.train.heads import Head
from tasks.train.methods.prototypes import Prototypes
from tasks.workspace import Workspace
from tests.train.prepared import Prepared, prepare

CONFIG = EvaluateConfig(resamples=200)
EACH = 60


@dataclass(frozen=True)
class Trained:
    """A dataset, and a model of it."""

    prepared: Prepared
    candidate: Candidate

    def rival(self, folder: Path, **changes: Any) -> Rival:
        """The model as the champion."""
        folder.mkdir()
        shutil.copyfile(self.candidate.head, folder / HEAD)
        dataset = self.prepared.dataset
        values = {
            "fingerprint": self.candidate.fingerprint, "name": "digits", "version": 7, "bundle": folder,
            "classes": dataset.classes, "data": dataset.version,
            "learned_from": ("train", "tune"), "extraction": {}, "geometry": {},
        }  # fmt: skip
        return Rival(**values | changes)


Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def trained(home: Workspace) -> Train:
    """Trains on digits, each class under a name of ours."""

    def train(name: str, seed: int = 0, **classes: int) -> Trained:
        digits = load_digits()
        for label, digit in classes.items():
            folder = home.root / name / label
            folder.mkdir(parents=True)
            for number in np.flatnonzero(digits.target == digit)[:EACH]:
                image = Image.fromarray((digits.images[number] * 255 / 16).round().astype(np.uint8))
                image.save(folder / f"{number}.png", compress_level=0)
        prepared = prepare({"folder": name}, home, split={"by": "stratified", "seed": seed} if seed else {})
        return Trained(prepared, prepared.train(Prototypes(), home.root))

    return train


@pytest.fixture(scope="module")
def three(trained: Train) -> Trained:
    return trained("three", zero=0, one=1, two=2, three=3)


def compared(
    ours: Trained, rival: Rival, home: Workspace, candidate: Candidate | None = None, **near: list[str]
) -> Comparison:
    """As the flow has it; ``near`` are contents that the evaluation found near to training images, by split."""
    features = ours.prepared.features
    (report := home.root / "evaluated" / str(len(near))).mkdir(parents=True, exist_ok=True)
    for split, contents in near.items():
        pd.DataFrame({"path": "x", "hash": contents}).to_csv(report / f"{split}_near.csv", index=False)
    evaluation = Evaluation(fingerprint=f"e{sorted(near)}", report=report, metrics={})
    return compare_with(
        CONFIG, ours.prepared.dataset, features, candidate or ours.candidate, rival, features, evaluation, features,
        home,
    )  # fmt: skip


def confused(model: Trained, folder: Path) -> Candidate:
    """The model, but that it takes every second class for the next."""
    head = Head.load(model.candidate.head)
    with torch.no_grad():
        head.layers.weight.copy_(head.layers.weight[[1, 0, 2, 3]])
        head.layers.bias.copy_(head.layers.bias[[1, 0, 2, 3]])
    head.save(folder / "confused.safetensors")
    return model.candidate.model_copy(update={"head": folder / "confused.safetensors", "fingerprint": "confused"})


@pytest.mark.slow
def test_a_model_is_no_better_than_itself(three: Trained, home: Workspace, tmp_path: Path) -> None:
    found = compared(three, three.rival(tmp_path / "champion"), home)
    assert found.judged_on == "val" and found.left_out == {"val": 0, "test": 0}
    assert found.images == {split: three.prepared.dataset.counts[split] for split in ("val", "test")}
    assert {difference for _, _, difference, *_ in found.metrics.values()} == {0.0}
    assert found.gained == found.lost == {"val": 0, "test": 0} and set(found.p_values.values()) == {1.0}
    assert (found.new, found.gone, found.renamed, found.findings) == ((), (), {}, ())
    assert not list(found.report.glob("*_changes.png"))


def test_a_worse_model_is_told_and_where_it_is_worse(three: Trained, home: Workspace, tmp_path: Path) -> None:
    found = compared(three, three.rival(tmp_path / "champion"), home, confused(three, tmp_path))
    ours, theirs, difference, low, high = found.metrics["val/accuracy"]
    assert theirs > 0.95 and difference == pytest.approx(ours - theirs) and low < difference < high < 0
    assert difference < -0.3
    assert found.p_values["val"] < 0.001 and found.lost["val"] > 10 > found.gained["val"]
    changes = pd.read_csv(found.report / "val_changes.csv")
    assert list(changes.columns) == ["path", "label", "before", "after", "change"]
    lost = changes[changes["change"] == "lost"]
    assert len(lost) == found.lost["val"] and (lost["label"] == lost["before"]).all()
    slices = pd.read_csv(found.report / "val_slices.csv").set_index("slice")
    thirds = {name for name in slices.index if name.startswith("brightness ")}
    assert set(slices.index) == {*three.prepared.dataset.classes, *thirds} and len(thirds) == 3
    assert slices["p_holm"].tolist() == pytest.approx(holm(slices["p"].tolist()), rel=1e-4), "whoever reads it raises p"
    worse = set(slices.index[slices["p_holm"] < 0.05])
    # the first two in the order of the alphabet
    assert worse - thirds and worse - thirds <= {"one", "three"}
    assert {line.split(":")[1].removeprefix(" worse on ") for line in found.findings if line.startswith("val")} == worse
    assert (found.report / "val_changes.png").stat().st_size > 10_000
    told = json.loads((found.report / "comparison.json").read_text())
    assert told["metrics"]["val/accuracy"] == [ours, theirs, difference, low, high] and told["version"] == 7


def test_of_a_class_more_the_others_are_compared(
    three: Trained, trained: Train, home: Workspace, tmp_path: Path
) -> None:
    four = trained("four", zero=0, one=1, two=2, three=3, four=4)
    found = compared(four, three.rival(tmp_path / "champion"), home)
    rows = four.prepared.dataset.read_manifest()
    assert (found.new, found.gone) == (("four",), ())
    assert found.left_out["val"] == len(rows.query("split == 'val' and label == 'four'")) > 0
    assert found.images["val"] == three.prepared.dataset.counts["val"]


def test_of_a_class_less_the_others_are_compared_and_the_missing_one_is_named(
    three: Trained, trained: Train, home: Workspace, tmp_path: Path
) -> None:
    two = trained("two", zero=0, one=1, two=2)
    found = compared(two, three.rival(tmp_path / "champion"), home)
    assert (found.new, found.gone) == ((), ("three",))
    assert found.left_out == {"val": 0, "test": 0}


def test_renamed_labels_are_no_change(three: Trained, trained: Train, home: Workspace, tmp_path: Path) -> None:
    again = trained("renamed", null=0, one=1, zwei=2, three=3)
    found = compared(again, three.rival(tmp_path / "champion"), home)
    assert found.renamed == {"zero": "null", "two": "zwei"} and (found.new, found.gone) == ((), ())
    assert found.metrics["val/accuracy"][2] == 0 and found.left_out == {"val": 0, "test": 0}


def test_images_that_the_champion_learned_from_are_left_out_and_counted(
    three: Trained, trained: Train, home: Workspace, tmp_path: Path
) -> None:
    other = trained("otherwise", seed=5, zero=0, one=1, two=2, three=3)
    mine, theirs = (each.prepared.dataset.read_manifest() for each in (other, three))
    known = set(theirs.loc[theirs["split"] == "train", "hash"])
    expected = {split: int(mine.loc[mine["split"] == split, "hash"].isin(known).sum()) for split in ("val", "test")}
    assert expected["val"] > 5
    found = compared(other, three.rival(tmp_path / "champion"), home)
    assert {split: found.left_out[split] - found.near[split] for split in expected} == expected
    everything = three.rival(tmp_path / "seen", learned_from=("train", "val", "test"))
    found = compared(other, everything, home)
    assert found.images == {} and found.judged_on is None and found.metrics == {}


def test_a_champion_whose_data_is_elsewhere_may_have_learned_from_these_images(
    three: Trained, home: Workspace, tmp_path: Path
) -> None:
    found = compared(three, three.rival(tmp_path / "champion", data="0" * 32 + ".dir"), home)
    assert found.images["val"] > 0
    assert any("`headstart data pull digits@7` fetches it" in line for line in found.findings)


def test_once_the_champions_data_is_here_the_two_are_compared_anew(
    three: Trained, home: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = three.rival(tmp_path / "champion", fingerprint="pulled")
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(home.root))
    data = object_path(object_store(home), champion.data)
    data.rename(away := data.with_name("away"))
    try:
        before, state = compared(three, champion, home), key_of(stage.compare, rival=champion)
    finally:
        away.rename(data)
    assert key_of(stage.compare, rival=champion) != state
    after = compared(three, champion, home)
    assert any("`headstart data pull digits@7` fetches it" in line for line in before.findings)
    assert after.findings == () and after.report != before.report
    assert json.loads((after.report / "comparison.json").read_text())["findings"] == []


def test_a_comparison_with_the_same_candidate_under_another_name_or_number_is_another_one(
    three: Trained, home: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(home.root))
    champion = three.rival(tmp_path / "champion", fingerprint="of two names", version=2)
    twins = [champion.model_copy(update=changed) for changed in ({"version": 1}, {"name": "numerals"})]
    keys = {key_of(stage.compare, rival=each) for each in (champion, *twins)}
    assert len(keys) == 3 and key_of(stage.compare, rival=champion) in keys
    first, other, named = (compared(three, each, home) for each in (champion, *twins))
    assert (first.version, other.version) == (2, 1) and len({first.report, other.report, named.report}) == 3
    assert json.loads((first.report / "comparison.json").read_text())["version"] == 2


def key_of(stage: Any, **inputs: Any) -> str | None:
    """By which the flow finds a stage's result again."""
    return stage.cache_policy.compute_key(SimpleNamespace(task=stage), inputs, {})  # type: ignore[no-any-return]


def test_one_label_and_several_are_not_compared(three: Trained, home: Workspace, tmp_path: Path) -> None:
    rival = three.rival(tmp_path / "champion")
    head = Head(three.prepared.features.width, 4, multi_label=True)
    head.save(rival.bundle / HEAD)
    found = compared(three, rival.model_copy(update={"fingerprint": "several"}), home)
    assert found.images == {} and found.judged_on is None
    assert found.findings == ("one of the two gives several labels an image, the other one",)


def test_a_head_that_was_cross_validated_is_judged_on_nothing_that_it_knows(
    three: Trained, home: Workspace, tmp_path: Path
) -> None:
    known = three.candidate.model_copy(update={"cross_validated": True, "fingerprint": "folds"})
    found = compared(three, three.rival(tmp_path / "champion"), home, known)
    assert found.judged_on is None and list(found.images) == ["test"]


def test_a_candidate_does_not_win_by_images_that_it_has_learned_nearly_the_same_of(
    three: Trained, home: Workspace, tmp_path: Path
) -> None:
    """It is right where its champion errs, since these images leaked into its training; elsewhere it is no better."""
    worse = replace(three, candidate=confused(three, tmp_path)).rival(tmp_path / "champion")
    rows = three.prepared.dataset.read_manifest().query("split == 'val'")
    swapped = rows["label"].isin(["one", "three"])  # which the champion takes for each other
    leaked = rows.loc[swapped, "hash"].tolist()
    won = compared(three, worse, home)
    assert won.metrics["val/accuracy"][3] > 0 and won.near == {"val": 0, "test": 0}
    found = compared(three, worse, home, val=leaked)
    assert found.near["val"] == found.left_out["val"] == len(leaked) and found.near["test"] == 0
    assert found.images["val"] == won.images["val"] - len(leaked)
    assert found.gained["val"] < won.gained["val"] / 5


def test_images_that_the_champion_learned_nearly_the_same_of_are_left_out(
    three: Trained, home: Workspace, tmp_path: Path
) -> None:
    """Its training images are gone from our data, which holds nearly the same ones as validation images instead."""
    prepared = three.prepared
    rows, test = prepared.dataset.read_manifest(), prepared.dataset.read_manifest().query("split == 'test'")
    store = FeatureStore(prepared.features.store)
    gone = rows.query("split == 'train'")["hash"].tolist()
    twins = [f"{number:032x}" for number in range(10)]
    store.append(keys_of(twins), store.read(keys_of(gone[:10])) + 1e-4)
    changed = pd.concat([rows.query("split != 'test'"), test.head(10).assign(hash=twins)])
    changed.loc[changed["split"] == "train", "split"] = "pool"
    moved = replace(three, prepared=prepared.with_rows(changed, tmp_path))
    found = compared(moved, three.rival(tmp_path / "champion"), home)
    assert found.near["test"] == found.left_out["test"] == 10 and "test" not in found.images
    assert found.findings == ()


def test_where_the_champions_features_are_not_kept_it_is_said_what_is_not_known(
    three: Trained, home: Workspace, tmp_path: Path
) -> None:
    empty = three.prepared.features.model_copy(update={"store": tmp_path / "empty", "fingerprint": "empty"})
    rows = three.prepared.dataset.read_manifest()
    evaluation = Evaluation(fingerprint="e", report=tmp_path, metrics={})
    store = FeatureStore.open(empty.store, {})
    held_out = rows.loc[rows["split"].isin(["val", "test"]), "hash"].tolist()
    store.append(keys_of(held_out), FeatureStore(three.prepared.features.store).read(keys_of(held_out)))
    alone = three.prepared.with_rows(rows.query("split != 'train'"), tmp_path)
    found = compare_with(
        CONFIG, alone.dataset, empty, three.candidate, three.rival(tmp_path / "champion"), empty, evaluation, empty,
        home,
    )  # fmt: skip
    count = int((rows["split"] == "train").sum())
    assert any(f"{count:,} that it learned from are not in the data any more" in line for line in found.findings)
    assert set(found.near.values()) == {0}
