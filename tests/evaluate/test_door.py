"""The report of a candidate, from its files: with one label an image, and with several."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.evaluate import door
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.report import Answers, _wrong_labels
from tasks.extract.keys import keys_of
from tasks.extract.store import FeatureStore
from tasks.fingerprint import file_digest
from tasks.records import Candidate, Dataset, FeatureSet
from tasks.target import one_task
from tasks.train.heads import Head, predict_probabilities
from tasks.workspace import Workspace

CLASSES = ("ant", "bee", "cat")
WIDTH = 8
IMAGES = {"train": 6, "val": 60, "test": 40}


def make_dataset(folder: Path, several: bool) -> Dataset:
    """Small pictures with labels; the features of image n are row n of `features_of`."""
    random = np.random.default_rng(0)
    rows = []
    for split, count in IMAGES.items():
        for index in range(count):
            path = folder / "x.png"
            Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(path)
            hash = file_digest(path, "md5")
            (folder / hash[:2]).mkdir(exist_ok=True)
            path.rename(folder / hash[:2] / hash[2:])
            label = [name for name in CLASSES if random.random() < 0.4] if several else CLASSES[index % 3]
            rows.append({"path": f"{split}/{index}.png", "label": label, "split": split, "group": None, "hash": hash})
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet", index=False)
    return Dataset(
        fingerprint="d", source="pictures", version="v", manifest=folder / "manifest.parquet", report=folder,
        images=folder, targets=one_task(CLASSES, several), counts=IMAGES, choose_on="val", report_on="test",
        quarantined=0,
    )  # fmt: skip


def features_of(dataset: Dataset, features: FeatureSet, rows: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
    """As `tasks.train.task.labelled` gives them; the features know the labels, with noise."""
    several = rows["label"] if dataset.multi_label else rows["label"].map(lambda label: [label])
    targets = np.array([[float(name in labels) for name in dataset.classes] for labels in several], np.float32)
    noise = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(len(rows)))
    noise[:, : len(CLASSES)] += 2 * torch.from_numpy(targets)
    return noise, torch.from_numpy(targets) if dataset.multi_label else torch.from_numpy(targets.argmax(1))


def make_candidate(folder: Path, several: bool) -> Candidate:
    head = Head(WIDTH, len(CLASSES), multi_label=several)
    with torch.no_grad():
        head.layers.weight.copy_(2 * torch.eye(len(CLASSES), WIDTH))
        head.layers.bias.fill_(-2)
    head.save(folder / "head.safetensors")
    what = "average_precision" if several else "accuracy"
    curves = pd.DataFrame(
        {"step": [1, 2], "train/loss": [2, 1], f"train/{what}": [0.1, 0.2], f"val/{what}": [0.1, 0.2]}
    )
    curves.to_parquet(folder / "curves.parquet", index=False)
    return Candidate(
        fingerprint="c", method="linear", head=folder / "head.safetensors", curves=folder / "curves.parquet",
        chosen={"epoch": 2}, score=0.2,
    )  # fmt: skip


FEATURES = FeatureSet(
    fingerprint="f", store=Path("nowhere"), backbone="b", weights="w", digest="0", layers=("x",), pool="avg",
    width=WIDTH, precision="float32", device="cpu", new=0, reused=0, seconds=0,
)  # fmt: skip


@pytest.fixture(params=[False, True], ids=["one", "several"])
def several(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def dataset(tmp_path: Path, several: bool) -> Dataset:
    (tmp_path / "images").mkdir()
    return make_dataset(tmp_path / "images", several)


@pytest.fixture
def candidate(tmp_path: Path, several: bool, monkeypatch: pytest.MonkeyPatch) -> Candidate:
    monkeypatch.setattr(door, "labelled", features_of)
    return make_candidate(tmp_path, several)


@pytest.fixture(autouse=True)
def _features(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same features, in a store."""
    store = FeatureStore.open(tmp_path / "space", {})
    for _, rows in dataset.read_manifest().groupby("split"):
        store.append(keys_of(rows["hash"]), features_of(dataset, FEATURES, rows)[0].numpy())
    monkeypatch.setitem(globals(), "FEATURES", FEATURES.model_copy(update={"store": tmp_path / "space"}))


