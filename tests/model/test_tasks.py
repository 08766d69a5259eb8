"""A packaged model that tells several things of an image, a number first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from flows.predictions import schema
from tasks.model.classifier import ImageClassifier, package
from tasks.model.told import Told, columns_of
from tasks.register.door import signature
from tasks.train.heads import Head, predict_numbers, predict_probabilities
from tests.model.conftest import CLASSES

TOLD = (
    Told("age", "number", unit="years"), Told("species", "class", tuple(CLASSES)), Told("tags", "labels", ("a", "b")),
    Told("weight", "number", unit="g"),
)  # fmt: skip
COLUMNS = [
    "value", "low", "high", "species", "species_probability", "tags", "weight", "weight_low", "weight_high",
]  # fmt: skip


@pytest.fixture(scope="module")
def manifold(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged network with a head for each task."""
    eye = ImageClassifier.load(bundle, device="cpu")
    folder = tmp_path_factory.mktemp("manifold")
    torch.manual_seed(1)
    heads = {}
    for told in TOLD:
        number = told.kind == "number"
        head = Head(512, 2 if number else len(told.classes), multi_label=told.kind == "labels", number=number)
        head.mean.copy_(eye.head.mean)
        head.std.copy_(eye.head.std)
        if number:
            head.centre.fill_(40)
            head.scale.fill_(12)
        head.save(heads.setdefault(told.name, folder / f"{told.name}.safetensors"))
    (folder / "packed").mkdir()
    from tasks.model.bundle import backbones_in
    from tasks.model.classifier import _eye

    [(about, weights)] = backbones_in(bundle)
    leading = heads.pop("age")
    package(folder / "packed", **vars(_eye(about, weights)), head=leading, classes=(), told=TOLD, further=heads)
    return folder / "packed"


def test_each_task_has_its_columns_by_its_own_head(manifold: Path, photo: Path) -> None:
    classifier = ImageClassifier.load(manifold, device="cpu")
    assert classifier.told == TOLD and classifier.number and not classifier.multi_label
    pictures = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    images = [photo, *pictures]
    features = torch.cat(list(classifier.engines[0].run(images, len(images))))
    seen: list[torch.Tensor] = []
    classifier.seen = lambda _, answers: seen.append(answers)
    found = classifier.predict(images)
    assert list(found.columns) == COLUMNS == list(columns_of(TOLD)) == list(classifier.predict([]).columns)
    means, spreads = predict_numbers(classifier.head, features)
    assert found["value"].tolist() == pytest.approx(means.tolist()) and seen[0].shape == (13, 2)
    assert (found["high"] - found["value"]).tolist() == pytest.approx((1.6448536 * spreads).tolist(), rel=1e-4)
    assert (found["value"] - found["low"]).tolist() == pytest.approx((1.6448536 * spreads).tolist(), rel=1e-4)
    species = predict_probabilities(classifier.further["species"], features)
    assert found["species"].tolist() == [CLASSES[place] for place in species.argmax(1)]
    assert found["species_probability"].tolist() == pytest.approx(species.amax(1).tolist())
    tags = predict_probabilities(classifier.further["tags"], features) >= 0.5
    assert found["tags"].tolist() == [[n for n, yes in zip("ab", row, strict=True) if yes] for row in tags.tolist()]
    assert found["weight"].tolist() == pytest.approx(
        predict_numbers(classifier.further["weight"], features)[0].tolist()
    )


def test_tables_and_signatures_have_these_columns(manifold: Path, photo: Path) -> None:
    classifier = ImageClassifier.load(manifold, device="cpu")
    found = classifier.predict_each([photo, b"none"])
    assert found["error"].notna().tolist() == [False, True] and found.loc[1, COLUMNS].isna().all()
    assert schema(TOLD).names == [*COLUMNS, "path", "error", "model"]
    assert signature(TOLD).outputs.input_names() == [*COLUMNS, "error"]
    types = dict(zip(schema(TOLD).names, map(str, schema(TOLD).types), strict=True))
    assert types["value"] == "double" and types["species"] == "string" and "list" in types["tags"]
    assert json.loads(found.iloc[:1].to_json(orient="records"))[0]["species"] in CLASSES


def test_a_package_of_an_earlier_version_has_one_task(bundle: Path, several: Path, tmp_path: Path, photo: Path) -> None:
    for folder, kind in ((bundle, "class"), (several, "labels")):
        assert "targets" not in json.loads((folder / "classifier.json").read_text())
        classifier = ImageClassifier.load(folder, device="cpu")
        assert classifier.told == (Told("label", kind, tuple(CLASSES)),) and classifier.further == {}
    noted = tmp_path / "noted"
    shutil.copytree(bundle, noted)
    about = json.loads((noted / "classifier.json").read_text())
    about["targets"] = [{"name": "insect", "kind": "class", "classes": CLASSES, "unit": ""}]
    (noted / "classifier.json").write_text(json.dumps(about))
    mine, theirs = (ImageClassifier.load(each, device="cpu").predict([photo]) for each in (noted, bundle))
    pd.testing.assert_frame_equal(mine, theirs)
