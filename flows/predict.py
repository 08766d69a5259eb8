"""Batch prediction with a registered model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image
from prefect import flow

import tasks
from flows.predictions import SUFFIXES, Predictions, schema
from flows.runs.leased import check_delivery, leased
from flows.unlike import Batch
from tasks.encoding import escaped
from tasks.errors import DataError, RegistryError
from tasks.fingerprint import code_version
from tasks.ingest.decode import is_image
from tasks.ingest.storage import MISSING, Entry, count_files, is_hidden, walk
from tasks.model.classifier import ImageClassifier
from tasks.progress import Advance, progress, tell
from tasks.register.registry import CANDIDATE, CHAMPION, check_files, fetch_bundle, get_version, parted
from tasks.register.store import look_into
from tasks.wording import counted
from tasks.workspace import Workspace, check_output

CHUNK, PART = 256, 1024
"""Images that are predicted at once, and those that are written at once."""


def load_classifier(model: str, workspace: Workspace, device: str = "auto") -> tuple[ImageClassifier, str, str]:
    """Load ``name``, ``name@alias`` or ``name@version`` from the registry, or MLflow's address of a version.

    Also returns ``name/version``, and what tells that version from others of its number: a model may have been deleted,
    or the registry be another.

    Raises:
        RegistryError: there is no such model, version or alias, it is not headstart's, or its files are gone.
    """
    name, which = parted(model)
    client = look_into(workspace)
    version = get_version(client, name, which or CHAMPION)
    check_files(client, version)
    if CANDIDATE not in version.tags:
        raise RegistryError(f"model {name!r} version {version.version} was not made by headstart: load it with MLflow")
    made = f"{version.tags[CANDIDATE]} {version.creation_timestamp}"
    bundle = fetch_bundle(client, version, workspace)
    return ImageClassifier.load(bundle, device), f"{name}/{version.version}", made


@flow(name="predict")
def predict(model: str, folder: str, output: str, top_k: int = 5) -> dict[str, int]:
    """Predict every image below a folder and write one row each, in the order of their names; for the columns see
    `flows.predictions.schema`.

    What is an image is told by its content; what is only called as one has a row, too. An image that cannot be decoded
    keeps its row, with the reason in ``error``. A run that was killed goes on where it was, as far as model, images and
    ``top_k`` are the same. Memory does not grow with the images. Where they are unlike those that the model was
    measured on, that is told in a line, and in a JSON beside the output; see `flows.unlike`.

    Returns:
        How many images were ``predicted`` and ``failed``, and how many files are ``other`` than images or ``hidden``.

    Raises:
        ConfigurationError: the file cannot be written by its name or place.
        DataError: the folder is missing or holds no images.
        RegistryError: there is no such model.
        StorageError: the file cannot be written, for example because the disk is full.
    """
    workspace = Workspace.find()
    check_output(target := workspace.resolve(output), SUFFIXES)
    root = workspace.resolve(folder)
    if not root.is_dir():
        raise DataError(f"{root} is no folder: name one that holds images")
    classifier, version, made = load_classifier(model, workspace)
    batch = Batch(classifier)
    classifier.seen = batch.add
    left_out: Counter[str] = Counter()
    key = (
        version,
        made,
        [asdict(each) for each in classifier.told],
        top_k,
        str(root),
        code_version(Path(tasks.__file__).parent),
    )
    with (
        leased(workspace),
        Predictions.begin(target, workspace.cache / "predictions", schema(classifier.told), *key) as predictions,
        progress("predict", total=count_files(root), unit="file") as advance,
    ):
        images = images_below(root, left_out)
        while block := list(islice(images, PART)):
            is_new = predictions.add(
                [(image.relative, image.stamp) for image in block],
                partial(_rows, classifier, block, top_k, version, advance),
            )
            advance(0 if is_new else len(block))
        if not predictions.rows:
            raise DataError(
                f"{root} holds no images: {left_out['other']:,} other and {left_out['hidden']:,} hidden files"
            )
        predictions.finish()
    if line := batch.report(target):
        tell(f"shift\t{line}")
    if before := predictions.rows - predictions.failed - batch.images:
        tell(f"shift\tonly {batch.images:,} images were held against the model's own: {before:,} were predicted before")
    counts = {
        "predicted": predictions.rows - predictions.failed, "failed": predictions.failed,
        "other": left_out["other"], "hidden": left_out["hidden"],
    }  # fmt: skip
    check_delivery(counts, f"{counted(counts['predicted'], 'image')} predicted", workspace)
    return counts


def images_below(root: Path, left_out: Counter[str]) -> Iterator[Entry]:
    """The images below a folder in the order of their names; all else is counted as ``hidden`` or ``other``."""
    for entry in walk(root):
        if is_hidden(entry.relative):
            left_out["hidden"] += 1
        elif is_called_as_image(entry.relative) or entry.stamp == MISSING or is_image(Path(entry.place)):
            yield entry
        else:
            left_out["other"] += 1


def is_called_as_image(name: str) -> bool:
    """Whether a file's name promises an image."""
    return Path(name).suffix.lower() in _suffixes()


@cache
def _suffixes() -> frozenset[str]:
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def _rows(
    classifier: ImageClassifier, images: Sequence[Entry], top_k: int, version: str, advance: Advance
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(images), CHUNK):
        paths = [Path(image.place) for image in images[start : start + CHUNK]]
        for path, row in zip(paths, classifier.rows_of_each(paths, top_k), strict=True):
            error = None if row["error"] is None else escaped(row["error"])
            yield row | {"path": escaped(str(path)), "error": error, "model": version}
        advance(len(paths))
