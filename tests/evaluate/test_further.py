"""A leading task that is a number, and tasks beside one, from their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error

from tasks.errors import ConfigurationError
from tasks.evaluate.check import check_leading
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.door import evaluate_candidate
from tasks.model.reference import Reference
from tasks.records import Dataset, Evaluation, FeatureSet
from tasks.target import Target
from tasks.workspace import Workspace
from tests.evaluate.numbered import AGE, CONFIG, SPECIES, TAGS, make_candidate


@pytest.fixture(scope="module")
def led_by_a_number(home: Path, dataset: Dataset, features: FeatureSet) -> Evaluation:
    candidate = make_candidate(home / "heads", SPECIES, TAGS)
    return evaluate_candidate(CONFIG, dataset, features, candidate, Workspace(home))


def test_a_number_that_leads_has_its_figures_and_files(led_by_a_number: Evaluation) -> None:
    files = {path.name for path in led_by_a_number.report.iterdir()}
    each = ("scatter.png", "errors.png", "spread.png", "spread.csv", "predictions.parquet", "mistakes.csv")
    assert {f"{split}_{name}" for split in ("val", "test") for name in (*each, "mistakes.png", "slices.csv")} <= files
    assert {"curves.png", "metrics.json", "shift.csv", "projection.png"} <= files
    assert not {"decisions.json", "test_confusion.png", "test_risk_coverage.csv"} & files
    predictions = pd.read_parquet(led_by_a_number.report / "test_predictions.parquet")
    assert led_by_a_number.metrics["test/mae"][0] == pytest.approx(
        mean_absolute_error(predictions["label"], predictions["predicted"])
    )
    assert led_by_a_number.metrics["test/r2"][1] > 0.9 and led_by_a_number.leaks["test"].inflation == (0, 0, 0)
    written = json.loads((led_by_a_number.report / "metrics.json").read_text())
    assert written["test/mae"]["low"] < written["test/mae"]["value"] < written["test/mae"]["high"]
    kept = Reference.load(led_by_a_number.report / "reference.safetensors")
    assert len(kept.embeddings) == 60 and kept.confusion.size == 0 and kept.split == "val"


def test_further_tasks_are_measured_where_they_have_a_label(led_by_a_number: Evaluation, dataset: Dataset) -> None:
    rows = dataset.read_manifest().query("split == 'test'")
    found = pd.read_parquet(led_by_a_number.report / "test_species_predictions.parquet")
    known = rows[rows["label:species"].notna()]
    assert found["path"].tolist() == known["path"].tolist() and len(found) == 45
    assert found["label"].tolist() == known["label:species"].tolist()
    assert led_by_a_number.metrics["test/species/accuracy"][0] == accuracy_score(found["label"], found["predicted"])
    assert led_by_a_number.metrics["test/tags/average_precision_macro"][1] > 0.6
    assert led_by_a_number.classes["val/tags/f1_macro"] == 2
    assert json.loads((led_by_a_number.report / "metrics.json").read_text())["test/species/f1_macro"]["classes"] == 2
    files = {path.name for path in led_by_a_number.report.iterdir()}
    assert {"test_species_confusion.png", "test_species_per_class.csv", "test_species_confusions.csv"} <= files
    assert {"test_tags_precision_recall.png", "val_tags_predictions.parquet"} <= files
    assert led_by_a_number.findings == ()


def test_a_class_leads_and_a_number_is_told_beside_it(home: Path, features: FeatureSet, dataset: Dataset) -> None:
    rows = dataset.read_manifest()
    rows = rows[rows["label:species"].notna()].rename(columns={"label": "label:age", "label:species": "label"})
    few = rows["split"].eq("val") & (rows.groupby("split").cumcount() >= 1)
    age = np.where(few, np.nan, rows["label:age"])
    shuffled = rows["split"].eq("test").to_numpy()
    age[shuffled] = np.where(np.arange(shuffled.sum()) < 20, age[shuffled][::-1], np.nan)  # nobody could tell these
    group = [f"g{place // 3}" for place in range(len(rows))]
    rows.assign(**{"label:age": age, "group": group}).to_parquet(home / "turned.parquet", index=False)
    targets = (SPECIES.model_copy(update={"column": "label"}), AGE.model_copy(update={"column": "label:age"}))
    turned = dataset.model_copy(update={"manifest": home / "turned.parquet", "targets": targets, "fingerprint": "t"})
    candidate = make_candidate(home / "turned", AGE, leads=SPECIES)
    evaluation = evaluate_candidate(CONFIG, turned, features, candidate, Workspace(home))
    assert evaluation.metrics["test/accuracy"][1] > 0.7 and "test/age/mae" in evaluation.metrics
    assert not any(name.startswith("val/age/") for name in evaluation.metrics)
    assert "val/age: fewer than 2 images have a label: not measured" in evaluation.findings
    assert "test/age: only 20 images have a label, so its figures are rough" in evaluation.findings
    [told] = [line for line in evaluation.findings if "no better than" in line]
    assert told.startswith("test/age: R² -") and told.endswith("is no better than always telling the mean, 0.0000")
    assert evaluation.groups["test"] == 15 and evaluation.groups["test/age"] == 7
    written = json.loads((evaluation.report / "metrics.json").read_text())
    assert (written["test/age/mae"]["groups"], written["test/accuracy"]["groups"]) == (7, 15)


@pytest.mark.parametrize("section", [
    {"costs": {"a": {"b": 2}}}, {"operating_point": {"recall": 0.9}}, {"abstain": {"accuracy": 0.9}},
    {"attack": {}}, {"explain": 3}, {"faithfulness": 8},
])  # fmt: skip
def test_what_is_for_classes_is_refused_where_a_number_leads(section: dict) -> None:
    with pytest.raises(ConfigurationError, match=f"evaluate.{next(iter(section))} is for classes, .*: leave it out"):
        check_leading(EvaluateConfig.model_validate(section), AGE)


def test_what_stands_in_every_configuration_is_passed_over() -> None:
    for section in ({}, {"explain": 0, "faithfulness": 0, "robustness": 20}, EvaluateConfig().model_dump()):
        check_leading(EvaluateConfig.model_validate(section), AGE)
    check_leading(EvaluateConfig(explain=3), Target(classes=("a", "b")))
