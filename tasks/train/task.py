"""What a method is given: a dataset, the frozen backbone's features of it, and how to come by its pixels."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from tasks.extract.backbones import Backbone, load_network
from tasks.extract.joined import JoinedStore, counted_alike, widths_of
from tasks.extract.keys import keys_of
from tasks.extract.weights import Weights, read_weights
from tasks.groups import group_numbers
from tasks.preprocess.pictures import Pictures, Squares
from tasks.preprocess.recipe import Recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.target import Target
from tasks.teachers import Teachers
from tasks.train.adaptation.target import target_rows
from tasks.train.fusion.parts import Part, parts_of
from tasks.train.heads import NUMBER
from tasks.train.targets import Labelled

LEARNED = ("train", "tune")
"""Splits that a model may have learned from."""

PARTIAL = "partial"
"""Split of images without a label of the leading task: further tasks learn from them as from those of ``train``."""

CROSS_VALIDATED = 5_000
"""Up to this many training images, five fits cost less than the images that one validation part would take."""


@dataclass
class Task:
    """The training images of a dataset and those that choices are made on; the held-out split is not within reach.

    Attributes:
        weights_file: what ``features.weights`` names, where it is a file.
        folder: for checkpoints; a task of the same content has the same one.
        seed: of everything random.
        compared: whether the fit is compared with other methods', all on the same validation images.
        teachers: whom the method learns from, where it names some.
        target: what is to be told of an image; None for the leading task. Of a further one, only images that have a
            label of it count.
        known: what has been read already. Tasks that `dataclasses.replace` makes of one another share it: seeds and
            trials read the features and decode the images once.
    """

    dataset: Dataset
    preprocessed: Preprocessed
    features: FeatureSet
    weights_file: Path
    folder: Path
    seed: int = 0
    compared: bool = False
    teachers: Teachers | None = None
    target: Target | None = None
    known: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def aim(self) -> Target:
        """What is to be told of an image."""
        return self.target or self.dataset.target

    @property
    def classes(self) -> int:
        """Outputs of a head: the classes or, of a number, its mean and spread."""
        return NUMBER if self.aim.kind == "number" else len(self.aim.classes)

    def on(self, target: Target) -> Task:
        """The same for a further task of the dataset; nothing but the manifest and the weights is known of it yet."""
        shared: dict[Hashable, Any] = {
            what: value for what, value in self.known.items() if what in ("manifest", "weights")
        }
        return replace(self, target=target, folder=self.folder / f"task-{target.name}", known=shared)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the features of an image are put together from."""
        return parts_of(widths_of(self.features))

    @property
    def counted(self) -> tuple[Part, ...]:
        """What counts alike of these, however wide it is."""
        return parts_of(counted_alike(self.features))

    @property
    def is_cross_validated(self) -> bool:
        """Whether the validation images are a part of a small training split, so that a method that can do without
        them learns from all and chooses by cross-validation. Not where others with labels were left to the pool: what
        is learned from is to be so few (`shots`)."""
        if self.dataset.choose_on != "tune" or self.compared or len(self.features.variants) > 0:
            return False
        counts = self.dataset.counts
        count = len(self.rows(*LEARNED)) if self.target else counts.get("train", 0) + counts.get("tune", 0)
        return count <= CROSS_VALIDATED and not self.rows("pool")["label"].notna().any()

    @property
    def train(self) -> Labelled:
        """Features and targets to learn from; augmented views, where there are any, follow the images."""
        return self._labelled("train", augmented=len(self.features.variants) > 0)

    @property
    def plain(self) -> Labelled:
        """`train` without augmented views."""
        return self._labelled("train")

    @property
    def validation(self) -> Labelled:
        """Features and targets that choices are made on."""
        return self._labelled(self.dataset.choose_on)

    @property
    def everything(self) -> Labelled:
        """Features and targets of all images that may be learned from once nothing is left to be chosen."""
        return self._labelled(*LEARNED)

    @property
    def unlabelled(self) -> torch.Tensor:
        """Features float32 ``[N, width]`` of the images of the pool; whatever labels these have stay out of reach."""
        return self.once("pool", lambda: read_features(self.features, self.rows("pool")))

    @property
    def target_rows(self) -> pd.DataFrame:
        """Of the manifest, the images of the domain that is adapted to."""
        return target_rows(self.once("manifest", self.dataset.read_manifest), self.dataset.report_on)

    @property
    def adapted_to(self) -> torch.Tensor:
        """Features float32 ``[N, width]`` of `target_rows`."""
        return self.once("target", lambda: read_features(self.features, self.target_rows))

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each image of `everything`, where images come in groups."""
        return group_numbers(self.rows(*LEARNED))

    @property
    def recipe(self) -> Recipe:
        """How an image becomes the backbone's input."""
        return Recipe(**self.preprocessed.geometry | {"views": "one"}, limits=self.dataset.limits)

    @property
    def weights(self) -> Weights:
        """Of the pretrained backbone."""
        name, source = self.features.backbone, self.features.weights
        return self.once("weights", lambda: read_weights(name, source, self.weights_file))

    def network(self) -> tuple[nn.Module, Backbone]:
        """A new copy of the pretrained network, and of what becomes of it cut off at the layers that features are
        taken from; both hold the same parameters."""
        network = load_network(self.features.backbone, self.weights, self.features.layers, self.preprocessed.size)
        return network, Backbone(network, self.weights, self.features.layers, self.features.pool)

    def pictures(self) -> tuple[Pictures, torch.Tensor]:
        """The images to learn from, and their targets."""
        rows = self.rows("train")
        return self.once("pictures", lambda: Pictures(self.paths(rows), self.recipe)), targets_of(
            self.dataset, rows, self.aim
        )

    def squares(self) -> tuple[Squares, torch.Tensor]:
        """The images that choices are made on, as they are served, and their targets."""
        rows = self.rows(self.dataset.choose_on)
        return self.once("squares", lambda: Squares(self.paths(rows), self.recipe)), targets_of(
            self.dataset, rows, self.aim
        )

    def paths(self, rows: pd.DataFrame) -> list[Path]:
        """Where the images of some rows of the manifest lie."""
        return [self.dataset.image(hash) for hash in rows["hash"]]

    def rows(self, *splits: str) -> pd.DataFrame:
        """Those of the manifest that are of some splits; of a further task, those that have a label of it, where
        `PARTIAL` belongs to ``train``."""
        manifest = self.once("manifest", self.dataset.read_manifest)
        if self.target is None:
            return manifest[manifest["split"].isin(splits)]
        wanted = (*splits, *[PARTIAL] * ("train" in splits))
        return manifest[manifest["split"].isin(wanted) & manifest[self.target.column].notna()]

    def _labelled(self, *splits: str, augmented: bool = False) -> Labelled:
        return self.once(
            (splits, augmented),
            lambda: labelled(self.dataset, self.features, self.rows(*splits), augmented, self.aim),
        )

    def once(self, what: Hashable, read: Callable[[], Any]) -> Any:
        """What ``read`` gives, called once for all tasks that share what is known; nobody may change it."""
        if what not in self.known:
            self.known[what] = read()
        return self.known[what]


