"""Versions that tell a number, and tasks beside the leading one: merits, duels, gates and what is said of them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.errors import ConfigurationError
from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet, Inspection, Preprocessed
from tasks.register.card import card, held_out
from tasks.register.check import check_gates_of_task
from tasks.register.config import RegisterConfig
from tasks.register.duels import Duel
from tasks.register.gates.calibration import Calibration
from tasks.register.gates.fairness import Fairness
from tasks.register.gates.robustness import Robustness
from tasks.register.gates.tasks import Tasks, with_further
from tasks.register.gating import Evidence, Standing
from tasks.register.golden import apart_by_image
from tasks.register.merits import Merit
from tasks.register.rivals import packaged_teacher
from tasks.register.succession import beats_chance, succeeds
from tasks.target import Target
from tests.register.test_gate import path, versions

HERE = Path("nowhere")
AGE = Target(name="age", kind="number", unit="years")
SPECIES = Target(name="species", column="label:species", classes=("cat", "dog"), images={"test": 40})
METRICS = {
    "val/r2": (0.8, 0.7, 0.9), "test/mae": (1.23456, 1.1, 1.4), "test/rmse": (2.0, 1.8, 2.2),
    "test/r2": (0.81, 0.7, 0.9), "test/calibration_error": (0.02, 0.0, 0.05),
    "test/species/accuracy": (0.9, 0.8, 0.95), "test/species/f1_macro": (0.88, 0.8, 0.95),
}  # fmt: skip


def evidence(folder: Path, target: Target = AGE, **known: Any) -> Evidence:
    rows = pd.DataFrame({"label": [1.5, 2.5, 40.0], "hash": ["a", "b", "c"], "split": "val", "group": None})
    rows.to_parquet(folder / "manifest.parquet")
    dataset = Dataset(
        fingerprint="d", source="s", version="v" * 20, manifest=folder / "manifest.parquet", report=folder, images=HERE,
        targets=(target, SPECIES), counts={"val": 3}, choose_on="val", report_on="test", quarantined=0,
    )  # fmt: skip
    candidate = Candidate(fingerprint="c", method="linear", head=HERE, curves=HERE, chosen={"l2": 1}, score=0.8)
    evaluation = Evaluation(fingerprint="e", report=folder, metrics=METRICS)
    return Evidence(dataset, candidate, evaluation, known.get("comparison"), known.get("inspection"), folder)


def comparison(**changes: Any) -> Comparison:
    values = {
        "fingerprint": "x", "report": HERE, "version": 1, "judged_on": "val", "images": {"val": 200},
        "left_out": {"val": 0}, "metrics": {"val/mae": (1.0, 1.2, -0.2, -0.3, -0.1)}, "p_values": {"val": 0.001},
        "detectable": {"val": 0.1}, "gained": {"val": 120}, "lost": {"val": 80},
    }  # fmt: skip
    return Comparison(**values | changes)


def test_a_number_is_scored_by_what_it_explains(tmp_path: Path) -> None:
    of = evidence(tmp_path)
    merit = Merit.measured(of.dataset, of.candidate, of.evaluation)
    assert (merit.figure, merit.score, merit.low, merit.high, merit.chance) == ("R²", 0.8, 0.7, 0.9, 0.0)
    assert json.loads(merit.classes) == ["age in years"]
    other = pd.read_parquet(of.dataset.manifest).assign(label=[1.5, 2.5, 41.0])
    other.to_parquet(tmp_path / "manifest.parquet")
    assert Merit.measured(of.dataset, of.candidate, of.evaluation).images != merit.images


def test_without_a_measured_interval_that_of_a_correlation_is_taken(tmp_path: Path) -> None:
    of = evidence(tmp_path)
    rows = pd.DataFrame({"label": [float(n) for n in range(100)], "split": "train", "group": None})
    rows.assign(hash=rows.index.map(str)).to_parquet(tmp_path / "manifest.parquet")
    crossed = of.candidate.model_copy(update={"cross_validated": True})
    found = Merit.measured(of.dataset, crossed, of.evaluation)
    bounds = [math.tanh(math.atanh(0.8**0.5) + side * 1.96 / 97**0.5) ** 2 for side in (-1, 1)]
    assert [found.low, found.high] == pytest.approx(bounds)
    nothing = Merit.measured(of.dataset, crossed.model_copy(update={"score": -0.1}), of.evaluation)
    assert nothing.low < -0.1 < nothing.high


@pytest.mark.parametrize(("low", "passed"), [(0.1, True), (-0.05, False)])
def test_what_explains_nothing_is_no_better_than_the_mean(low: float, passed: bool) -> None:
    merit = Merit("R²", 0.2, low, 0.3, 0.0, '["age in years"]', "v")
    found = beats_chance(Standing(versions(merit)[1], {}, []))
    assert found.passed is passed and "always telling the mean" in found.reason


def fought(difference: tuple[float, float, float], **keys: Any) -> Any:
    """What becomes of a second version, by the difference of its mean absolute error to the first one's 1.2."""
    merit = Merit("R²", 0.8, 0.7, 0.9, 0.0, '["age in years"]', "v")
    known = versions(merit, merit)
    ours = 1.2 + difference[0]
    duel = Duel.fought(comparison(metrics={"val/mae": (ours, 1.2, *difference)}))
    assert duel is not None
    known[2].tags.update(duel.tags)
    return succeeds(Standing(known[2], known, path(1)), **keys)


