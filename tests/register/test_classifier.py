"""The packaged model gives one answer, whatever way an image comes in."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.errors import DataError
from tasks.extract.backbones import load_backbone
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.register import served
from tasks.register.classifier import ImageClassifier, package
from tasks.register.door import SIGNATURE
from tasks.train.heads import Head
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    weights = read_weights("resnet_32px", "builtin", Path("nowhere"))
    backbone, outline = load_backbone("resnet_32px", weights)
    torch.manual_seed(0)
    head = Head(512, 4).standardise_like(backbone(torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)).detach())
    head.save(folder / "trained.safetensors")
    (folder / "packed").mkdir()
    package(
        folder / "packed", outline=outline, weights=weights, recipe=Recipe(32), precision="float32",
        head=folder / "trained.safetensors", classes=["ant", "bee", "cat", "dog"],
    )  # fmt: skip
    return folder / "packed"


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
    assert row["label"] == ["ant", "bee", "cat", "dog"][int(wanted.argmax())]
    assert sum(entry["probability"] for entry in row["top_k"]) == pytest.approx(1, abs=1e-5)
    assert classifier.predict([]).empty
    with pytest.raises(DataError):
        classifier.predict([photo, b"no image"])


@pytest.fixture
def served_model(bundle: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> mlflow.pyfunc.PyFuncModel:
    workspace.mlruns.mkdir()
    mlflow.set_tracking_uri(workspace.tracking_uri)
    monkeypatch.chdir(workspace.root)
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="model", python_model=served.__file__, artifacts={"bundle": str(bundle)}, signature=SIGNATURE,
            pip_requirements=["torch"],
        )  # fmt: skip
    return mlflow.pyfunc.load_model(info.model_uri)


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
