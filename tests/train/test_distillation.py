"""Distillation: each loss against its definition, what teachers answer, and what students make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, one_hot, smooth_l1_loss

from tasks.errors import ConfigurationError
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.preprocess.pictures import Pictures, Views
from tasks.records import FeatureSet
from tasks.rival import Rival
from tasks.target import one_task
from tasks.teachers import Teachers
from tasks.train.check import check_labels
from tasks.train.distillation.check import check_kind
from tasks.train.distillation.head import Errors, fit_student
from tasks.train.distillation.images import Taught
from tasks.train.distillation.lesson import Lesson, lesson_of
from tasks.train.distillation.losses import divergence, relations
from tasks.train.distillation.teachers import answers
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head, predict_probabilities
from tasks.train.method import SearchConfig
from tasks.train.methods import METHODS
from tasks.train.methods.distill import Distill, DistillTuned
from tasks.train.methods.linear import Linear
from tasks.train.methods.mlp import Mlp
from tasks.train.task import Task, labelled
from tasks.train.tuning.module import TuningModule
from tasks.train.tuning.run import tune
from tasks.workspace import Workspace
from tests.train.killed import assert_same, kill
from tests.train.prepared import Prepared


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_that_of_softened_answers_times_the_temperature_squared(temperature: float) -> None:
    student, teacher = drawn(5, 4), drawn(5, 4, seed=1)
    soft = (teacher / temperature).softmax(1)
    expected = temperature**2 * kl_div((student / temperature).log_softmax(1), soft, reduction="batchmean")
    assert divergence(student, soft, temperature, False).mean() == pytest.approx(expected.item(), rel=1e-5)
    assert divergence(teacher, soft, temperature, False).abs().max() < 1e-5
    certain = one_hot(torch.tensor([0, 1, 2, 3, 0]), 4).float()
    hard = cross_entropy(student, certain.argmax(1), reduction="none")
    torch.testing.assert_close(divergence(student, certain, 1.0, False), hard)


def test_of_several_labels_each_has_a_divergence_of_its_own() -> None:
    student, teacher = drawn(5, 3), drawn(5, 3, seed=1)
    p, q = (teacher / 2).sigmoid(), (student / 2).sigmoid()
    expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1)
    torch.testing.assert_close(divergence(student, p, 2.0, True), expected)


def test_relations_are_the_papers_distances_and_angles_whatever_the_widths() -> None:
    student, teacher = drawn(6, 4), drawn(6, 9, seed=1)
    student[3] = student[2]  # a copy, of which no way leads to the other

    def distances(of: torch.Tensor) -> torch.Tensor:
        apart = torch.tensor([[float((a - b).norm()) for b in of] for a in of])
        return apart / apart[apart > 0].mean()

    def cosines(of: torch.Tensor) -> torch.Tensor:
        ways = torch.nn.functional.normalize(of[None] - of[:, None], dim=2)
        return torch.einsum("jiw,jkw->jik", ways, ways)

    near, turned = (smooth_l1_loss(how(student), how(teacher)) for how in (distances, cosines))
    assert relations(student, teacher).item() == pytest.approx((25 * near + 50 * turned).item(), rel=1e-4)
    assert relations(student, 7 * student + 3).item() == pytest.approx(0, abs=1e-5)
    student.requires_grad_()
    relations(student, teacher).backward()
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.abs().max() > 0


def lesson(several: bool, weight: float, temperature: float = 3.0) -> Lesson:
    """Seven images, the first four with labels."""
    labels = (drawn(4, 3) > 0).float() if several else torch.tensor([0, 2, 1, 1])
    given = drawn(7, 3, seed=2) / temperature
    return Lesson(labels, given.sigmoid() if several else given.softmax(1), temperature, weight)


def objective(of: Lesson, logits: torch.Tensor) -> torch.Tensor:
    """What a head's images cost on average, as the docstring has it."""
    if of.multi_label:
        hard = binary_cross_entropy_with_logits(logits[:4], of.labels, reduction="none").sum(1).mean()
    else:
        hard = cross_entropy(logits[:4], of.labels)
    soft = divergence(logits, of.answers, of.temperature, of.multi_label).mean()
    return (1 - of.weight) * hard + of.weight * soft


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("several", [False, True])
def test_errors_of_a_head_are_the_objective_and_its_derivative_in_whatever_parts(several: bool, weight: float) -> None:
    of, logits = lesson(several, weight), drawn(7, 3, seed=3).requires_grad_()
    expected = objective(of, logits)
    (slope,) = torch.autograd.grad(expected, logits)
    found = [Errors(of)(logits.detach()[at].T[None], at) for at in (slice(0, 3), slice(3, 6), slice(6, 9))]
    misses, residuals = (torch.cat(each, dim=-1)[0] for each in zip(*found, strict=True))
    assert misses.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(residuals.T / 7, slope)


