"""The packaged model gives one answer, whatever way an image comes in."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc.scoring_server import predictions_to_json
from PIL import Image

from tasks.errors import DataError
from tasks.extract.backbones import load_backbone
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.register import served
from tasks.register.classifier import ImageClassifier, package
from tasks.register.door import signature
from tasks.train.heads import Head
from tasks.workspace import Workspace

COLUMNS = ["label", "probability", "top_k"]
CLASSES = ["ant", "bee", "cat", "dog"]


def make_bundle(folder: Path, multi_label: bool) -> Path:
    weights = read_weights("resnet_32px", "builtin", Path("nowhere"))
    backbone, outline = load_backbone("resnet_32px", weights)
    torch.manual_seed(0)
    head = Head(512, 4, multi_label=multi_label)
    head.standardise_like(backbone(torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)).detach())
    if multi_label:
        head.layers.bias.data -= 0.5  # some images have no label at all
    head.save(folder / "trained.safetensors")
    (folder / "packed").mkdir()
    package(
        folder / "packed", outline=outline, weights=weights, recipe=Recipe(32), precision="float32",
        head=folder / "trained.safetensors", classes=CLASSES,
    )  # fmt: skip
    return folder / "packed"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), multi_label=False)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, for images that may have several labels."""
    return make_bundle(tmp_path_factory.mktemp("several"), multi_label=True)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return path


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
    features = torch.cat(list(classifier.engine.run(images, len(images))))
    torch.testing.assert_close(classifier.probabilities(images), head(features).sigmoid().detach())
    answers = classifier.predict(images, top_k=99)
    assert list(answers.columns) == list(classifier.predict([]).columns) == [*COLUMNS, "labels"]
    for row in answers.itertuples():
        assert row.label == row.top_k[0]["label"] and row.probability == row.top_k[0]["probability"]
        assert row.labels == sorted(entry["label"] for entry in row.top_k if entry["probability"] >= 0.5)
    counts = {len(labels) for labels in answers["labels"]}
    assert 0 in counts and max(counts) > 1, counts
    assert classifier.predict(images, top_k=1)["labels"].equals(answers["labels"])


def serve(bundle: Path, multi_label: bool, workspace: Workspace) -> mlflow.pyfunc.PyFuncModel:
    workspace.mlruns.mkdir()
    mlflow.set_tracking_uri(workspace.tracking_uri)
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="model", python_model=served.__file__, artifacts={"bundle": str(bundle)},
            signature=signature(multi_label), pip_requirements=["torch"],
        )  # fmt: skip
    return mlflow.pyfunc.load_model(info.model_uri)


@pytest.fixture
def served_model(bundle: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> mlflow.pyfunc.PyFuncModel:
    monkeypatch.chdir(workspace.root)
    return serve(bundle, False, workspace)


def test_a_served_model_gives_what_its_signature_says(
    bundle: Path, several: Path, photo: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    for multi_label, folder in ((False, bundle), (True, several)):
        home = Workspace(workspace.root / str(multi_label))
        home.root.mkdir()
        model = serve(folder, multi_label, home)
        pictures = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        answer = model.predict(pd.DataFrame({"image": [photo.read_bytes(), *pictures]}))
        stated = model.metadata.signature.outputs
        assert stated.input_names() == COLUMNS + ["labels"] * multi_label
        assert stated == mlflow.models.infer_signature(model_output=answer).outputs
        over_the_network = io.StringIO()
        predictions_to_json(answer, over_the_network)
        assert json.loads(over_the_network.getvalue())["predictions"] == answer.to_dict("records")


def test_bytes_base64_paths_and_pictures_give_one_answer(
    served_model: mlflow.pyfunc.PyFuncModel, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = photo.read_bytes()
    text = base64.b64encode(content).decode()
    ways = [content, text, f"data:image/png;base64,{text}", str(photo), photo, Image.open(io.BytesIO(content))]
    answers = [served_model.predict(pd.DataFrame({"image": [way]}), params={"top_k": 2}) for way in ways]
    answers += [served_model.predict([way], params={"top_k": 2}) for way in ways]
    array = np.asarray(Image.open(photo))
    answers.append(served_model.predict(pd.DataFrame({"image": [array]}), params={"top_k": 2}))
    for answer in answers:
        assert answer.loc[0, "label"] == answers[0].loc[0, "label"] and len(answer.loc[0, "top_k"]) == 2
        assert answer.loc[0, "probability"] == pytest.approx(answers[0].loc[0, "probability"], abs=1e-5)
    with pytest.raises(mlflow.MlflowException, match="in a column 'image'"):
        served_model.predict({"image": array})
    # What comes over the network must not name files of the server.
    monkeypatch.setenv(served.SERVING, "x")
    with pytest.raises(mlflow.MlflowException, match="neither the base64"):
        served_model.predict(pd.DataFrame({"image": [str(photo)]}))
