"""The train stage on real features: what each method reaches, what is kept of it, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from tasks.errors import ConfigurationError
from tasks.evaluate.door import answer
from tasks.evaluate.scores.metrics import score
from tasks.extract.backbones import load_backbone
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.model.classifier import ImageClassifier, package
from tasks.train.heads import Head, predict_probabilities
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.methods.linear import Linear
from tasks.train.methods.mlp import Mlp
from tasks.train.methods.partial import Partial
from tasks.train.solvers import Fit, fit_linear
from tasks.train.targets import Labelled, merit
from tasks.train.task import Task, labelled
from tasks.workspace import Workspace
from tests.train.prepared import Prepared, prepare

ROOT = Path(__file__).parent.parent.parent

REACHED = {"linear": 0.95, "ridge": 0.93, "mlp": 0.93, "prototypes": 0.84, "knn": 0.9}
"""Accuracies of the methods on cached features of digits that they have not seen."""


def of(ready: Prepared, split: str) -> Labelled:
    rows = ready.dataset.read_manifest()
    return labelled(ready.dataset, ready.features, rows[rows["split"] == split])


def accuracy(head: Head, images: Labelled) -> float:
    return (predict_probabilities(head, images[0]).argmax(1) == images[1]).double().mean().item()


def test_a_training_that_diverged_is_told_in_a_line(digits: Prepared, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"diverged, its weights or answers are no numbers: lower train\.learn"
    ):
        digits.train(Mlp(learning_rate=1e30, epochs=2), tmp_path)


def test_answers_that_are_no_numbers_are_right_of_no_image_and_a_training_that_gives_them_is_no_choice(
    digits: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = torch.full((4, 3), torch.nan)
    assert merit(wrong, torch.zeros(4, dtype=torch.long)) == 0
    wrong[0] = torch.tensor([2.0, 1.0, 0.0])
    assert merit(wrong, torch.zeros(4, dtype=torch.long)) == 0.25

    def fit(self: Linear, task: Task) -> Fit:
        found = fit_linear(task.train, task.validation, task.classes)
        if task.seed < 2:  # weights are numbers still, and answers are none
            found.head.layers.weight.data.fill_(3e38)
        return found

    monkeypatch.setattr(Linear, "fit", fit)
    assert digits.train(Linear(seeds=[0, 1, 2]), tmp_path).scores[2] > 0.9
    with pytest.raises(ConfigurationError, match="its weights or answers are no numbers"):
        digits.train(Linear(seeds=[0, 1]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", REACHED)
def test_each_method_learns_the_digits_and_its_head_is_the_same_from_a_file_and_in_a_package(
    name: str, digits: Prepared, tmp_path: Path
) -> None:
    candidate = digits.train(METHODS[name](), tmp_path)
    head = Head.load(candidate.head)
    assert accuracy(head, of(digits, "test")) >= REACHED[name]
    assert candidate.method == name and candidate.score == accuracy(head, of(digits, "val"))
    assert candidate.scores == {} and candidate.backbone is candidate.rates is candidate.trials is None
    curves = pd.read_parquet(candidate.curves)
    assert candidate.score in curves["val/accuracy"].tolist() and curves["step"].is_monotonic_increasing
    assert head.temperature != 1

    task = digits.task(tmp_path)
    fitted = METHODS[name]().fit(task).head
    fitted.temperature.copy_(head.temperature)
    inputs = of(digits, "test")[0][:40]
    assert torch.equal(predict_probabilities(fitted, inputs), predict_probabilities(head, inputs))

    _, outline = load_backbone("resnet_32px", task.weights, digits.features.layers, digits.features.pool)
    (tmp_path / "bundle").mkdir()
    package(
        tmp_path / "bundle", outline=outline, weights=task.weights, recipe=task.recipe, precision="float32",
        head=candidate.head, classes=digits.dataset.classes,
    )  # fmt: skip
    rows = digits.dataset.read_manifest()
    images = [digits.dataset.image(hash) for hash in rows[rows["split"] == "test"]["hash"][:40]]
    served = ImageClassifier.load(tmp_path / "bundle", device="cpu").probabilities(images)
    torch.testing.assert_close(served, predict_probabilities(head, inputs), atol=2e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "balance"), [("linear", "weights"), ("ridge", "weights"), ("mlp", "weights"), ("mlp", "sampling")]
)
def test_balance_finds_more_of_classes_that_are_rare(name: str, balance: str, digits: Prepared, tmp_path: Path) -> None:
    rows = digits.dataset.read_manifest()
    rare = (rows["split"] == "train") & rows["label"].isin(list("13589"))
    few = digits.with_rows(rows[~rare | (rows.groupby(["split", "label"]).cumcount() < 4)], tmp_path)
    inputs, labels = of(few, "test")
    looked_for = torch.isin(labels, torch.tensor([1, 3, 5, 8, 9]))
    found = {}
    for way in ("none", balance):
        head = Head.load(few.train(METHODS[name](balance=way), tmp_path).head)
        found[way] = accuracy(head, (inputs[looked_for], labels[looked_for]))
        assert accuracy(head, (inputs[~looked_for], labels[~looked_for])) > 0.85
    assert found[balance] > found["none"] + 0.1


@pytest.mark.parametrize("name", ["linear", "mlp", "ridge", "knn"])
def test_images_may_have_several_labels(name: str, shapes: Prepared, tmp_path: Path) -> None:
    candidate = shapes.train(METHODS[name](), tmp_path)
    head = Head.load(candidate.head)
    assert head.multi_label and shapes.dataset.multi_label
    (seen, wanted), (inputs, targets) = of(shapes, "val"), of(shapes, "test")
    assert candidate.score == pytest.approx(average_precision_score(wanted, predict_probabilities(head, seen)))
    assert average_precision_score(targets, predict_probabilities(head, inputs)) > 0.93
    assert ((predict_probabilities(head, inputs) >= 0.5) == (targets == 1)).double().mean() > 0.9
    curves = pd.read_parquet(candidate.curves)
    assert candidate.score in curves["val/average_precision"].tolist()


def test_several_labels_are_refused_by_what_cannot_give_them(shapes: Prepared, tmp_path: Path) -> None:
    refused = {
        "prototypes (train.method) gives one": METHODS["prototypes"](),
        "prototypes (train.methods) gives one": METHODS["auto"](methods=["linear", "prototypes"]),
        "prototypes (train.search.methods) gives one": Mlp(search={"methods": ["linear", "prototypes"]}),
        "leave train.balance at none": Linear(balance="weights"),
    }
    for told, method in refused.items():
        with pytest.raises(ConfigurationError, match="several labels each") as caught:
            shapes.train(method, tmp_path)
        assert told in str(caught.value)
    assert not (tmp_path / ".headstart").exists()


def test_of_several_seeds_the_best_on_validation_is_kept_and_all_scores_are_told(
    digits: Prepared, tmp_path: Path
) -> None:
    short = {"epochs": 2, "hidden": 16}
    candidate = digits.train(Mlp(seeds=[0, 1, 2], **short), tmp_path / "all")
    alone = {seed: digits.train(Mlp(seed=seed, **short), tmp_path / str(seed)) for seed in (0, 1, 2)}
    assert candidate.scores == {seed: one.score for seed, one in alone.items()}
    assert len(set(candidate.scores.values())) > 1
    best = max(candidate.scores, key=candidate.scores.__getitem__)
    assert candidate.score == candidate.scores[best]
    assert candidate.head.read_bytes() == alone[best].head.read_bytes()


def test_features_are_read_once_for_all_seeds_and_trials(digits: Prepared, tmp_path: Path) -> None:
    task = digits.task(tmp_path)
    other = replace(task, folder=tmp_path / "other", seed=1)
    assert task.train[0] is task.plain[0] is other.train[0] and other.validation[0] is task.validation[0]
    assert task.weights is other.weights and digits.task(tmp_path).train[0] is not task.train[0]


@pytest.mark.slow
def test_a_head_that_learned_from_all_images_is_not_calibrated_on_them(digits: Prepared, tmp_path: Path) -> None:
    rows = digits.dataset.read_manifest()
    small = rows[rows["split"] != "test"].replace({"split": {"val": "tune"}}).groupby(["split", "label"]).head(40)
    ready = digits.with_rows(small, tmp_path, choose_on="tune")
    assert ready.task(tmp_path).is_cross_validated
    made = [ready.train(METHODS[name](), tmp_path) for name in ("linear", "mlp")]
    linear, mlp = (Head.load(each.head) for each in made)
    everything = ready.task(tmp_path).everything[0]
    assert len(everything) == len(small) and torch.allclose(linear.mean, everything.mean(0), atol=1e-6)
    assert linear.temperature == 1 and mlp.temperature != 1
    assert made[1].held_out is None and made[0].held_out is not None
    given = pd.read_parquet(made[0].held_out).set_index("path")["probability"]
    labels = small.set_index("path")["label"]
    assert set(given.index) == set(labels.index)
    predicted = [ready.dataset.classes[each.argmax()] for each in given]
    assert (labels[given.index] == predicted).mean() == pytest.approx(made[0].score, abs=0.03)
    assert not torch.allclose(mlp.mean, linear.mean, atol=1e-3)
    plain = Head.load(ready.train(Mlp(calibrate=False), tmp_path).head)
    assert plain.temperature == 1 and torch.equal(plain.layers[0].weight, mlp.layers[0].weight)


def test_a_tuned_backbone_is_kept_beside_its_head(few: Prepared, tmp_path: Path) -> None:
    method = Partial(epochs=1, blocks=1, augment="none", batch_norm="frozen", precision="fp32")
    candidate = few.train(method, tmp_path)
    assert candidate.backbone is not None and candidate.rates is not None
    assert not list((tmp_path / ".headstart" / "checkpoints").iterdir())
    weights = few.task(tmp_path).weights
    tuned = replace(few.task(tmp_path), features=few.features.model_copy(update={"weights": "file"}))
    tuned = replace(tuned, weights_file=candidate.backbone, known={})
    assert tuned.weights.mean == weights.mean and tuned.weights.state.keys() >= weights.state.keys()
    changed = [key for key, tensor in weights.state.items() if not torch.equal(tensor, tuned.weights.state[key])]
    assert changed and len(changed) < len(weights.state) / 2


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Stripes in noise, three times as large as the network sees them, so that a second resizing would change them."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(90):
        stripes = 10 * np.sin(np.arange(97) * random.uniform(0.5, 1.5))
        noise = random.normal(128, 60, (97, 131))
        for name, pattern in (("across", stripes[:, None]), ("along", np.resize(stripes, 131))):
            path = folder / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((noise + pattern).clip(0, 255).astype(np.uint8)).save(path)
    return prepare({"folder": str(folder / "photos")}, Workspace(folder))


TUNED: dict[str, dict[str, Any]] = {
    "averages of two seeds": {"ema": 0.5, "batch_norm": "update", "seeds": [0, 1]},
    "ten views": {"calibrate": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TUNED)
def test_the_score_of_a_tuned_backbone_is_the_figure_that_is_evaluated(
    name: str, photos: Prepared, tmp_path: Path
) -> None:
    ready = photos
    if name == "ten views":
        ready = replace(photos, preprocessed=photos.preprocessed.model_copy(update={"views": "ten"}))
    method = METHODS["full"].model_validate({"epochs": 2, "batch_size": 32, "augment": "none"} | TUNED[name])
    candidate = ready.train(method, tmp_path)
    tuned = ExtractConfig(precision="fp32", device="cpu", compile="never", weights=str(candidate.backbone))
    features = extract_features(tuned, ready.dataset, ready.preprocessed, Workspace(tmp_path), ("val",))
    assert features.reused == ready.dataset.counts["val"]  # what is evaluated is what was scored
    answers = answer("val", ready.dataset, features, candidate)
    measured = score(answers.targets, answers.probabilities, ready.dataset.classes, resamples=2).metrics
    assert candidate.score == measured["accuracy"][0]
    curves = pd.read_parquet(candidate.curves)
    kept = curves[curves["step"] == candidate.chosen["epoch"]].iloc[0]
    assert kept["val/accuracy"] == candidate.score == max(candidate.scores.values(), default=candidate.score)
    if not method.calibrate:
        assert kept["val/loss"] == pytest.approx(measured["log_loss"][0], rel=1e-4)
    assert 0.5 < candidate.score < 1


@pytest.mark.slow
def test_what_is_served_by_other_views_is_another_candidate(few: Prepared, tmp_path: Path) -> None:
    mirrored = replace(few, preprocessed=few.preprocessed.model_copy(update={"views": "mirrored"}))
    method = Partial(blocks=1, epochs=1, batch_size=16, augment="none", calibrate=False)
    one, other = (each.train(method, tmp_path) for each in (few, mirrored))
    assert one.fingerprint != other.fingerprint and one.head != other.head


def test_what_an_earlier_training_left_is_not_mistaken_for_a_later_one(digits: Prepared, tmp_path: Path) -> None:
    """As a search within so many minutes may, this method ends another way each time."""
    number = count(1)

    class Moody(Method):
        method: Literal["moody"] = "moody"

        def fit(self, task: Task) -> Fit:
            fit = METHODS["ridge"]().fit(task)
            fit.chosen, fit.score = {"mood": float(next(number))}, 0.5
            fit.head.layers.bias.data.fill_(fit.chosen["mood"])
            return fit

    candidates = [digits.train(Moody(), tmp_path) for _ in range(2)]
    biases = [Head.load(candidate.head).layers.bias[0].item() for candidate in candidates]
    assert biases == [candidate.chosen["mood"] for candidate in candidates] == [1, 2]


@pytest.mark.slow
def test_the_same_candidate_made_twice_from_nothing_has_one_name(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 160)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(level, level + 60, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    told = []
    for _ in range(2):
        command = [sys.executable, "-m", "tests.train.named", str(tmp_path)]
        told.append(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        shutil.rmtree(tmp_path / ".headstart")
    assert told[0] == told[1] and len(set(told[0].split()[1::2])) == 2, told
