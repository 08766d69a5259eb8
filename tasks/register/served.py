"""What MLflow loads and serves: an `ImageClassifier` behind MLflow's prediction interface.

MLflow runs this file when it loads the model ("models from code"), so no pickle is involved.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from tasks.errors import DataError
from tasks.ingest.decode import ImageLike
from tasks.register.classifier import ImageClassifier

SERVING = "__pyfunc_model_path__"
"""MLflow's scoring server sets it; strings that come over the network must not name files of this machine."""


class ServedClassifier(PythonModel):
    """Takes a column ``image``: bytes of an image file, the same in base64, or, in Python only, a path, a Pillow
    image or an array. Returns ``label``, ``probability`` and ``top_k`` per image and, where an image may have several
    labels, ``labels``."""

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier = ImageClassifier.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        top_k = int((params or {}).get("top_k", 5))
        try:
            return self.classifier.predict([_image(entry) for entry in _column(model_input)], top_k)
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def _column(model_input: Any) -> Sequence[Any]:
    if isinstance(model_input, pd.DataFrame):
        return model_input["image" if "image" in model_input else model_input.columns[0]].tolist()
    return model_input


def _image(entry: Any) -> ImageLike:
    if isinstance(entry, dict):
        entry = entry.get("image")
    if isinstance(entry, list):
        # MLflow makes rows of a bare array; each would pass for a small grey image.
        raise DataError("an array has to stand in a list or in a column 'image' of a data frame")
    if not isinstance(entry, str):
        return entry
    if SERVING not in os.environ and os.path.isfile(entry):  # unlike Path's, false for what is too long to be a name
        return Path(entry)
    try:
        return base64.b64decode(entry.partition("base64,")[2] or entry, validate=True)
    except binascii.Error as error:
        raise DataError(f"{entry[:60]!r} is neither the base64 of an image file nor a path that exists here") from error


mlflow.models.set_model(ServedClassifier())