def test_of_errors_less_is_better() -> None:
    better = fought((-0.2, -0.3, -0.1))
    assert better.passed and better.reason.startswith(
        "better, mean absolute error 1, champion (version 1) 1.2 on the same 200 val images: -0.2"
    )
    worse = fought((0.2, 0.1, 0.3))
    assert not worse.passed and worse.reason.startswith("worse, ") and worse.measured == "-0.2 [-0.3, -0.1]"
    even = fought((0.05, -0.05, 0.15))
    assert even.passed and "not worse" in even.reason and not fought((0.05, -0.05, 0.15), must_be_better=True).passed


@pytest.mark.parametrize(
    ("difference", "passed", "told"),
    [((80.0, 40.0, 120.0), False, "worse, "), ((-80.0, -120.0, -40.0), True, "better, "),
     ((-0.05, -1.1, 1.0), True, "not worse, "), ((80.0, math.nan, math.nan), None, "cannot be compared: ")],
)  # fmt: skip
def test_an_interval_of_errors_is_as_wide_as_their_unit_has_it(
    difference: tuple[float, float, float], passed: bool | None, told: str
) -> None:
    found = fought(difference)
    assert found.passed is passed and found.reason.startswith(told)


def test_a_margin_of_errors_is_a_share_of_the_champions() -> None:
    assert fought((0.0, -0.1, 0.1), margin=0.1).passed  # of 1.2
    assert not fought((0.0, -0.1, 0.13), margin=0.1).passed


def test_another_unit_is_for_a_person() -> None:
    merits = [Merit("R²", 0.8, 0.7, 0.9, 0.0, json.dumps([f"age in {unit}"]), "v") for unit in ("months", "years")]
    known = versions(*merits)
    found = succeeds(Standing(known[2], known, path(1)))
    assert found.passed is None and found.reason == "cannot be compared: age in years with age in months"
    known = versions(replace(merits[0], figure="accuracy"), merits[1])
    assert "R² with accuracy" in succeeds(Standing(known[2], known, path(1))).reason


def test_calibration_goes_by_the_intervals_of_numbers(tmp_path: Path) -> None:
    of = evidence(tmp_path)
    found = Calibration(ece=0.03).measure(of)
    assert found.passed and "test/calibration_error 0.0200" in found.reason
    assert not Calibration(ece=0.01).measure(of).passed


