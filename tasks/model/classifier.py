"""The packaged model: preprocessing, backbone and head in one folder that needs torch alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch

from tasks.errors import ConfigurationError, DataError
from tasks.extract import tensors
from tasks.extract.backbones import Backbone, Outline, load_backbone
from tasks.extract.engine import Engine
from tasks.extract.precision import choose_device, choose_precision
from tasks.extract.weights import Weights
from tasks.ingest.decode import ImageLike
from tasks.limits import Limits
from tasks.model.bundle import DESCRIPTION, HEAD, REFERENCE, backbone_file, backbones_in, describe, head_file
from tasks.model.decisions import given_labels
from tasks.model.reference import Reference
from tasks.model.told import REACH, Told, columns_of
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import Head, predict_numbers, predict_probabilities


@dataclass(frozen=True)
class Eye:
    """A backbone as it goes into a package.

    Attributes:
        recipe: how it looks at images.
        precision: that the head was trained behind, ``float32`` or ``bfloat16``.
    """

    outline: Outline
    weights: Weights
    recipe: Recipe
    precision: str

    def backbone(self) -> Backbone:
        """A network with its weights."""
        outline = self.outline
        return load_backbone(outline.name, self.weights, outline.layers, outline.pool, outline.size)[0]

    @property
    def description(self) -> dict[str, Any]:
        """What is noted of it."""
        return {
            "backbone": asdict(self.outline), "recipe": asdict(self.recipe), "precision": self.precision,
            "weights": self.weights.source,
        }  # fmt: skip


def package(
    folder: Path, *, outline: Outline, weights: Weights, recipe: Recipe, precision: str, head: Path,
    classes: Sequence[str], reference: Path | None = None, beside: Sequence[Eye] = (), told: Sequence[Told] = (),
    further: Mapping[str, Path] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Write everything that a prediction needs into an empty folder: JSON and safetensors, no pickles.

    Args:
        reference: what the model is used to (see `tasks.model.reference`), which goes with it.
        beside: further backbones, whose features follow.
        told: the tasks, the leading one first; by default one, of ``classes``. ``further``: heads of the others.
    """
    eyes = [Eye(outline, weights, recipe, precision), *beside]
    description: dict[str, Any] = {"classes": list(classes), **eyes[0].description}
    if beside:
        description["beside"] = [eye.description for eye in beside]
    if told:
        description["targets"] = [asdict(each) for each in told]
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2))
    for place, eye in enumerate(eyes, 1):
        eye.weights.save(folder / backbone_file(place))
    shutil.copyfile(head, folder / HEAD)
    for name, file in further.items():
        shutil.copyfile(file, folder / head_file(name))
    if reference:
        shutil.copyfile(reference, folder / REFERENCE)


