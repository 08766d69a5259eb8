"""What MLflow loads and serves: an `ImageClassifier` behind MLflow's prediction interface.

MLflow runs this file when it loads the model ("models from code"), so no pickle is involved.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from tasks.errors import DataError, HeadstartError
from tasks.ingest.decode import ImageLike
from tasks.model.classifier import ImageClassifier
from tasks.model.payload import read_image

COLUMN, BARE = "image", 0
"""The column that is read, and what MLflow calls the only column of a list without names."""

TOP_K = 5
"""How many classes are told where nobody asks for more or fewer."""


class Refused(MlflowException):
    """A request that cannot be answered, told in one line; MLflow's server would put all that was sent before it."""

    def __init__(self, told: str) -> None:
        self.told = told
        super().__init__(told, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return self.told

    @message.setter
    def message(self, _: str) -> None:
        """Stays as it is."""


class ServedClassifier(PythonModel):
    """Takes a column ``image``, wherever it stands, or a list; see `tasks.model.payload` for what an image may be.

    Returns the columns of `tasks.model.told.columns_of` per image, such as ``label``, ``probability`` and ``top_k``. An
    image that cannot be read has null there and the reason in ``error``; a request of such images only is refused.
    """

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier = ImageClassifier.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        try:
            read = [self._read(entry) for entry in _entries(model_input)]
            top_k = (params or {}).get("top_k")
            answers = self._answers(read, TOP_K if top_k is None else int(top_k))
        except HeadstartError as error:
            raise Refused(str(error)) from error
        failed = answers["error"].dropna()
        if len(failed) and len(failed) == len(answers):
            raise Refused(failed.iloc[0] if len(failed) == 1 else f"none of {len(failed)} images; {failed.iloc[0]}")
        if isinstance(model_input, pd.DataFrame) and len(model_input) == len(answers):
            answers.index = model_input.index
        return answers

    def _read(self, entry: Any) -> ImageLike | DataError:
        try:
            return read_image(entry, self.classifier.recipe.limits)
        except DataError as error:
            return error

    def _answers(self, read: Sequence[ImageLike | DataError], top_k: int) -> pd.DataFrame:
        """A row for each; where something is wrong, with nulls as JSON has them."""
        images = {row: image for row, image in enumerate(read) if not isinstance(image, DataError)}
        answers = (
            self.classifier.predict_each(list(images.values()), top_k).set_axis(list(images)).reindex(range(len(read)))
        )
        errors = answers["error"].to_dict() | {row: error for row, error in enumerate(read) if row not in images}
        answers["error"] = [None if pd.isna(error) else f"row {row}: {error}" for row, error in sorted(errors.items())]
        return answers.astype(object).where(answers.notna(), None) if answers["error"].any() else answers


def _entries(model_input: Any) -> Sequence[Any]:
    if not isinstance(model_input, pd.DataFrame):
        return model_input
    column = next((name for name in (COLUMN, BARE) if name in model_input), None)
    if column is None:
        raise DataError(f"images are read from a column {COLUMN!r}, and there is none: name it so, or send a list")
    entries = model_input[column].tolist()
    # MLflow makes one row of {"image": ["...", "..."]}.
    is_one_row_of_many = (
        len(entries) == 1 and isinstance(entries[0], list) and all(isinstance(e, str) for e in entries[0])
    )
    return entries[0] if is_one_row_of_many else entries


mlflow.models.set_model(ServedClassifier())
