"""Which pretrained network, and frozen or fine-tuned? Held-out accuracy on hymenoptera and on each domain of PACS.

Three MobileNetV2 that learned to tell apart the 1,000 classes of ImageNet, insects or birds; the methods' own defaults
but for epochs, rates and batches. PACS: each domain is a dataset of its own, and each seed holds out another fifth of
it. Hymenoptera: val is the held-out part. Choices are made on a part of what is left. Each result is appended to
``sources.csv`` as soon as it is there, and a second call goes on with what is missing; several calls with different
seeds may run side by side.

Command: python benchmarks/sources.py [--seeds 0 1 2] [--datasets ...]
         python benchmarks/sources.py --table       (prints the tables alone)
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
from extract import SHARED, Table
from learning_curves import cell, is_there, record, with_rows, workplace

from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.task import Task
from tasks.workspace import Workspace

TABLE = Path(__file__).parent / "sources.csv"
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
SIDES = {"hymenoptera": 160} | dict.fromkeys(DOMAINS, 96)
IMAGES = {"hymenoptera": 153, "photo": 361, "art_painting": 402, "cartoon": 470, "sketch": 766}
"""Held out at a time, about."""
SOURCES = ("imagenet", "inat_insect", "inat_bird")
METHODS_BY_SOURCE = {
    "imagenet": ("frozen", "partial", "lp_ft", "full", "dynamic"),
    "inat_insect": ("frozen", "lp_ft"),
    "inat_bird": ("frozen", "lp_ft"),
}


def settings(name: str, dataset: str) -> Method:
    """The method as it is compared."""
    if name == "frozen":
        return METHODS["linear"]()
    epochs, rate = 10 if dataset == "hymenoptera" else 6, 5e-4 if name == "partial" else 3e-4
    return METHODS[name](epochs=epochs, learning_rate=rate, batch_size=32)


def ingested(name: str, seed: int, workspace: Workspace) -> Dataset:
    """A dataset, or the images of one domain of PACS."""
    if name == "hymenoptera":
        source = {"archive": str(SHARED / "hymenoptera.tar.gz")}
        return ingest_images(IngestConfig.model_validate({"source": source}), workspace, into_data=False)
    source = {"archive": str(SHARED / "pacs-128.tar.gz"), "layout": "domain/label"}
    config = IngestConfig.model_validate({"source": source, "split": {"folds": 5, "fold": seed}})
    dataset = ingest_images(config, workspace, into_data=False)
    rows = dataset.read_manifest().query("domain == @name")
    return with_rows(dataset, rows, f"{name}-{seed}", workspace.cache)


def measure(name: str, seed: int, workspace: Workspace) -> None:
    """Append what is missing of a dataset to the table."""
    dataset = ingested(name, seed, workspace)
    preprocessed = preview_recipe(PreprocessConfig(size=SIDES[name]), dataset, workspace)
    for source in SOURCES:
        weights = SHARED.parent / "weights" / f"mobilenet_v2-{source}.safetensors"
        extract = ExtractConfig(backbone="mobilenet_v2", weights=str(weights))
        features = extract_features(extract, dataset, preprocessed, workspace)
        for method in METHODS_BY_SOURCE[source]:
            key = {"dataset": name, "source": source, "method": method, "seed": seed}
            if not is_there(TABLE, key):
                folder = workspace.cache / "sources" / "-".join(map(str, key.values()))
                task = Task(dataset, preprocessed, features, weights, folder, seed)
                record(TABLE, key, settings(method, name), task)


def show() -> None:
    """The tables in Markdown: the methods from ImageNet's weights, and frozen and fine-tuned from each source's. Means,
    and half the widths of their 95% intervals."""
    groups = pd.read_csv(TABLE).groupby(["dataset", "source", "method"])["accuracy"]
    found = {key: values.tolist() for key, values in groups}
    by_method = [("imagenet", method) for method in METHODS_BY_SOURCE["imagenet"]]
    by_source = [(source, method) for source in SOURCES for method in ("frozen", "lp_ft")]
    for columns in (by_method, by_source):
        lines = Table("", *(f"{source}, {method}" for source, method in columns))
        for name in SIDES:
            lines.row(name, *(cell(found.get((name, *column), []), IMAGES[name]) for column in columns))


def main() -> None:
    """Measure what is missing, then print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--datasets", nargs="*", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--table", action="store_true", help="only print")
    options = parser.parse_args()
    if not options.table:
        workspace = workplace()
        for seed, name in product(options.seeds, options.datasets):
            measure(name, seed, workspace)
    show()


if __name__ == "__main__":
    main()
