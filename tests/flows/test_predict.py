"""Batch prediction: a row for every image, also for one that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from flows import predict
from tasks.extract.backbones import load_backbone
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.register.classifier import ImageClassifier
from tasks.train.heads import Head
from tasks.workspace import Workspace


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("several", [False, True])
def test_labels_are_written_where_an_image_may_have_several(
    photos: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, several: bool, ending: str
) -> None:
    model = classifier(several)
    monkeypatch.setattr(predict, "load_classifier", lambda *_: (model, "photos/1"))
    counts = predict.predict.fn("photos", "photos", f"out.{ending}")
    assert counts == {"predicted": 4, "failed": 2}
    target = workspace.root / f"out.{ending}"
    written = pd.read_parquet(target) if ending == "parquet" else pd.read_csv(target)
    columns = ["label", "probability", "top_k", *["labels"] * several, "path", "error", "model"]
    assert list(written.columns) == columns
    assert [Path(path).name for path in written["path"]] == [f"{index}.png" for index in range(6)]
    failed = written["error"].notna()
    assert failed.tolist() == [True, False, False, True, False, False]
    assert written.loc[failed, "label"].isna().all() and (written["model"] == "photos/1").all()
    if several:
        wanted = model.predict(written.loc[~failed, "path"].map(Path).tolist())["labels"]
        got = written.loc[~failed, "labels"]
        assert written.loc[failed, "labels"].isna().all()
        assert [str(labels) if ending == "csv" else list(labels) for labels in got] == [
            str(labels) if ending == "csv" else labels for labels in wanted
        ]