def labelled(
    dataset: Dataset, features: FeatureSet, rows: pd.DataFrame, augmented: bool = False, target: Target | None = None
) -> Labelled:
    """Features float32 ``[N, width]`` and targets of some rows of the manifest.

    Args:
        augmented: whether features of the augmented views follow those of the images.
        target: of the dataset's tasks; by default the leading one.
    """
    matrix, targets = read_features(features, rows, augmented), targets_of(dataset, rows, target)
    return matrix, targets.repeat(1 + augmented * len(features.variants), *(1,) * (targets.ndim - 1))


def read_features(features: FeatureSet, rows: pd.DataFrame, augmented: bool = False) -> torch.Tensor:
    """Those of `labelled`, whatever is known of the images."""
    variants = len(features.variants) if augmented else 0
    stores = [JoinedStore(features, variant) for variant in range(variants + 1)]
    keys, count = keys_of(rows["hash"]), len(rows)
    matrix = np.empty((len(stores) * count, features.width), np.float32)
    for number, store in enumerate(stores):
        store.read(keys, out=matrix[number * count : (number + 1) * count])
    return torch.from_numpy(matrix)


def targets_of(dataset: Dataset, rows: pd.DataFrame, target: Target | None = None) -> torch.Tensor:
    """Labels int64 ``[N]`` of some rows of the manifest, float32 ``[N, C]`` where an image may have several, or numbers
    float32 ``[N]``; all of these rows have one of the task, which by default is the leading one."""
    target = target or dataset.target
    labels = rows[target.column]
    if target.kind == "number":
        return torch.tensor(labels.to_numpy(np.float32))
    if target.kind == "class":
        codes = pd.Categorical(labels, categories=list(target.classes)).codes
        return torch.tensor(codes, dtype=torch.int64)
    places = {name: place for place, name in enumerate(target.classes)}
    targets = torch.zeros(len(rows), len(places))
    for row, names in enumerate(labels):
        targets[row, [places[name] for name in names]] = 1.0
    return targets