@pytest.mark.parametrize(("mean", "share"), [(1.5, "0.6667"), (3.0, "0.3333")])
def test_robustness_goes_by_how_errors_grow(mean: float, share: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"corruption": ["none", "blur"], "severity": [0, 1], "images": 64, "mae": [1.0, mean]})
    table.to_csv(tmp_path / "robustness.csv", index=False)
    inspection = Inspection(
        fingerprint="i", report=tmp_path, metrics={"test/robustness": (mean, 0, 9)}, images={"robustness": 64}
    )
    found = Robustness().measure(evidence(tmp_path, inspection=inspection))
    assert found.passed == (float(share) >= 0.5) and found.measured == share and "MAE" in found.reason


@pytest.mark.parametrize(("clean", "mean", "passed"), [(1.0, 0.0, True), (1.0, math.nan, False), (math.nan, 1.0, None)])
def test_errors_that_are_no_numbers_are_not_robust(
    clean: float, mean: float, passed: bool | None, tmp_path: Path
) -> None:
    table = pd.DataFrame({"corruption": ["none", "blur"], "severity": [0, 1], "images": 64, "mae": [clean, mean]})
    table.to_csv(tmp_path / "robustness.csv", index=False, na_rep="nan")
    inspection = Inspection(
        fingerprint="i", report=tmp_path, metrics={"test/robustness": (mean, 0, 9)}, images={"robustness": 64}
    )
    assert Robustness().measure(evidence(tmp_path, inspection=inspection)).passed is passed


@pytest.mark.parametrize("place", ["value", "high", "species_probability"])
def test_an_answer_that_is_no_number_is_infinitely_far_whichever_it_is(place: str, tmp_path: Path) -> None:
    answers = pd.DataFrame({"path": ["a"], "predicted": [3.0], "low": [2.0], "high": [4.0]})
    beside = pd.DataFrame({"path": ["a"], "predicted": ["cat"], "probability": [0.9]})
    beside.to_parquet(tmp_path / "test_species_predictions.parquet")
    served = {"value": 3.1, "low": 2.0, "high": 4.0, "species": "cat", "species_probability": 0.9}
    of = evidence(tmp_path)
    assert apart_by_image(of, answers, [served]) == pytest.approx([0.1])
    assert math.isnan(apart_by_image(of, answers, [served | {place: math.nan}])[0])


def test_gates_for_classes_are_refused_where_a_number_leads(tmp_path: Path) -> None:
    def check(gate: dict[str, Any], target: Target) -> None:
        check_gates_of_task(RegisterConfig.model_validate({"gates": [gate]}), target)

    with pytest.raises(ConfigurationError, match="fairness is for classes, and the leading task is a number: take it"):
        check({"gate": "fairness"}, AGE)
    with pytest.raises(ConfigurationError, match=r"slices goes by 'class', .*: write 'value'"):
        check({"gate": "slices", "by": ["class"]}, AGE)
    with pytest.raises(ConfigurationError, match=r"slices goes by 'value', .* no number: write 'class'"):
        check({"gate": "slices", "by": ["value"]}, SPECIES)
    check({"gate": "slices", "by": ["value", "domain"]}, AGE)
    assert Fairness().measure(evidence(tmp_path)).passed is None


def test_the_gate_of_further_tasks_stands_where_there_are_some(tmp_path: Path) -> None:
    gates, of = RegisterConfig().gates, evidence(tmp_path)
    assert [gate.gate for gate in with_further(gates, of)] == ["chance", "champion", "leak", "parity", "tasks"]
    alone = replace(of, dataset=of.dataset.model_copy(update={"targets": (AGE,)}))
    assert with_further(gates, alone) == gates
    assert len(with_further(gates, replace(alone, comparison=comparison(gone_tasks=("species",))))) == 5
    named = RegisterConfig.model_validate({"gates": [{"gate": "tasks", "on_failure": "warn"}]}).gates
    assert with_further(named, of) == named and named[-1].on_failure == "warn"