class ImageClassifier:
    """A packaged model, ready to predict.

    >>> classifier = ImageClassifier.load(Path("bundle"))
    >>> classifier.predict(["photo.jpg"])[["label", "probability"]]

    Attributes:
        engines: a backbone each, made ready; their features stand side by side.
        multi_label: whether an image may have several of the classes, or none; number: whether a number is told.
        told: the tasks, the leading one first; further: the heads of the others.
        reference: what it is used to; None of models of earlier versions.
        seen: called with features of each batch and what the leading head makes of them, as `answers` has it, where
            somebody wants to know of them.
    """

    def __init__(
        self, backbone: Backbone, head: Head, recipe: Recipe, classes: Sequence[str], device: torch.device,
        precision: torch.dtype, beside: Sequence[Engine] = (), told: Sequence[Told] = (),
        further: Mapping[str, Head] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.head, self.recipe, self.classes = head, recipe, list(classes)
        self.multi_label, self.number = head.multi_label, head.number
        self.told = tuple(told) or (Told(kind=head.tells, classes=tuple(classes)),)
        self.further = dict(further)
        self.reference: Reference | None = None
        self.seen: Callable[[torch.Tensor, torch.Tensor], None] | None = None
        self.engines = [Engine(backbone, recipe, device, precision, compile="never"), *beside]

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> ImageClassifier:
        """Rebuild the model that `package` wrote."""
        where = choose_device(device)
        native = choose_precision("auto", where)
        eyes = [_eye(about, weights) for about, weights in backbones_in(folder)]
        # The precision that the head was trained behind, as far as this machine has it.
        precise = [native if eye.precision == "bfloat16" else torch.float32 for eye in eyes]
        beside = [
            Engine(eye.backbone(), eye.recipe, where, precision, compile="never")
            for eye, precision in list(zip(eyes, precise, strict=True))[1:]
        ]
        head, about = Head.load(folder / HEAD), describe(folder)
        told = [Told.read(noted) for noted in about.get("targets", ())]
        further = {each.name: Head.load(folder / head_file(each.name)) for each in told[1:]}
        classifier = cls(
            eyes[0].backbone(), head, eyes[0].recipe, about["classes"], where, precise[0], beside, told, further
        )
        if (folder / REFERENCE).is_file():
            classifier.reference = Reference.load(folder / REFERENCE)
        return classifier

    def probabilities(self, images: Sequence[ImageLike]) -> torch.Tensor:
        """Class probabilities float32 ``[N, classes]``; with ``multi_label`` each by itself, so rows need not sum to 1.

        Raises:
            DataError: an image cannot be decoded.
        """
        return self.answers(images)[0]

    def answers(self, images: Sequence[ImageLike]) -> list[torch.Tensor]:
        """What each head makes of images, the leading one first: probabilities float32 ``[N, classes]`` or, of a
        number, its mean and standard deviation ``[N, 2]``.

        Raises:
            DataError: an image cannot be decoded.
        """
        heads = [self.head, *(self.further[each.name] for each in self.told[1:])]
        if not len(images):
            return [torch.empty(0, head.classes) for head in heads]
        features = torch.cat([torch.cat(list(engine.run(images, len(images)))) for engine in self.engines], 1)
        found = [answer(head, features) for head in heads]
        if self.seen:
            self.seen(features, found[0])
        return found

    def predict(self, images: Sequence[ImageLike], top_k: int = 5) -> pd.DataFrame:
        """Predict images.

        Returns:
            One row per image: ``label`` (str, the most probable class), ``probability`` (float, 0..1) and ``top_k``,
            a list of ``{"label", "probability"}`` in falling order. With ``multi_label`` also ``labels``, the list of
            the classes that the image is given (see `tasks.model.decisions`), which may be empty. For a number and for
            further tasks see `tasks.model.told.columns_of`.

        Raises:
            DataError: an image cannot be decoded.
            ConfigurationError: ``top_k`` is less than 1.
        """
        return pd.DataFrame(self._rows(images, top_k), columns=self.columns)

    def predict_each(self, images: Sequence[ImageLike], top_k: int = 5) -> pd.DataFrame:
        """As `predict`; an image that cannot be decoded keeps its row, with nothing but the reason in ``error``, which
        is null for all others.

        Raises:
            ConfigurationError: ``top_k`` is less than 1.
        """
        return pd.DataFrame(self.rows_of_each(images, top_k), columns=[*self.columns, "error"])

    @property
    def columns(self) -> list[str]:
        """Of a prediction."""
        return list(columns_of(self.told))

    def _rows(self, images: Sequence[ImageLike], top_k: int) -> list[dict[str, Any]]:
        if top_k < 1:
            raise ConfigurationError(f"top_k is {top_k}: it is how many classes are told, 1 or more")
        first, *others = self.answers(images)
        rows = numbers_in(first, ("value", "low", "high")) if self.number else self._ranked(first, top_k)
        for told, found in zip(self.told[1:], others, strict=True):
            rows = [row | more for row, more in zip(rows, told_beside(told, found), strict=True)]
        return rows

    def _ranked(self, probabilities: torch.Tensor, top_k: int) -> list[dict[str, Any]]:
        values, indices = probabilities.topk(min(top_k, len(self.classes)))
        rows: list[dict[str, Any]] = []
        for ps, cs in zip(values.tolist(), indices.tolist(), strict=True):
            top = [{"label": self.classes[c], "probability": p} for p, c in zip(ps, cs, strict=True)]
            rows.append({**top[0], "top_k": top})
        if self.multi_label:
            for row, labels in zip(rows, given_labels(probabilities.cpu().numpy(), self.classes), strict=True):
                row["labels"] = labels
        return rows

    def rows_of_each(self, images: Sequence[ImageLike], top_k: int = 5) -> list[dict[str, Any]]:
        """What `predict_each` tells, as a list; of an image that cannot be decoded, ``error`` only."""
        try:
            return [{**row, "error": None} for row in self._rows(images, top_k)]
        except DataError as error:
            if len(images) == 1:
                return [{"error": str(error)}]
        # Halving finds the few bad ones without giving up batches for the many good ones.
        middle = len(images) // 2
        return self.rows_of_each(images[:middle], top_k) + self.rows_of_each(images[middle:], top_k)


def answer(head: Head, features: torch.Tensor) -> torch.Tensor:
    """What a head makes of features ``[N, width]``; see `ImageClassifier.answers`."""
    return torch.stack(predict_numbers(head, features), 1) if head.number else predict_probabilities(head, features)


def numbers_in(found: torch.Tensor, names: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Means and standard deviations ``[N, 2]`` as rows: the number, and the bounds between which nine of ten lie."""
    means, spreads = found.double().cpu().unbind(1)
    bounds = torch.stack([means, means - REACH * spreads, means + REACH * spreads], 1)
    return [dict(zip(names, row, strict=True)) for row in bounds.tolist()]


def told_beside(told: Told, found: torch.Tensor) -> list[dict[str, Any]]:
    """What is answered of a further task, as rows; see `tasks.model.told.columns_of`."""
    name = told.name
    match told.kind:
        case "number":
            return numbers_in(found, (name, f"{name}_low", f"{name}_high"))
        case "labels":
            return [{name: labels} for labels in given_labels(found.cpu().numpy(), told.classes)]
        case "class":
            likeliest = found.max(1)
            pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
            return [{name: told.classes[place], f"{name}_probability": p} for place, p in pairs]


def _eye(about: dict[str, Any], file: Path) -> Eye:
    """A backbone of a package, as it was put there."""
    outline = Outline(**about["backbone"] | {"layers": tuple(about["backbone"]["layers"])})
    state, said = tensors.read(file)
    mean, std = (tuple(map(float, said[key].split(","))) for key in ("mean", "std"))
    weights = Weights(state, mean, std, about["weights"])  # type: ignore[arg-type]
    return Eye(outline, weights, _recipe(about["recipe"]), about["precision"])


def _recipe(described: dict[str, Any]) -> Recipe:
    """As `package` wrote it; models of earlier versions say nothing about limits."""
    return Recipe(**described | {"limits": Limits(**described.get("limits", {}))})