@pytest.mark.parametrize("several", [False, True])
def test_batches_of_a_tuned_student_cost_on_average_what_all_images_cost(several: bool) -> None:
    of, logits, features = lesson(several, 0.6), drawn(7, 3, seed=3), drawn(7, 5, seed=4)
    criterion = Taught(of, 0.0, [], 0.0)
    batches = [torch.tensor(numbers) for numbers in ([0, 5], [6, 4], [1, 2], [3])]
    costs = [criterion(logits[numbers], numbers, features[numbers]).item() * len(numbers) / 7 for numbers in batches]
    expected = objective(of, logits).item() / (3 if several else 1)
    assert sum(costs) == pytest.approx(expected, rel=1e-5)
    hidden = [drawn(7, 9, seed=5), drawn(7, 2, seed=6)]
    numbers = batches[2]
    more = Taught(of, 0.0, hidden, 0.5)(logits[numbers], numbers, features[numbers])
    added = sum(relations(features[numbers], each[numbers]).item() for each in hidden) / 4
    assert more.item() == pytest.approx(criterion(logits[numbers], numbers, features[numbers]).item() + added, rel=1e-4)


def teaching(prepared: Prepared, *heads: Path, names: tuple[str, ...] | None = None, **changes: Any) -> Teachers:
    """Heads on a dataset's own features as registered versions."""
    classes = names or prepared.dataset.classes
    values = {
        "fingerprint": "t", "name": "digits", "bundle": heads[0].parent, "classes": classes,
        "data": prepared.dataset.version, "learned_from": ("train", "tune"), "extraction": {}, "geometry": {},
    }  # fmt: skip
    versions = tuple(Rival(**values | {"version": 1 + number} | changes) for number in range(len(heads)))
    return Teachers(fingerprint="t", versions=versions, heads=heads, features=(prepared.features,) * len(heads))


def home_of(prepared: Prepared) -> Path:
    """Where its features lie."""
    return prepared.features.store.parents[2]


@pytest.fixture(scope="module")
def teacher(digits: Prepared) -> Path:
    """A linear head that has learned from all training images of the digits."""
    return digits.train(Linear(), home_of(digits)).head


