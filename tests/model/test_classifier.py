"""The packaged model gives one answer, whatever way an image comes in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.errors import ConfigurationError, DataError
from tasks.extract.backbones import load_backbone
from tasks.extract.weights import read_weights
from tasks.limits import Limits
from tasks.model.classifier import ImageClassifier
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import Head
from tests.model.conftest import CLASSES, LIMITS

COLUMNS = ["label", "probability", "top_k"]


def test_the_package_predicts_as_its_parts_do(bundle: Path, photo: Path) -> None:
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path("nowhere")))
    with torch.inference_mode():
        wanted = Head.load(bundle / "head.safetensors")(backbone(Recipe(32)(photo)[None])).softmax(1)
    classifier = ImageClassifier.load(bundle, device="cpu")
    torch.testing.assert_close(classifier.probabilities([photo]), wanted, rtol=1e-3, atol=1e-4)
    row = classifier.predict([photo], top_k=99).iloc[0]
    assert row["label"] == CLASSES[int(wanted.argmax())]
    assert sum(entry["probability"] for entry in row["top_k"]) == pytest.approx(1, abs=1e-5)
    assert classifier.predict([]).empty and not classifier.multi_label
    assert list(classifier.predict([photo]).columns) == list(classifier.predict([]).columns) == COLUMNS
    with pytest.raises(DataError):
        classifier.predict([photo, b"no image"])


def test_where_an_image_may_have_several_labels_each_is_given_by_itself(several: Path, photo: Path) -> None:
    classifier = ImageClassifier.load(several, device="cpu")
    assert classifier.multi_label
    head = classifier.head
    pictures = np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    images = [photo, *pictures]
    features = torch.cat(list(classifier.engines[0].run(images, len(images))))
    torch.testing.assert_close(classifier.probabilities(images), head(features).sigmoid().detach())
    answers = classifier.predict(images, top_k=99)
    assert list(answers.columns) == list(classifier.predict([]).columns) == [*COLUMNS, "labels"]
    for row in answers.itertuples():
        assert row.label == row.top_k[0]["label"] and row.probability == row.top_k[0]["probability"]
        assert row.labels == sorted(entry["label"] for entry in row.top_k if entry["probability"] >= 0.5)
    counts = {len(labels) for labels in answers["labels"]}
    assert 0 in counts and max(counts) > 1, counts
    assert classifier.predict(images, top_k=1)["labels"].equals(answers["labels"])


@pytest.mark.parametrize("several_labels", [False, True])
def test_each_image_has_a_row_and_what_cannot_be_decoded_has_its_reason_there(
    bundle: Path, several: Path, photo: Path, several_labels: bool
) -> None:
    classifier = ImageClassifier.load(several if several_labels else bundle, device="cpu")
    pictures = list(np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    wanted = classifier.predict([photo, *pictures])
    bad = [b"no image", photo.read_bytes()[:200]]
    found = classifier.predict_each([bad[0], photo, *pictures[:3], bad[1], *pictures[3:]])
    failed = found["error"].notna()
    assert failed.tolist() == [True, False, False, False, False, True, False, False]
    assert found.loc[failed].drop(columns="error").isna().all(axis=None)
    good = found.loc[~failed].drop(columns="error").reset_index(drop=True)
    assert good["label"].tolist() == wanted["label"].tolist()
    assert good["probability"].tolist() == pytest.approx(wanted["probability"].tolist(), abs=1e-5)
    assert list(found.columns) == [*classifier.predict([]).columns, "error"]
    assert classifier.predict_each([]).empty and classifier.predict_each(pictures)["error"].isna().all()


@pytest.mark.parametrize("top_k", [0, -1])
def test_fewer_classes_than_one_cannot_be_told(bundle: Path, photo: Path, top_k: int) -> None:
    classifier = ImageClassifier.load(bundle, device="cpu")
    with pytest.raises(ConfigurationError, match=f"top_k is {top_k}"):
        classifier.predict([photo], top_k)


def test_a_model_carries_the_limits_that_it_was_trained_under(bundle: Path, tmp_path: Path) -> None:
    classifier = ImageClassifier.load(bundle, device="cpu")
    assert classifier.recipe == Recipe(32, limits=LIMITS)
    classifier.predict([Image.new("RGB", (1000, 1000))])
    with pytest.raises(DataError, match="1001×1000 pixels; the limit is 1,000,000"):
        classifier.predict([Image.new("RGB", (1001, 1000))])
    earlier = tmp_path / "earlier"
    shutil.copytree(bundle, earlier)
    described = json.loads((earlier / "classifier.json").read_text())
    del described["recipe"]["limits"]
    (earlier / "classifier.json").write_text(json.dumps(described))
    assert ImageClassifier.load(earlier, device="cpu").recipe.limits == Limits()