def test_a_further_task_that_became_worse_stops_a_version(tmp_path: Path) -> None:
    def measured(ours: float, p: float, **changes: Any) -> Any:
        metrics = {"val/species/accuracy": (ours, 0.9, ours - 0.9, ours - 1, ours - 0.8)}
        values = {"metrics": metrics, "p_values": {"val/species": p}, "further": {"val/species": 150}}
        return Tasks().measure(evidence(tmp_path, comparison=comparison(**values | changes)))

    worse = measured(0.7, 0.001)
    assert worse.passed is False and worse.against == 1
    assert worse.reason == "species is worse: accuracy 0.7000 where it was 0.9000 (150 val images, p 0.001)"
    assert measured(0.7, 0.3).passed and measured(0.95, 0.001).passed
    assert measured(0.7, 0.001, further={}).passed is None
    assert measured(0.7, 0.001, new_tasks=("species",)).passed
    lost = measured(0.95, 0.5, gone_of_tasks={"species": ("heron",)})
    assert lost.passed is False and lost.reason == "species has lost classes: heron"
    gone = measured(0.95, 0.5, gone_tasks=("wings",))
    assert gone.passed is False and gone.reason == "tasks are told no more: wings"
    assert Tasks().measure(evidence(tmp_path)).passed


def test_a_further_task_that_could_not_be_compared_asks_a_person(tmp_path: Path) -> None:
    of = evidence(tmp_path)
    wings = SPECIES.model_copy(update={"name": "wings", "column": "label:wings"})
    two = replace(of, dataset=of.dataset.model_copy(update={"targets": (AGE, SPECIES, wings)}))
    metrics = {"val/species/accuracy": (0.95, 0.9, 0.05, 0.0, 0.1)}
    values = {"metrics": metrics, "p_values": {"val/species": 0.1}, "further": {"val/species": 150}}
    found = Tasks().measure(replace(two, comparison=comparison(**values)))
    assert found.passed is None and found.reason.startswith("cannot be compared on val: wings")


def test_lists_and_the_card_tell_errors_in_their_unit(tmp_path: Path) -> None:
    of = evidence(tmp_path)
    assert held_out(of.dataset, of.evaluation) == "MAE 1.235 years, R² 0.8100 (test)"
    preprocessed = Preprocessed(
        fingerprint="p", size=32, fit="crop", preview=HERE, mean=(0, 0, 0), std=(1, 1, 1)
    )  # fmt: skip
    features = FeatureSet(
        fingerprint="f", store=HERE, backbone="b", weights="w", digest="0", layers=("x",), pool="avg", width=8,
        precision="float32", device="cpu", new=0, reused=0, seconds=1,
    )  # fmt: skip
    text = card("run", "run", of.dataset, preprocessed, features, of.candidate, of.evaluation, comparison())
    assert "| **age** | a number, in years |" in text and "| **species** | 2: cat, dog |" in text
    assert "### Further tasks" in text and "| species | 40 | accuracy 0.9000 [0.8000, 0.9500], f1_macro" in text
    assert "test_scatter.png" in text and "| val/mae | 1.2 | 1 | -0.2 [-0.3, -0.1] |" in text


def test_a_package_says_which_tasks_it_tells(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "packed"  # the packaged network is shared by this folder's tests
    shutil.copytree(bundle, copy)
    file = copy / "classifier.json"
    told = json.loads(file.read_text())
    assert packaged_teacher(copy)[0].targets == () or "targets" in told
    noted = [{"name": "age", "kind": "number", "classes": [], "unit": "years"},
             {"name": "species", "kind": "class", "classes": ["cat", "dog"], "unit": ""}]  # fmt: skip
    file.write_text(json.dumps(told | {"targets": noted}))
    rival, _ = packaged_teacher(copy)
    assert rival.targets == (AGE, SPECIES.model_copy(update={"images": {}}))
