"""A served model: what MLflow takes and gives back."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server import predictions_to_json
from PIL import Image

from tasks.model.classifier import ImageClassifier
from tasks.model.payload import SERVERS
from tasks.register import served
from tasks.register.door import signature
from tasks.workspace import Workspace

COLUMNS = ["label", "probability", "top_k"]


@pytest.fixture(autouse=True)
def _own_store() -> Iterator[None]:
    yield
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # or it stays for all other tests of the process


def serve(bundle: Path, multi_label: bool, workspace: Workspace) -> mlflow.pyfunc.PyFuncModel:
    workspace.mlruns.mkdir()
    mlflow.set_tracking_uri(workspace.tracking_uri)
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="model", python_model=served.__file__, artifacts={"bundle": str(bundle)},
            signature=signature(ImageClassifier.load(bundle).told), pip_requirements=["torch"],
        )  # fmt: skip
    return mlflow.pyfunc.load_model(info.model_uri)


@pytest.fixture
def served_model(bundle: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> mlflow.pyfunc.PyFuncModel:
    monkeypatch.chdir(workspace.root)
    return serve(bundle, False, workspace)


@pytest.mark.slow
def test_a_served_model_gives_what_its_signature_says(
    bundle: Path, several: Path, photo: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    for multi_label, folder in ((False, bundle), (True, several)):
        home = Workspace(workspace.root / str(multi_label))
        home.root.mkdir()
        model = serve(folder, multi_label, home)
        pictures = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        answer = model.predict(pd.DataFrame({"image": [photo.read_bytes(), b"none", *pictures]}))
        stated = model.metadata.signature.outputs
        assert stated.input_names() == [*COLUMNS, *["labels"] * multi_label, "error"]
        assert stated == mlflow.models.infer_signature(model_output=answer).outputs
        over_the_network = io.StringIO()
        predictions_to_json(answer, over_the_network)
        sent = json.loads(over_the_network.getvalue(), parse_constant=pytest.fail)["predictions"]
        assert sent == answer.to_dict("records") and sent[1]["probability"] is None


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


@pytest.mark.slow
def test_the_column_image_is_read_wherever_it_stands(served_model: mlflow.pyfunc.PyFuncModel, photo: Path) -> None:
    other = photo.with_name("other.png")
    Image.new("RGB", (40, 40), "red").save(other)
    content = photo.read_bytes()
    alone = served_model.predict(pd.DataFrame({"image": [content]}))
    assert [spec.name for spec in served_model.metadata.get_input_schema()] == [served.BARE, "image"]
    for columns in ({"path": [str(other)], "image": [content]}, {"image": [content], "path": [str(other)]}):
        answer = served_model.predict(pd.DataFrame(columns, index=[7]))
        assert answer.loc[7, "probability"] == pytest.approx(alone.loc[0, "probability"], abs=1e-6)
    with pytest.raises(mlflow.MlflowException, match=r"^images are read from a column 'image', and there is none"):
        served_model.predict(pd.DataFrame({"photo": [content]}))


@pytest.mark.slow
def test_one_bad_image_of_three_is_named_and_the_others_are_answered(
    served_model: mlflow.pyfunc.PyFuncModel, photo: Path
) -> None:
    content = photo.read_bytes()
    whole = served_model.predict([content, content])
    assert whole["error"].isna().all() and len(whole) == 2
    for bad, told in [
        ("AAAA", "nothing but zero bytes"),
        (None, "null"),
        (math.nan, "null"),
        ("!", "neither the base64"),
        (b"", "zero bytes"),
    ]:
        answer = served_model.predict(pd.DataFrame({"image": [content, bad, content]}))
        assert answer["error"].isna().tolist() == [True, False, True]
        assert answer.loc[1, "error"].startswith("row 1: ") and told in answer.loc[1, "error"]
        assert answer.loc[1, ["label", "probability", "top_k"]].tolist() == [None, None, None]
        assert answer.loc[[0, 2], "label"].tolist() == whole["label"].tolist()
        with pytest.raises(mlflow.MlflowException, match=f"row 0: .*{told}") as refused:
            served_model.predict(pd.DataFrame({"image": [bad]}))
        assert "\n" not in str(refused.value)
    with pytest.raises(mlflow.MlflowException, match=r"^none of 2 images; row 0: "):
        served_model.predict(["AAAA", None])


@pytest.mark.slow
@pytest.mark.parametrize("variable", sorted(SERVERS))
def test_what_comes_over_the_network_names_no_file_of_the_server(
    served_model: mlflow.pyfunc.PyFuncModel, photo: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(mlflow.MlflowException, match=r"neither the base64 .* nor opened here"):
        served_model.predict(pd.DataFrame({"image": [str(photo)]}))


def test_a_top_k_of_null_is_none_that_was_asked_for(served_model: mlflow.pyfunc.PyFuncModel, photo: Path) -> None:
    asked = served_model.predict([photo], params={"top_k": None})
    assert asked.loc[0, "top_k"] == served_model.predict([photo]).loc[0, "top_k"]


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_below_one_is_told_in_one_line(served_model: mlflow.pyfunc.PyFuncModel, photo: Path, top_k: int) -> None:
    with pytest.raises(mlflow.MlflowException) as refused:
        served_model.predict([photo], params={"top_k": top_k})
    assert refused.value.get_http_status_code() == 400
    refused.value.message = "what MLflow's server puts before it"
    assert refused.value.message == f"top_k is {top_k}: it is how many classes are told, 1 or more"
