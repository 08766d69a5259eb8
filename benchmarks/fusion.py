"""What several backbones side by side gain over the best single one, and what they cost: ants and bees at 224 px, each
domain of PACS and a part of CIFAR-10 at 128 px.

Three MobileNetV2s (ImageNet, iNaturalist's birds, its insects) and EfficientNet-Lite0 (ImageNet), all frozen. Each seed
splits the images anew; ants and bees come with their split.

Command: PYTHONPATH=. python benchmarks/fusion.py [--workspace FOLDER] [--seeds 0,1,2] [--sets hymenoptera,photo]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from extract import SHARED, machine

from tasks.evaluate.scores.intervals import Sample
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.joined import backbones_of
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.splits import position
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.train.methods import METHODS
from tasks.train.task import Task
from tasks.workspace import Workspace

WEIGHTS = SHARED.parent / "weights"
NETWORKS = {
    "mobilenet": ("mobilenet_v2", "mobilenet_v2-imagenet"),
    "bird": ("mobilenet_v2", "mobilenet_v2-inat_bird"),
    "insect": ("mobilenet_v2", "mobilenet_v2-inat_insect"),
    "efficientnet": ("timm/tf_efficientnet_lite0", "tf_efficientnet_lite0-imagenet"),
}
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
FUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "concatenation": ("linear", {}),
    "concatenation, weighed": ("linear", {"weigh": True}),
    "concatenation, mlp": ("mlp", {}),
    "gated_fusion": ("gated_fusion", {}),
    "logits_ensemble": ("logits_ensemble", {}),
}


@dataclass(frozen=True)
class Images:
    """A set as the stages before training hand it on, for each seed."""

    preprocessed: Preprocessed
    features: FeatureSet
    splits: list[Dataset]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-fusion")
    parser.add_argument("--seeds", default="0,1,2", help="comma between them")
    parser.add_argument("--sets", default=",".join(("hymenoptera", "cifar10", *DOMAINS)))
    parser.add_argument("--images", type=int, default=50, help="of each class of CIFAR-10, to learn from and to judge")
    arguments = parser.parse_args()
    arguments.workspace.mkdir(parents=True, exist_ok=True)
    os.environ["HEADSTART_WORKSPACE"] = str(arguments.workspace.resolve())
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(machine())
    tables = []
    for name in arguments.sets.split(","):
        tables.append(table := pd.DataFrame(judged(name, look(name, seeds, arguments.images), seeds)))
        print(f"\n{name}\n{summary(table)}", flush=True)
        pd.concat(tables).to_csv(arguments.workspace / "fusion.csv", index=False)


def look(name: str, seeds: list[int], images: int) -> Images:
    """Ingest a set and have all backbones look at it."""
    workspace, size = Workspace.find(), 224 if name == "hymenoptera" else 128
    source: dict[str, Any] = {"archive": str(SHARED / "hymenoptera.tar.gz")}
    if name in DOMAINS:
        source = {"archive": str(SHARED / "pacs-128.tar.gz"), "layout": "domain/label"}
    elif name == "cifar10":
        source = {"archive": str(SHARED / "cifar10-jpeg.tar.gz")}
    whole = ingest_images(IngestConfig.model_validate({"source": source}), workspace)
    rows = whole.read_manifest()
    rows = rows[rows["domain"] == name] if name in DOMAINS else rows
    rows = few(rows, images) if name == "cifar10" else rows
    splits = [whole] if name == "hymenoptera" else [split(whole, rows, seed, workspace) for seed in seeds]
    preprocessed = preview_recipe(PreprocessConfig.model_validate({"size": size}), whole, workspace)
    first, *others = (
        {"backbone": backbone, "weights": str(WEIGHTS / f"{file}.safetensors")} for backbone, file in NETWORKS.values()
    )
    beside = [other | {"size": size} for other in others]
    config = ExtractConfig.model_validate(first | {"beside": beside, "compile": "never"})
    return Images(preprocessed, extract_features(config, splits[0], preprocessed, workspace), splits)


def few(rows: pd.DataFrame, images: int) -> pd.DataFrame:
    """So many images of each class, of those to learn from and of the held-out ones."""
    held_out = rows["split"] == "test"
    return pd.concat([part.groupby("label").head(images) for part in (rows[held_out], rows[~held_out])])


def split(whole: Dataset, rows: pd.DataFrame, seed: int, workspace: Workspace) -> Dataset:
    """The images in a split of its own: where they have none 60, 15 and 25% by hash, and else what is not held out."""
    places = rows["hash"].map(lambda content: position(f"{seed}{content}"))
    held_out = rows["split"] == "test" if rows["domain"].isna().all() else places >= 0.75
    parts = pd.Series("train", rows.index).mask(places < 0.15, "val").mask(held_out, "test")
    manifest = workspace.cache / f"split-{len(rows)}-{whole.fingerprint}-{rows['hash'].iloc[0]}-{seed}.parquet"
    rows.assign(split=parts).sort_values("path").to_parquet(manifest)
    name = manifest.stem
    counts = parts.value_counts().to_dict()
    return whole.model_copy(
        update={"manifest": manifest, "fingerprint": name, "counts": counts, "choose_on": "val", "report_on": "test"}
    )


def judged(name: str, images: Images, seeds: list[int]) -> list[dict[str, object]]:
    """Each single backbone and each way to join them, with each seed."""
    singles = dict(zip(NETWORKS, backbones_of(images.features), strict=True))
    rows: list[dict[str, object]] = []
    for place, seed in enumerate(seeds):
        dataset = images.splits[place % len(images.splits)]
        task = Task(dataset, images.preprocessed, images.features, Path(), Workspace.find().cache / "trial", seed)
        alone = [
            (network, "linear", {}, replace(task, features=features, known={})) for network, features in singles.items()
        ]
        joined = [(what, method, keys, task) for what, (method, keys) in FUSED.items()]
        for what, method, keys, of in (*alone, *joined):
            rows.append({"set": name, "seed": seed, "what": what, **fitted(method, keys, of)})
    return rows


def fitted(method: str, keys: dict[str, Any], task: Task) -> dict[str, object]:
    """Right answers on the held-out images, and what it took."""
    began = time.monotonic()
    fit = METHODS[method].model_validate(keys).fit(task)
    took = time.monotonic() - began
    features, targets = task._labelled(task.dataset.report_on)
    with torch.inference_mode():
        right = fit.head(features).argmax(1) == targets
    return {"score": fit.score, "right": int(right.sum()), "images": len(right), "seconds": took, "chosen": fit.chosen}


def summary(table: pd.DataFrame) -> str:
    """Of each way the mean over the seeds, the 95% interval of all their images, and the seconds of a fit."""
    lines = []
    for what, part in table.groupby("what", sort=False):
        accuracies = part["right"] / part["images"]
        right = torch.zeros(int(part["images"].mean()), dtype=torch.bool)
        right[: round(part["right"].mean())] = True
        _, low, high = Sample(len(right)).share(right.numpy())
        lines.append(
            f"{what:24} {accuracies.mean():.4f} [{low:.4f}, {high:.4f}] (seeds {accuracies.min():.4f} to "
            f"{accuracies.max():.4f}), on validation {part['score'].mean():.4f}, {part['seconds'].mean():.1f} s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
