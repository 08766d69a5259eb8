"""Teachers beside their student, on images that they have not learned from; what they have learned from is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.door import answer, evaluate_candidate
from tasks.evaluate.stage import evaluate
from tasks.evaluate.teachers import report_teachers
from tasks.ingest.objects import object_path
from tasks.ingest.repository import object_store
from tasks.records import Candidate, Evaluation
from tasks.rival import Rival
from tasks.teachers import Teachers
from tasks.train.heads import Head, predict_probabilities
from tasks.train.methods.prototypes import Prototypes
from tasks.train.task import labelled
from tasks.workspace import Workspace
from tests.train.prepared import Prepared, prepare


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def digits(home: Workspace) -> Prepared:
    """Four classes of 40 images each."""
    source = load_digits()
    for digit in range(4):
        (folder := home.root / "digits" / str(digit)).mkdir(parents=True)
        for number in np.flatnonzero(source.target == digit)[:40]:
            image = Image.fromarray((source.images[number] * 255 / 16).round().astype(np.uint8))
            image.save(folder / f"{number}.png", compress_level=0)
    return prepare({"folder": "digits"}, home)


@pytest.fixture(scope="module")
def student(digits: Prepared, home: Workspace) -> Candidate:
    return digits.train(Prototypes(), home.root)


def teachers(digits: Prepared, student: Candidate, **changes: Any) -> Teachers:
    """The student itself as its two teachers, of which the second may be another."""
    values = {
        "fingerprint": "t", "name": "old", "version": 1, "bundle": student.head.parent,
        "classes": digits.dataset.classes, "data": digits.dataset.version, "learned_from": ("train", "tune"),
        "extraction": {}, "geometry": {},
    }  # fmt: skip
    versions = (Rival(**values), Rival(**values | {"version": 2} | changes))
    heads, features = (student.head,) * 2, (digits.features,) * 2
    return Teachers(fingerprint="t", versions=versions, heads=heads, features=features)


def test_teachers_stand_beside_their_student(digits: Prepared, student: Candidate, home: Workspace) -> None:
    found = [answer(split, digits.dataset, digits.features, student) for split in ("val", "test")]
    figures, told = report_teachers(teachers(digits, student), found, digits.dataset, home)
    rows = digits.dataset.read_manifest().query("split == 'test'")
    features, labels = labelled(digits.dataset, digits.features, rows)
    right = (predict_probabilities(Head.load(student.head), features).argmax(1) == labels).double().mean().item()
    value, low, high = figures["test/teacher_accuracy"]
    assert value == pytest.approx(right) and low < value <= high and set(figures) == {
        "val/teacher_accuracy", "test/teacher_accuracy"
    }  # fmt: skip
    assert told[1] == (
        f"test: the teachers {right:.4f}, the student {right:.4f} (accuracy, on {len(rows)} images that no teacher has "
        "learned from)"
    )


def test_what_a_teacher_has_learned_from_is_counted_and_left_out(
    digits: Prepared, student: Candidate, home: Workspace, tmp_path: Path
) -> None:
    rows = digits.dataset.read_manifest()
    # Ten images that the second teacher has learned from are held out now.
    moved = rows[rows["split"] == "train"].index[:10]
    held = digits.with_rows(rows.assign(split=rows["split"].mask(rows.index.isin(moved), "test")), tmp_path)
    found = [answer("test", held.dataset, digits.features, student)]
    figures, told = report_teachers(teachers(digits, student), found, held.dataset, home)
    count = len(found[0].rows)
    assert told[0].startswith(f"test: old@1, a teacher, has learned from 10 of its {count} images, so the student's")
    assert f"on {count - 10} images that no teacher" in told[2] and "test/teacher_accuracy" in figures
    everything = teachers(digits, student, learned_from=("train", "tune", "val", "test"))
    figures, told = report_teachers(everything, found, held.dataset, home)
    assert figures == {} and any(f"old@2, a teacher, has learned from {count} of its" in line for line in told)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"data": "0" * 32 + ".dir"}, "`headstart data pull old@2` fetches it"),
        ({"name": "a/folder", "version": 0, "data": ""}, "a folder does not say what data it is made from"),
    ],
)
def test_a_teacher_whose_data_nobody_has_is_told(
    changes: dict[str, Any], hint: str, digits: Prepared, student: Candidate, home: Workspace
) -> None:
    found = [answer("test", digits.dataset, digits.features, student)]
    figures, told = report_teachers(teachers(digits, student, **changes), found, digits.dataset, home)
    assert "may have learned from images that the student is measured on" in told[0] and hint in told[0]
    assert "test/teacher_accuracy" in figures


def test_once_a_teachers_data_is_here_its_student_is_measured_anew(
    digits: Prepared, student: Candidate, home: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(home.root))
    asked = {"teachers": teachers(digits, student)}
    data = object_path(object_store(home), digits.dataset.version)

    def measured() -> Evaluation:
        config = EvaluateConfig(resamples=100)
        return evaluate_candidate(config, digits.dataset, digits.features, student, home, **asked)

    data.rename(away := data.with_name("away"))
    try:
        before, state = measured(), evaluate.cache_policy.state(**asked)
    finally:
        away.rename(data)
    assert state == [False, False] and evaluate.cache_policy.state(**asked) == [True, True]
    assert evaluate.cache_policy.state() == evaluate.cache_policy.state(teachers=None) == []
    after = measured()
    assert sum("`headstart data pull" in line for line in before.findings) == 2
    assert not any("`headstart data pull" in line for line in after.findings) and after.report != before.report
