"""Batch prediction: a row for every image, also for one that cannot be read."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from flows import predict
from flows.predictions import Predictions, schema
from tasks.errors import DataError, StorageError
from tasks.extract.backbones import load_backbone
from tasks.extract.weights import read_weights
from tasks.model.classifier import ImageClassifier
from tasks.model.told import Told
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import Head
from tasks.workspace import Workspace
from tests.register.conftest import Fill, client, elsewhere, empty_store, fill, temporary  # noqa: F401


@pytest.fixture
def photos(workspace: Workspace) -> Path:
    folder = workspace.root / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    for index in (0, 3):
        (folder / f"{index}.png").write_bytes(b"no image")
    return folder


def classifier(several: bool) -> ImageClassifier:
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path("nowhere")))
    torch.manual_seed(0)
    head = Head(512, 3, multi_label=several).eval()
    return ImageClassifier(backbone, head, Recipe(32), ["ant", "bee", "cat"], torch.device("cpu"), torch.float32)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ImageClassifier:
    """A model that need not be registered."""
    loaded = classifier(several=False)
    monkeypatch.setattr(predict, "load_classifier", lambda *_: (loaded, "photos/1", "made once"))
    return loaded


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("several", [False, True])
def test_labels_are_written_where_an_image_may_have_several(
    photos: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, several: bool, ending: str
) -> None:
    model = classifier(several)
    monkeypatch.setattr(predict, "load_classifier", lambda *_: (model, "photos/1", "made once"))
    counts = predict.predict.fn("photos", "photos", f"out.{ending}")
    assert counts == {"predicted": 4, "failed": 2, "other": 0, "hidden": 0}
    target = workspace.root / f"out.{ending}"
    written = pd.read_parquet(target) if ending == "parquet" else pd.read_csv(target)
    columns = ["label", "probability", "top_k", *["labels"] * several, "path", "error", "model"]
    assert list(written.columns) == columns
    assert [Path(path).name for path in written["path"]] == [f"{index}.png" for index in range(6)]
    failed = written["error"].notna()
    assert failed.tolist() == [True, False, False, True, False, False]
    assert written.loc[failed, "label"].isna().all() and (written["model"] == "photos/1").all()
    wanted = model.predict(written.loc[~failed, "path"].map(Path).tolist())
    for column in ("top_k", *["labels"] * several):
        assert written.loc[failed, column].isna().all()
        got = written.loc[~failed, column].map(json.loads if ending == "csv" else list)
        for mine, other in zip(got, wanted[column], strict=True):
            if column == "labels":
                assert mine == other
            else:
                assert [each["label"] for each in mine] == [each["label"] for each in other]
                assert [each["probability"] for each in mine] == pytest.approx(
                    [each["probability"] for each in other], abs=1e-5
                )


def test_every_file_has_a_row_or_is_counted(workspace: Workspace, model: ImageClassifier) -> None:
    folder = workspace.root / "found"
    (folder / "@eaDir").mkdir(parents=True)
    picture = Image.new("RGB", (32, 32), "red")
    for name, format in [
        ("photo", "JPEG"),
        ("two.mpo", "MPO"),
        ("fifth.dat", "PNG"),
        ("x.jpeg", "PNG"),
        ("y.WEBP", "WEBP"),
    ]:
        picture.save(folder / name, format)
    for name in ("broken.png", "notes.txt", "empty", ".hidden", "@eaDir/thumb.jpg"):
        (folder / name).write_bytes(b"" if name == "empty" else b"no image")
    for name in ("pipe.png", "pipe"):
        os.mkfifo(folder / name)
    (folder / "gone.png").symlink_to("nowhere")
    picture.save(os.fsencode(folder) + b"/caf\xe9.png")
    counts = predict.predict.fn("photos", "found", "out.parquet")
    assert counts == {"predicted": 6, "failed": 3, "other": 3, "hidden": 2}
    written = pd.read_parquet(workspace.root / "out.parquet")
    told = {Path(row.path).name: row.error for row in written.itertuples()}
    assert set(told) == {
        "photo", "two.mpo", "fifth.dat", "x.jpeg", "y.WEBP", "caf\\udce9.png", "broken.png", "pipe.png", "gone.png"
    }  # fmt: skip
    assert "not a regular file" in told["pipe.png"] and "No such file" in told["gone.png"]


def test_a_folder_without_images_is_told_and_writes_nothing(workspace: Workspace, model: ImageClassifier) -> None:
    (workspace.root / "texts").mkdir()
    (workspace.root / "texts" / "a.txt").write_text("x")
    with pytest.raises(DataError, match="holds no images: 1 other and 0 hidden files"):
        predict.predict.fn("photos", "texts", "out.csv")
    assert not list(workspace.root.glob("*out.csv*"))


class Killed(BaseException):
    """As if the process had gone."""


def watch(model: ImageClassifier, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the images that the model is asked about."""
    asked: set[str] = set()
    rows_of_each = model.rows_of_each
    monkeypatch.setattr(
        model, "rows_of_each", lambda images, k: asked.update(each.name for each in images) or rows_of_each(images, k)
    )
    return asked


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_killed_run_goes_on_and_writes_what_an_unbroken_one_does(
    photos: Path, workspace: Workspace, model: ImageClassifier, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(predict, "PART", 2)
    asked, dies = watch(model, monkeypatch), True
    rows_of_each = model.rows_of_each

    def dying(images: list[Path], top_k: int) -> list[dict]:
        if images[0].name == "4.png" and dies:
            raise Killed
        return rows_of_each(images, top_k)

    monkeypatch.setattr(model, "rows_of_each", dying)
    target = workspace.root / f"out.{ending}"
    with pytest.raises(Killed):
        predict.predict.fn("photos", "photos", target.name)
    assert asked == {"0.png", "1.png", "2.png", "3.png"} and not list(workspace.root.glob("*out*"))
    dies = False
    asked.clear()
    assert predict.predict.fn("photos", "photos", target.name)["predicted"] == 4
    assert asked == {"4.png", "5.png"}
    went_on = target.read_bytes()
    assert [path.name for path in (workspace.cache / "predictions").iterdir() if path.is_dir()] == []
    predict.predict.fn("photos", "photos", target.name)
    assert len(asked) == 6 and target.read_bytes() == went_on


def test_what_changed_since_the_kill_is_predicted_anew(
    photos: Path, workspace: Workspace, model: ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "PART", 2)
    monkeypatch.setattr(Predictions, "finish", lambda _: None)
    asked = watch(model, monkeypatch)
    predict.predict.fn("photos", "photos", "out.csv")
    asked.clear()
    Image.new("RGB", (40, 40)).save(photos / "3.png")
    predict.predict.fn("photos", "photos", "out.csv")
    assert asked == {"2.png", "3.png"}
    predict.predict.fn("photos", "photos", "out.csv", 1)
    assert len(asked) == 6
    asked.clear()
    monkeypatch.setattr(predict, "load_classifier", lambda *_: (model, "photos/1", "made after the model was deleted"))
    predict.predict.fn("photos", "photos", "out.csv", 1)
    assert len(asked) == 6


def test_versions_that_were_given_one_number_are_told_apart(
    client: MlflowClient,  # noqa: F811
    fill: Fill,  # noqa: F811
    tmp_path: Path,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageClassifier, "load", lambda *_: None)
    monkeypatch.setattr(predict, "fetch_bundle", lambda *_: tmp_path)
    told = []
    for _ in range(2):
        fill(client, "fruit", 1)
        told.append(predict.load_classifier("models:/fruit/1", workspace))
        client.delete_registered_model("fruit")
        shutil.rmtree(tmp_path / "files")
    assert told[0][1] == told[1][1] == "fruit/1" and told[0][2] != told[1][2]


def test_a_model_that_lies_elsewhere_is_fetched_once_into_the_caches(
    client: MlflowClient,  # noqa: F811
    fill: Fill,  # noqa: F811
    elsewhere: str,  # noqa: F811
    temporary: Path,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(client, "fruit", 1)
    place = client.get_model_version_download_uri("fruit", "1").replace("file:", "elsewhere:")
    client.create_model_version("fruit", place, tags={"candidate": "2"})
    monkeypatch.setattr(ImageClassifier, "load", lambda bundle, _: bundle)
    monkeypatch.setattr(predict, "check_files", lambda *_: None)
    first, again = (predict.load_classifier("fruit@2", workspace)[0] for _ in range(2))
    assert first == again and first.is_relative_to(workspace.cache) and (first / "head.safetensors").is_file()
    assert not list(temporary.iterdir())


def test_a_file_that_cannot_be_written_is_told_in_one_line_and_leaves_nothing(
    photos: Path, workspace: Workspace, model: ImageClassifier
) -> None:
    """The limit on a file's size stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StorageError, match="run again: what was computed before is kept") as told:
            predict.predict.fn("photos", "photos", "out.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(told.value)
    assert [path for path in workspace.root.rglob("*.part*")] == [] and not list(workspace.root.glob("*out*"))


def test_two_runs_do_not_write_one_file(photos: Path, workspace: Workspace, model: ImageClassifier) -> None:
    target, folder = workspace.root / "out.csv", workspace.cache / "predictions"
    with Predictions.begin(target, folder, schema([Told()])):
        told = subprocess.run(
            [sys.executable, "-c", ANOTHER, str(target), str(folder)], capture_output=True, text=True, check=True
        )
    assert "out.csv is being written by another" in told.stdout


ANOTHER = """
import sys
from pathlib import Path
from flows.predictions import Predictions, schema
from tasks.errors import ConfigurationError
from tasks.model.told import Told
try:
    with Predictions.begin(Path(sys.argv[1]), Path(sys.argv[2]), schema([Told()])):
        print("both")
except ConfigurationError as error:
    print(error)
"""
