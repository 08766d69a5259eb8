"""The packaged model: preprocessing, backbone and head in one folder that needs torch alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open

from tasks.evaluate.decisions import given_labels
from tasks.extract.backbones import Backbone, Outline, load_backbone
from tasks.extract.engine import Engine
from tasks.extract.precision import choose_device, choose_precision
from tasks.extract.weights import Weights
from tasks.ingest.decode import ImageLike
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import Head, predict_probabilities

DESCRIPTION, BACKBONE, HEAD = "classifier.json", "backbone.safetensors", "head.safetensors"


def package(
    folder: Path, *, outline: Outline, weights: Weights, recipe: Recipe, precision: str, head: Path,
    classes: Sequence[str],
) -> None:  # fmt: skip
    """Write everything that a prediction needs into an empty folder: JSON and safetensors, no pickles."""
    description = {
        "classes": list(classes), "backbone": asdict(outline), "recipe": asdict(recipe), "precision": precision,
        "weights": weights.source,
    }  # fmt: skip
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2))
    weights.save(folder / BACKBONE)
    shutil.copyfile(head, folder / HEAD)


class ImageClassifier:
    """A packaged model, ready to predict.

    >>> classifier = ImageClassifier.load(Path("bundle"))
    >>> classifier.predict(["photo.jpg"])[["label", "probability"]]

    Attributes:
        multi_label: whether an image may have several of the classes, or none.
    """

    def __init__(
        self, backbone: Backbone, head: Head, recipe: Recipe, classes: Sequence[str], device: torch.device,
        precision: torch.dtype,
    ) -> None:  # fmt: skip
        self.head, self.recipe, self.classes = head, recipe, list(classes)
        self.multi_label = head.multi_label
        self.engine = Engine(backbone, recipe, device, precision, compile="never")

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> ImageClassifier:
        """Rebuild the model that `package` wrote."""
        description = json.loads((folder / DESCRIPTION).read_text())
        outline = Outline(**description["backbone"] | {"layers": tuple(description["backbone"]["layers"])})
        with safe_open(folder / BACKBONE, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            mean, std = ([float(x) for x in file.metadata()[key].split(",")] for key in ("mean", "std"))
        weights = Weights(state, tuple(mean), tuple(std), description["weights"])  # type: ignore[arg-type]
        backbone, _ = load_backbone(outline.name, weights, outline.layers, outline.pool)
        where = choose_device(device)
        # The precision that the head was trained behind, as far as this machine has it.
        native = choose_precision("auto", where)
        precision = native if description["precision"] == "bfloat16" else torch.float32
        return cls(
            backbone,
            Head.load(folder / HEAD),
            Recipe(**description["recipe"]),
            description["classes"],
            where,
            precision,
        )

    def probabilities(self, images: Sequence[ImageLike]) -> torch.Tensor:
        """Class probabilities float32 ``[N, classes]``; with ``multi_label`` each by itself, so rows need not sum to 1.

        Raises:
            DataError: an image cannot be decoded.
        """
        if not len(images):
            return torch.empty(0, len(self.classes))
        return torch.cat([predict_probabilities(self.head, part) for part in self.engine.run(images, len(images))])

    def predict(self, images: Sequence[ImageLike], top_k: int = 5) -> pd.DataFrame:
        """Predict images.

        Returns:
            One row per image: ``label`` (str, the most probable class), ``probability`` (float, 0..1) and ``top_k``,
            a list of ``{"label", "probability"}`` in falling order. With ``multi_label`` also ``labels``, the list of
            the classes that the image is given (see `tasks.evaluate.decisions`), which may be empty.
        """
        probabilities = self.probabilities(images)
        values, indices = probabilities.topk(min(top_k, len(self.classes)))
        rows = [
            [{"label": self.classes[c], "probability": p} for p, c in zip(ps, cs, strict=True)]
            for ps, cs in zip(values.tolist(), indices.tolist(), strict=True)
        ]
        predictions = pd.DataFrame({
            "label": [row[0]["label"] for row in rows],
            "probability": [row[0]["probability"] for row in rows],
            "top_k": rows,
        })  # fmt: skip
        if self.multi_label:
            predictions["labels"] = given_labels(probabilities.cpu().numpy(), self.classes)
        return predictions