def test_the_report_has_its_figures_tables_and_pictures(
    dataset: Dataset, candidate: Candidate, several: bool, workspace: Workspace
) -> None:
    evaluation = door.evaluate_candidate(EvaluateConfig(resamples=100), dataset, FEATURES, candidate, workspace)
    own = ["precision_recall.png"] if several else ["confusion.png", "confusions.csv"]
    each = ["mistakes.csv", "mistakes.png", "per_class.csv", "predictions.parquet", "reliability.png", "roc.png", *own]
    each += ["reliability.csv", "risk_coverage.csv", "risk_coverage.png", "slices.csv"]
    wanted = {f"{split}_{name}" for split in ("val", "test") for name in each}
    wanted |= {"curves.png", "metrics.json", "decisions.json", "reference.safetensors"}
    assert {path.name for path in evaluation.report.iterdir()} == wanted

    written = json.loads((evaluation.report / "metrics.json").read_text())
    bounds = {name: (entry["value"], entry.get("low"), entry.get("high")) for name, entry in written.items()}
    for split in ("val", "test"):
        assert bounds.pop(f"{split}/near")[0] == 0
        assert bounds.pop(f"{split}/inflation") == (0, 0, 0) and bounds.pop(f"{split}/without_near")
    assert bounds == evaluation.metrics and evaluation.groups == {} and evaluation.findings == ()
    assert {name: entry["classes"] for name, entry in written.items() if "classes" in entry} == evaluation.classes
    assert set(evaluation.classes.values()) == {3} and "test/f1_macro" in evaluation.classes
    headline = "average_precision_macro" if several else "accuracy"
    for split in ("val", "test"):
        value, low, high = evaluation.metrics[f"{split}/{headline}"]
        assert 0.6 < low < value < high

    images = pd.read_csv(evaluation.report / "test_per_class.csv").set_index("label")["images"]
    labels = dataset.read_manifest().query("split == 'test'")["label"].explode().value_counts()
    assert images.to_dict() == labels.to_dict()


@pytest.mark.slow
def test_figures_of_images_that_an_adapted_model_is_not_for_are_told(dataset: Dataset, candidate: Candidate) -> None:
    rows = dataset.read_manifest()
    stranger = rows.iloc[:1].assign(split="pool", domain="night", path="night.png")
    pd.concat([rows.assign(domain="day"), stranger]).to_parquet(dataset.manifest)
    adapted = candidate.model_copy(update={"chosen": {"adapted": 1.0}})
    [told] = door._elsewhere(dataset, adapted)
    assert "the model is for another one" in told and "ingest.split.target" in told
    assert door._elsewhere(dataset, candidate) == []
    rows.assign(domain="day").to_parquet(dataset.manifest)  # the pool is of the same domain
    assert door._elsewhere(dataset, adapted) == []


def test_predictions_say_what_was_given_and_how_probable_each_class_was(
    dataset: Dataset, candidate: Candidate, several: bool, workspace: Workspace
) -> None:
    evaluation = door.evaluate_candidate(EvaluateConfig(resamples=100), dataset, FEATURES, candidate, workspace)
    predictions = pd.read_parquet(evaluation.report / "test_predictions.parquet")
    rows = dataset.read_manifest().query("split == 'test'").reset_index(drop=True)
    wanted = predict_probabilities(Head.load(candidate.head), features_of(dataset, FEATURES, rows)[0]).numpy()
    assert list(predictions.columns) == ["path", "label", "hash", "predicted", "probability", "group"]
    assert predictions["path"].tolist() == rows["path"].tolist()
    assert predictions["hash"].tolist() == rows["hash"].tolist()
    assert [list(label) for label in predictions["label"]] == [list(label) for label in rows["label"]]
    if several:
        assert np.array_equal(np.stack(predictions["probability"]), wanted)
        given = [[name for name, p in zip(CLASSES, row, strict=True) if p >= 0.5] for row in wanted]
        assert [list(names) for names in predictions["predicted"]] == given
        assert any(len(names) == 0 for names in given) and any(len(names) > 1 for names in given)
    else:
        assert np.array_equal(predictions["probability"], wanted.max(1))
        assert predictions["predicted"].tolist() == [CLASSES[c] for c in wanted.argmax(1)]


