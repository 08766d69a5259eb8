"""Which keys of fine-tuning pay? Held-out accuracy of `lp_ft` with one key changed at a time, on small sets of several
kinds, the same images, first head and steps for every line.

cifar10: 100 images a class learned from, 2,000 test images, at 96 px. art_painting, sketch: a domain of PACS, a fifth
of which is held out, at 96 px. hymenoptera: at 160 px, its val is held out. digits: the built-in network at 32 px.
Choices are made on a part of what is left. Each result is appended to ``recipe.csv`` as soon as it is there, and a
second call goes on with what is missing; several calls with different seeds may run side by side, a core each.

Command: PYTHONPATH=. python benchmarks/recipe.py [--sets cifar10 ...] [--seeds 0 1 2] [--only plain ...]
         PYTHONPATH=. python benchmarks/recipe.py --table       (prints the table alone)
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from extract import SHARED, Table
from learning_curves import is_there, part_of, record, workplace
from sources import ingested

from tasks.evaluate.scores.intervals import mean_interval
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.train.method import Method
from tasks.train.methods.lp_ft import LpFt
from tasks.train.task import Task
from tasks.workspace import Workspace

TABLE = Path(__file__).parent / "recipe.csv"
WEIGHTS = SHARED.parent / "weights"
NETWORKS = {
    "mobilenet_v2": "mobilenet_v2-imagenet.safetensors",
    "timm/tf_efficientnet_lite0": "tf_efficientnet_lite0-imagenet.safetensors",
    "vgg16": "vgg16-imagenet.safetensors",
}
SIDES = {"cifar10": 96, "art_painting": 96, "sketch": 96, "hymenoptera": 160, "digits": 32}
EPOCHS = {"hymenoptera": 10}
LAYERS = ["features.16", "features.23", "features.30"]
SHOTS, VALIDATION, TEST = 100, 1_000, 2_000
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch_norm: update": {"batch_norm": "update"},
    "head: zero": {"head": "zero"},
    "learning_rate: 0.00015": {"learning_rate": 1.5e-4},
    "learning_rate: 0.001": {"learning_rate": 1e-3},
    "layer_decay: 0.85": {"layer_decay": 0.85},
    "augment: flip": {"augment": "flip"},
    "augment: trivial": {"augment": "trivial"},
    "least_area: 0.7": {"least_area": 0.7},
    "label_smoothing: 0.1": {"label_smoothing": 0.1},
    "mixup: 0.2": {"mixup": 0.2},
    "ema: 0.98": {"ema": 0.98},
    "soup": {"soup": True},
    "wise_ft": {"wise_ft": True},
    "epochs: 12": {"epochs": 12},
}
"""What each changes of ``plain``: the method's own defaults, six epochs and batches of 32."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--network", choices=list(NETWORKS), default="mobilenet_v2")
    parser.add_argument("--side", type=int, help="of the images, in pixels, instead of the set's own")
    parser.add_argument("--table", action="store_true", help="only print")
    options = parser.parse_args()
    if not options.table:
        workspace = workplace()
        for seed, name in product(options.seeds, options.sets):
            measure(name, seed, options, workspace)
    if not TABLE.is_file():
        parser.error(f"nothing was measured yet: {TABLE.name} is made by a call without --table")
    show(pd.read_csv(TABLE))


def measure(name: str, seed: int, options: argparse.Namespace, workspace: Workspace) -> None:
    """Append what is missing of a set and a seed to the table."""
    network = "resnet_32px" if name == "digits" else options.network
    side = options.side or SIDES[name]
    dataset = images(name, seed, workspace)
    preprocessed = preview_recipe(PreprocessConfig(size=side), dataset, workspace)
    weights = str(WEIGHTS / NETWORKS[network]) if network in NETWORKS else "builtin"
    # The file of VGG16 ends with its convolutions, and has no classifier.
    layers = {"layer": LAYERS, "pool": "flatten"} if network == "vgg16" else {}
    config = ExtractConfig.model_validate({"backbone": network, "weights": weights} | layers)
    features = extract_features(config, dataset, preprocessed, workspace)
    for variant in options.only:
        key = {"dataset": name, "network": network, "side": side, "variant": variant, "seed": seed}
        if not is_there(TABLE, key):
            folder = workspace.cache / "recipe" / f"{name}-{network}-{side}-{variant}-{seed}".replace("/", "-")
            task = Task(dataset, preprocessed, features, Path(features.weights), folder, seed)
            record(TABLE, key, method(name, variant), task)


def method(name: str, variant: str) -> Method:
    """``lp_ft`` as a line has it."""
    plain = {"epochs": EPOCHS.get(name, 6), "batch_size": 32}
    return LpFt.model_validate(plain | VARIANTS[variant])


def images(name: str, seed: int, workspace: Workspace) -> Dataset:
    """A set as it is learned from at a seed."""
    if name in ("cifar10", "digits"):
        cifar = name == "cifar10"
        source = {"archive": str(SHARED / "cifar10-jpeg.tar.gz")} if cifar else {"embedded": "digits"}
        dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace, into_data=False)
        return part_of(dataset, SHOTS, seed, workspace.cache, VALIDATION, TEST) if cifar else dataset
    return ingested(name, seed, workspace)


def show(rows: pd.DataFrame) -> None:
    """Points more than ``plain`` on the same set, network and seed, by line: the mean over the sets, with the 95%
    interval of all pairs, and each set's own mean."""
    keys = ["dataset", "network", "side", "seed"]
    plain = rows.query("variant == 'plain'").set_index(keys)["accuracy"]
    for network, part in rows.groupby("network"):
        print(f"\n{network}")
        names = list(dict.fromkeys(part["dataset"]))
        lines = Table("", "mean", *names, "s")
        for variant, found in part.groupby("variant", sort=False):
            more = 100 * (found.set_index(keys)["accuracy"] - plain).dropna()
            per_set = [more[more.index.get_level_values("dataset") == name] for name in names]
            own = found.groupby("dataset")["accuracy"].mean()
            if variant == "plain":
                cells = [f"{own[name]:.4f}" for name in names]
                lines.row(variant, f"{own.mean():.4f}", *cells, f"{found['seconds'].mean():.0f}")
                continue
            mean, low, high = mean_interval(more.tolist())
            cells = [f"{values.mean():+.1f}" if len(values) else "" for values in per_set]
            lines.row(variant, f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]", *cells, f"{found['seconds'].mean():.0f}")


if __name__ == "__main__":
    main()
