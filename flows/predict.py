"""Batch prediction with a registered model."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from PIL import Image
from prefect import flow

from tasks.errors import ConfigurationError, DataError, RegistryError
from tasks.ingest.storage import is_hidden, walk
from tasks.progress import progress
from tasks.register.classifier import ImageClassifier
from tasks.register.registry import CANDIDATE, CHAMPION, check_files, get_version
from tasks.workspace import Workspace

CHUNK = 256


def load_classifier(model: str, workspace: Workspace, device: str = "auto") -> tuple[ImageClassifier, str]:
    """Load ``name``, ``name@alias`` or ``name@version`` from the registry; also returns ``name/version``.

    Raises:
        RegistryError: there is no such model, version or alias, it is not headstart's, or its files are gone.
    """
    name, _, which = model.partition("@")
    client = MlflowClient(workspace.tracking_uri)
    version = get_version(client, name, which or CHAMPION)
    check_files(client, version)
    if CANDIDATE not in version.tags:
        raise RegistryError(f"model {name!r} version {version.version} was not made by headstart: load it with MLflow")
    mlflow.set_tracking_uri(workspace.tracking_uri)
    folder = mlflow.artifacts.download_artifacts(f"models:/{name}/{version.version}")
    [bundle] = (path.parent for path in Path(folder).rglob("classifier.json"))
    return ImageClassifier.load(bundle, device), f"{name}/{version.version}"


@flow(name="predict")
def predict(model: str, folder: str, output: str, top_k: int = 5) -> dict[str, int]:
    """Predict every image below a folder and write one row each: path, label, probability, top_k, error, model.

    A model that may give an image several labels adds a column ``labels``, the list of them. An image that cannot be
    decoded keeps its row, with the reason in ``error``.

    Returns:
        The number of images ``predicted`` and ``failed``.

    Raises:
        DataError: the folder is missing or holds no images.
        RegistryError: there is no such model.
    """
    workspace = Workspace.find()
    target = _checked_output(workspace.resolve(output))
    images = list_images(workspace.resolve(folder))
    classifier, version = load_classifier(model, workspace)
    parts = []
    with progress("predict", total=len(images), unit="img") as advance:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            parts.append(_predict_chunk(classifier, chunk, top_k))
            advance(len(chunk))
    predictions = pd.concat(parts, ignore_index=True).assign(model=version)
    temporary = target.with_name(f".{target.name}")
    predictions.to_csv(temporary, index=False) if target.suffix == ".csv" else predictions.to_parquet(
        temporary, index=False
    )
    temporary.replace(target)
    failed = int(predictions["error"].notna().sum())
    return {"predicted": len(predictions) - failed, "failed": failed}


def list_images(folder: Path) -> list[Path]:
    """All files below a folder that are called as images, in the order of their names; hidden ones are left out.

    Raises:
        DataError: the folder is missing or holds no images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name one that holds images")
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [Path(entry.place) for entry in walk(folder) if not is_hidden(entry.relative)]
    images = [path for path in files if path.suffix.lower() in known]
    if not images:
        raise DataError(
            f"{folder} holds no images: none of its {len(files):,} files is called as an image (.jpg, .png...)"
        )
    return images


def _checked_output(target: Path) -> Path:
    if target.suffix not in (".parquet", ".csv"):
        raise ConfigurationError(f"{target}: predictions are written as .parquet or .csv")
    if not target.parent.is_dir():
        raise ConfigurationError(f"{target.parent} is no folder: predictions cannot be written there")
    return target


def _predict_chunk(classifier: ImageClassifier, images: list[Path], top_k: int) -> pd.DataFrame:
    try:
        return classifier.predict(images, top_k).assign(path=[str(image) for image in images], error=None)
    except DataError as error:
        if len(images) == 1:
            # Not the empty list: that an image has none of the labels would be an answer.
            labels = {"labels": None} if classifier.multi_label else {}
            row: dict[str, object] = {"label": None, "probability": float("nan"), "top_k": [], **labels}
            return pd.DataFrame([row | {"path": str(images[0]), "error": str(error)}])
    # Halving finds the few bad ones without giving up batches for the many good ones.
    middle = len(images) // 2
    halves = [_predict_chunk(classifier, half, top_k) for half in (images[:middle], images[middle:])]
    return pd.concat(halves, ignore_index=True)