@pytest.mark.slow
def test_what_figures_are_over_is_said_beside_them(
    dataset: Dataset, candidate: Candidate, several: bool, workspace: Workspace
) -> None:
    rows = dataset.read_manifest()
    rows.loc[rows["split"] == "test", "group"] = [f"track {number // 8}" for number in range(40)]
    has = rows["label"].map(lambda label: "bee" in label)
    rows[~has | (rows["split"] != "val")].to_parquet(dataset.manifest, index=False)
    evaluation = door.evaluate_candidate(EvaluateConfig(resamples=100), dataset, FEATURES, candidate, workspace)
    assert evaluation.groups == {"test": 5}
    assert evaluation.classes["val/f1_macro"] == 2 and evaluation.classes["test/f1_macro"] == 3
    assert evaluation.findings[:2] == (
        "val: no image of bee, so that macro figures are over 2 of 3 classes",
        "test: its 40 images come in only 5 groups, so intervals are rough",
    )
    written = json.loads((evaluation.report / "metrics.json").read_text())
    assert {name.split("/")[0] for name, entry in written.items() if entry.get("groups") == 5} == {"test"}
    assert written["val/roc_auc_macro"]["classes"] == 2 and "groups" not in written["val/roc_auc_macro"]
    assert "classes" not in written["val/log_loss"]


@pytest.mark.slow
def test_rates_are_drawn_where_a_candidate_chose_some(
    dataset: Dataset, candidate: Candidate, tmp_path: Path, workspace: Workspace
) -> None:
    rates = tmp_path / "rates.parquet"
    pd.DataFrame({"epoch": [1, 1, 2, 2], "block": ["stem", "head"] * 2, "rate": [0, 1, 0.1, 1]}).to_parquet(rates)
    tuned = candidate.model_copy(update={"rates": rates})
    evaluation = door.evaluate_candidate(EvaluateConfig(resamples=100), dataset, FEATURES, tuned, workspace)
    assert (evaluation.report / "rates.png").is_file()


@pytest.mark.parametrize("known", [True, False])
def test_where_a_head_was_cross_validated_thresholds_are_chosen_on_what_it_had_not_learned_from(
    dataset: Dataset, candidate: Candidate, several: bool, known: bool, tmp_path: Path, workspace: Workspace
) -> None:
    """What the head itself makes of these images, all of which it has learned from, does not count."""
    rows = dataset.read_manifest().replace({"split": {"val": "tune"}})
    rows.to_parquet(dataset.manifest, index=False)
    left_out = rows[rows["split"] == "tune"].iloc[::-1]
    targets = features_of(dataset, FEATURES, left_out)[1].numpy()
    true = targets if several else np.eye(len(CLASSES), dtype=np.float32)[targets]
    probabilities = 0.05 + 0.9 * (true if known else true[:, [1, 2, 0]])
    given = pd.DataFrame({"path": left_out["path"], "probability": list(probabilities)})
    given.to_parquet(tmp_path / "held_out.parquet", index=False)
    crossed = candidate.model_copy(update={"cross_validated": True, "held_out": tmp_path / "held_out.parquet"})
    tuned = dataset.model_copy(update={"choose_on": "tune"})
    config = EvaluateConfig(resamples=100, abstain={"accuracy": 0.9})
    evaluation = door.evaluate_candidate(config, tuned, FEATURES, crossed, workspace)
    decisions = json.loads((evaluation.report / "decisions.json").read_text())
    assert decisions["chosen_on"] == "folds of train"
    assert decisions["abstain"]["threshold"] == (0 if known else None)
    assert ("test/coverage" in evaluation.metrics) == known


@pytest.mark.parametrize("several", [True], indirect=True)
def test_the_surest_mistake_of_an_image_is_shown_with_what_is_wrong(dataset: Dataset) -> None:
    rows = pd.DataFrame({"hash": ["both", "right", "missed", "unsure"]}).assign(path="x", label=None)
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    probabilities = np.array([[0.2, 0.9, 0.1], [0.4, 0.6, 0.4], [0, 0, 0.01], [0.5, 0, 0]], np.float32)
    wrong = _wrong_labels(Answers("val", rows, targets, probabilities), dataset)
    assert wrong["hash"].tolist() == ["missed", "both", "unsure"]
    assert wrong["wrong"].tolist() == ["cat", "bee", "ant"]
    assert wrong["caption"].tolist() == [
        "cat\nlabelled, given 1%", "bee\nnot labelled, given 90%", "ant\nnot labelled, given 50%",
    ]  # fmt: skip
    assert _wrong_labels(Answers("val", rows, targets, targets), dataset).empty