@pytest.fixture(scope="module")
def shots(digits: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The digits, three of a class with labels, the others of the training images in the pool."""
    rows = digits.dataset.read_manifest()
    later = (rows["split"] == "train") & (rows.groupby(["split", "label"]).cumcount() >= 3)
    unlabelled = rows.assign(split=rows["split"].mask(later, "pool"), label=rows["label"].mask(later, None))
    return digits.with_rows(unlabelled, tmp_path_factory.mktemp("shots"))


def of(prepared: Prepared, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    rows = prepared.dataset.read_manifest()
    return labelled(prepared.dataset, prepared.features, rows[rows["split"] == split])


def accuracy(head: Path, images: tuple[torch.Tensor, torch.Tensor]) -> float:
    return (predict_probabilities(Head.load(head), images[0]).argmax(1) == images[1]).double().mean().item()


def test_with_few_labels_and_a_pool_a_student_comes_near_to_its_teacher(
    digits: Prepared, shots: Prepared, teacher: Path
) -> None:
    images = of(digits, "test")
    alone = accuracy(shots.train(Linear(), home_of(digits)).head, images)
    candidate = shots.train(Distill(teacher=["digits"]), home_of(digits), teaching(digits, teacher))
    assert candidate.method == "distill" and candidate.teachers == ("digits@1",)
    assert alone < 0.85 and accuracy(candidate.head, images) > accuracy(teacher, images) - 0.02 > alone + 0.1
    without = Distill(teacher=["digits"], pool=False)
    assert accuracy(shots.train(without, home_of(digits), teaching(digits, teacher)).head, images) < 0.9


def test_a_student_with_one_answer_only_reads_no_label(shots: Prepared, digits: Prepared, teacher: Path) -> None:
    rows = shots.dataset.read_manifest()
    wrong = rows["label"].where(rows["split"] != "train", "0")
    other = shots.with_rows(rows.assign(label=wrong), shots.dataset.manifest.parent / "..")
    section = Distill(teacher=["digits"], weight=1)
    one, two = (section.fit(replace(each.task(Path()), teachers=teaching(digits, teacher))) for each in (shots, other))
    assert all(torch.equal(one.head.state_dict()[key], value) for key, value in two.head.state_dict().items())


def test_teachers_answer_in_the_students_classes_by_their_names(
    digits: Prepared, teacher: Path, tmp_path: Path
) -> None:
    rows = digits.dataset.read_manifest().query("split == 'val'")
    given = answers(teaching(digits, teacher), digits.dataset, rows)
    torch.testing.assert_close(given, predict_probabilities(Head.load(teacher), of(digits, "val")[0]))
    # A teacher that has the classes the other way round, and one more.
    head = Head.load(teacher)
    turned = Head(head.width, 11)
    turned.mean, turned.std, turned.temperature = head.mean, head.std, head.temperature
    turned.layers.weight.data = torch.cat([head.layers.weight.flip(0), head.layers.weight[:1]])  # type: ignore[operator,union-attr]
    turned.layers.bias.data = torch.cat([head.layers.bias.flip(0), head.layers.bias[:1] + 1])  # type: ignore[operator,union-attr]
    turned.save(tmp_path / "turned.safetensors")
    names = (*reversed(digits.dataset.classes), "ten")
    theirs = teaching(digits, tmp_path / "turned.safetensors", names=names)
    torch.testing.assert_close(answers(theirs, digits.dataset, rows), given)


def test_several_teachers_answer_by_their_mean_at_the_temperature(digits: Prepared, teacher: Path) -> None:
    other = digits.train(Mlp(epochs=1, hidden=16), home_of(digits)).head
    rows = digits.dataset.read_manifest().query("split == 'val'")
    inputs = of(digits, "val")[0]
    with torch.inference_mode():
        expected = sum((Head.load(head)(inputs) / 4).softmax(1) for head in (teacher, other)) / 2
    torch.testing.assert_close(answers(teaching(digits, teacher, other), digits.dataset, rows, 4.0), expected)


@pytest.mark.parametrize("name", ["distill", "distill_tuned"])
def test_numbers_are_refused_before_a_teacher_looks_at_anything(name: str) -> None:
    section = METHODS[name].model_validate({"teacher": "digits"})
    with pytest.raises(ConfigurationError, match=rf"{name} \(train.method\) tells classes: take one of (?!.*distill)"):
        check_labels(section, "photos", "number")


def test_a_students_networks_count_alike(digits: Prepared, teacher: Path, tmp_path: Path) -> None:
    task = replace(digits.task(tmp_path), teachers=teaching(digits, teacher))
    width = task.features.width
    parts = (Part(width - 8), Part(8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "counted", parts)
        head = fit_student(Distill(teacher=["digits"], pool=False), task).head
    assert head.parts == parts
    spread = head.standardised(task.train[0]).square().sum(1).mean()
    first = head.standardised(task.train[0])[:, : width - 8].square().sum(1).mean()
    assert float(first) == pytest.approx(float(spread) / 2, rel=0.35)


def test_what_a_teacher_cannot_teach_is_told(digits: Prepared, shapes: Prepared, teacher: Path, tmp_path: Path) -> None:
    section = Distill(teacher=["digits"])
    refused = {
        "digits@1 (train.teacher) does not know 8, 9, of the classes of ": teaching(
            digits, teacher, names=tuple("01234567xy")
        ),
        "train.teacher names nobody": None,
    }
    for told, teachers in refused.items():
        with pytest.raises(ConfigurationError) as caught:
            digits.train(section, home_of(digits), teachers)
        assert told in str(caught.value)
    [several] = teaching(digits, teacher, targets=one_task(digits.dataset.classes, multi_label=True)).versions
    with pytest.raises(ConfigurationError, match=r"digits@1 \(train.teacher\) tells several labels an image, and what"):
        check_kind(several, "class", "photos")
    check_kind(several, "labels", "photos")
    with pytest.raises(ConfigurationError, match="one has several labels an image and the other one"):
        names = (*shapes.dataset.classes, *"3456789")
        shapes.train(section, home_of(shapes), teaching(digits, teacher, names=names))
    with pytest.raises(ConfigurationError, match=r"train.teacher names nobody"):
        digits.train(Distill(), tmp_path)
    with pytest.raises(ConfigurationError, match=r"distill \(train.search.methods\) learns from .* linear names none"):
        digits.train(Linear(search={"methods": ["linear", "distill"]}), tmp_path)


def test_several_labels_are_taught_as_well(shapes: Prepared) -> None:
    home = home_of(shapes)
    teacher = shapes.train(Linear(), home).head
    rows = shapes.dataset.read_manifest()
    later = (rows["split"] == "train") & (rows.groupby("split").cumcount() >= 20)
    few = rows.assign(split=rows["split"].mask(later, "pool"), label=rows["label"].mask(later, None))
    shots = shapes.with_rows(few, home)
    images = of(shapes, "test")
    student = shots.train(Distill(teacher=["shapes"]), home, teaching(shapes, teacher))

    def right(head: Path) -> float:
        return ((predict_probabilities(Head.load(head), images[0]) >= 0.5) == (images[1] == 1)).double().mean().item()

    assert right(student.head) > right(shots.train(Linear(), home).head) + 0.05
    assert right(student.head) > right(teacher) - 0.03


def test_a_search_varies_what_is_taught(shots: Prepared, digits: Prepared, teacher: Path) -> None:
    section = Distill(teacher=["digits"], search={"trials": 2})
    candidate = shots.train(section, home_of(digits), teaching(digits, teacher))
    assert candidate.method == "distill" and candidate.trials
    tried = pd.read_parquet(candidate.trials)
    assert tried["settings"].str.contains("temperature").any()


def views_of(prepared: Prepared) -> Prepared:
    """With two augmented views of each image."""
    seen = prepared.preprocessed.model_copy(update={"augmented": 2})
    extract = ExtractConfig(precision="fp32", device="cpu", compile="never")
    features: FeatureSet = extract_features(extract, prepared.dataset, seen, Workspace(home_of(prepared)))
    return replace(prepared, preprocessed=seen, features=features)


def test_of_augmented_views_each_is_taught_by_what_the_teacher_saw(shots: Prepared, teacher: Path) -> None:
    ready = views_of(shots)
    teachers = teaching(ready, teacher)
    task = replace(ready.task(Path()), teachers=teachers)
    found = lesson_of(Distill(teacher=["digits"]), task)
    count, pool = ready.dataset.counts["train"], ready.dataset.counts["pool"]
    assert len(found.labels) == 3 * count and len(found.answers) == 3 * count + pool
    head = Head.load(teacher)
    with torch.inference_mode():
        torch.testing.assert_close(found.answers[: 3 * count], (head(task.train[0]) / 2).softmax(1))
        torch.testing.assert_close(found.answers[3 * count :], (head(task.unlabelled) / 2).softmax(1))
    assert torch.equal(found.labels, task.train[1])
    # A tuned student is shown the very pixels.
    pictures, numbers, _ = DistillTuned(teacher=["digits"]).material(task)
    assert len(pictures) == len(numbers) == len(found.answers)
    rows = task.rows("train")
    path = ready.dataset.image(rows["hash"].iloc[4])
    for view in range(3):
        shown = pictures.random(view * count + 4, 32, "crop", 0.4, np.random.default_rng(0))
        assert torch.equal(shown, replace(task.recipe, variant=view)(path))


@pytest.mark.slow
def test_a_tuned_student_learns_from_images_without_labels(shots: Prepared, digits: Prepared, teacher: Path) -> None:
    keys = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-4, "augment": "none", "relations": 0.01}
    section = DistillTuned.model_validate({"teacher": "digits"} | keys)
    rows = shots.dataset.read_manifest()
    small = shots.with_rows(rows.groupby("split").head(200), home_of(digits))
    candidate = small.train(section, home_of(digits), teaching(digits, teacher))
    assert candidate.method == "distill_tuned" and candidate.backbone and candidate.teachers == ("digits@1",)
    alone = small.train(Linear(), home_of(digits))
    assert candidate.score > alone.score + 0.1


@pytest.mark.slow
def test_a_tuned_student_begins_from_one_view_of_unlabelled_images_too(
    shots: Prepared, digits: Prepared, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = shots.with_rows(shots.dataset.read_manifest().groupby("split").head(60), home_of(digits))
    ready = replace(small, preprocessed=small.preprocessed.model_copy(update={"views": "mirrored"}))
    looked: list[str] = []
    monkeypatch.setattr("tasks.train.door.extract_features", lambda *given: looked.append(given[2].views))
    section = DistillTuned(teacher=["digits"], epochs=1, batch_size=20, augment="none")
    assert ready.train(section, home_of(digits), teaching(digits, teacher)).backbone and looked == ["one"]


@pytest.mark.slow
def test_a_tuned_student_that_was_killed_ends_as_an_unbroken_one(
    shots: Prepared, digits: Prepared, teacher: Path, tmp_path: Path
) -> None:
    small = shots.with_rows(shots.dataset.read_manifest().groupby("split").head(60), tmp_path)
    section = DistillTuned(teacher=["digits"], epochs=3, batch_size=20, relations=0.1, ema=0.8)
    teachers = teaching(digits, teacher)
    whole = tune(section, replace(small.task(tmp_path / "whole"), teachers=teachers))
    task = replace(small.task(tmp_path / "broken"), teachers=teachers)
    kill(section, task)
    assert_same(tune(section, task), whole)


@pytest.mark.parametrize("key", [{"mixup": 0.2}, {"cutmix": 1.0}, {"balance": "sampling"}])
def test_no_teacher_looks_at_mixed_images(key: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not for distillation"):
        DistillTuned.model_validate({"teacher": "digits"} | key)


def test_one_teacher_needs_no_brackets() -> None:
    assert Distill.model_validate({"teacher": "digits@3"}).teacher == ["digits@3"]


def test_the_pool_is_read_where_a_trial_of_a_search_asks_for_it() -> None:
    alone = DistillTuned(teacher="digits", head="zero")
    assert not alone.reads_pool
    assert alone.model_copy(update={"search": SearchConfig(methods=["distill_tuned", "distill"])}).reads_pool


def test_views_that_a_teacher_has_looked_at_are_not_changed_any_more() -> None:
    seen: list[torch.Tensor] = []
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    for pictures, kept in ((Mock(spec=Views), True), (Mock(spec=Pictures), False)):
        module = Mock(_mix=None, _losses=[], batches=Mock(pictures=pictures, share=(0, 1), batch_size=4))
        module.method = Mock(augment="trivial", attack=None)
        module.tuning.loss = lambda given, targets: seen.append(given) or torch.zeros(())
        torch.manual_seed(1)
        TuningModule.training_step(module, (images, torch.zeros(4)), 0)
        assert torch.equal(seen[-1], images) == kept
