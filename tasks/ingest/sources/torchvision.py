"""The datasets that torchvision downloads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from difflib import get_close_matches
from inspect import signature
from typing import Any, ClassVar

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.records import Split
from tasks.workspace import Workspace


class TorchvisionSource(Source):
    """A dataset of torchvision, downloaded once; its images are kept as PNG files."""

    torchvision: str
    """Name of the dataset, for example CIFAR10."""
    remembers: ClassVar[bool] = False

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every image of every split that the dataset has."""
        dataset_type = _dataset_type(self.torchvision)
        downloads = workspace.cache / "downloads"
        found: set[str | None] = set()
        for split, options in _splits(dataset_type):
            if split in found:
                continue
            try:
                dataset: Any = dataset_type(str(downloads), download=True, **options)
            except Exception as error:  # every dataset fails in its own way when its host cannot be reached
                if isinstance(error, ValueError) and "Unknown value" in str(error):
                    continue  # it has no split of this name
                raise DataError(
                    f"torchvision dataset {self.torchvision} could not be downloaded: {error}. Where its host cannot "
                    f"be reached, put its files into {downloads} as torchvision's documentation of "
                    f"{self.torchvision} lays out"
                ) from error
            found.add(split)
            yield from _items(dataset, split)
        if not found:
            raise DataError(f"torchvision dataset {self.torchvision} has no split that is called train, val or test")


def _dataset_type(name: str) -> type:
    import torchvision.datasets as zoo

    dataset_type = getattr(zoo, name, None)
    if not isinstance(dataset_type, type):
        names = {known.lower(): known for known in zoo.__all__}
        near = get_close_matches(name.lower(), names, n=1, cutoff=0.4)
        raise ConfigurationError(
            f"ingest.source.torchvision: torchvision has no dataset {name!r}"
            + (f"; did you mean {names[near[0]]!r}?" if near else "")
        )
    return dataset_type


def _splits(dataset_type: type) -> list[tuple[Split | None, dict[str, Any]]]:
    """How datasets may name their splits: by ``train=True/False``, by ``split=...``, or not at all.

    The first name that a dataset knows is the split's.
    """
    parameters = signature(dataset_type).parameters
    if "train" in parameters:
        return [("train", {"train": True}), ("test", {"train": False})]
    if "split" in parameters:
        names: dict[str, Split] = {"train": "train", "trainval": "train", "val": "val", "valid": "val", "test": "test"}
        return [(split, {"split": name}) for name, split in names.items()]
    return [(None, {})]


def _items(dataset: Any, split: str | None) -> Iterator[Item]:
    names = getattr(dataset, "classes", None)
    for index in range(len(dataset)):
        image, target = dataset[index]
        label = str(names[target]) if names else str(target)
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=0)  # bytes that no version of a compressor changes
        above = f"{split}/" if split else ""
        path = f"{above}{label.replace('/', '-')}/{index:06d}.png"
        yield Item(path, content=file.getvalue(), labels=(label,), split=split)
