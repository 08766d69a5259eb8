"""What several tasks learned at once gain over a network for each, and how their losses are best weighed.

pacs: which of seven things, and which of four domains. cifar10, a part: which of ten classes, animal or thing, and the
mean brightness of the image, a number. `--labels 20` keeps so many labels a class of the first task: all images still
have those of the others.

head: a hidden layer on features of a frozen MobileNetV2 (`mlp`). tuned: all of it (`lp_ft`). single: a training for
each task; equal, a tenth: fixed weights, of which the latter gives further tasks a tenth of the first one's.

Command: PYTHONPATH=. python benchmarks/several_tasks.py [--workspace FOLDER] [--sets pacs,cifar10] [--seeds 0,1,2]
         [--only head,tuned] [--labels 0,20] [--epochs 4] [--size 64]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from extract import SHARED, machine
from learning_curves import seen_by, with_rows
from PIL import Image

from tasks.evaluate.scores.intervals import mean_interval
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.target import LABEL, Target
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.solvers import Fit
from tasks.train.targets import merit
from tasks.train.task import PARTIAL, Task, targets_of
from tasks.workspace import Workspace

WEIGHTS = SHARED.parent / "weights" / "mobilenet_v2-imagenet.safetensors"
ANIMALS = {"bird", "cat", "deer", "dog", "frog", "horse"}
USED = {"train": 5_000, "val": 1_000, "test": 2_000}
"""Images of CIFAR-10."""
WEIGHINGS: dict[str, Any] = {"equal": "equal", "a tenth": 0.1, "uncertainty": "uncertainty", "gradnorm": "gradnorm"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-several-tasks")
    parser.add_argument("--sets", default="pacs,cifar10", help="comma between them")
    parser.add_argument("--seeds", default="0,1,2", help="comma between them")
    parser.add_argument("--only", default="head,tuned", help="comma between them")
    parser.add_argument("--labels", default="0,20", help="of the first task, a class; 0: all; comma between several")
    parser.add_argument("--epochs", type=int, default=4, help="of the tuned network")
    parser.add_argument("--size", type=int, default=64, help="of the images, in pixels")
    options = parser.parse_args()
    options.workspace.mkdir(parents=True, exist_ok=True)
    os.environ["HEADSTART_WORKSPACE"] = str(options.workspace.resolve())
    print(machine(), flush=True)
    rows: list[dict[str, Any]] = []
    for name in options.sets.split(","):
        dataset, preprocessed, features = look(name, options.size, Workspace.find())
        for labels in map(int, options.labels.split(",")):
            for kind in options.only.split(","):
                for seed in map(int, options.seeds.split(",")):
                    part = with_labels(dataset, labels, seed, options.workspace)
                    folder = options.workspace / "trials" / f"{name}-{labels}-{kind}-{seed}-{time.monotonic_ns()}"
                    task = Task(part, preprocessed, features, WEIGHTS, folder, seed)
                    for found in compared(task, kind, options.epochs):
                        rows.append({"set": name, "labels": labels, "kind": kind, "seed": seed} | found)
                        print(rows[-1], flush=True)
                        pd.DataFrame(rows).to_csv(options.workspace / "several_tasks.csv", index=False)
    tell(pd.DataFrame(rows))


def look(name: str, size: int, workspace: Workspace) -> tuple[Dataset, Preprocessed, FeatureSet]:
    """A set with all of its tasks, and what the frozen network sees in it."""
    source = {"archive": str(SHARED / "cifar10-jpeg.tar.gz")}
    if name == "pacs":
        source = {"archive": str(SHARED / "pacs-128.tar.gz"), "layout": "domain/label"}
    dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace, into_data=False)
    rows = dataset.read_manifest()
    things = Target(name="thing", classes=dataset.classes)
    if name == "pacs":
        rows["label:domain"] = rows["domain"]
        further = [Target(name="domain", column="label:domain", classes=tuple(sorted(rows["domain"].unique())))]
    else:
        rows = pd.concat([rows[rows["split"] == split].sample(n, random_state=0) for split, n in USED.items()])
        rows["label:animal"] = rows["label"].isin(ANIMALS).map({True: "animal", False: "thing"})
        rows["label:brightness"] = [_brightness(dataset.image(each)) for each in rows["hash"]]
        further = [
            Target(name="animal", column="label:animal", classes=("animal", "thing")),
            Target(name="brightness", column="label:brightness", kind="number"),
        ]
    dataset = with_rows(dataset, rows, "tasks", workspace.cache)
    dataset = dataset.model_copy(update={"targets": (things, *further)})
    preprocessed = preview_recipe(PreprocessConfig(size=size), dataset, workspace)
    config = ExtractConfig.model_validate({"backbone": "mobilenet_v2", "weights": str(WEIGHTS)})
    return dataset, preprocessed, extract_features(config, dataset, preprocessed, workspace)


def _brightness(path: Path) -> float:
    with Image.open(path) as image:
        return float(np.asarray(image.convert("L"), np.float32).mean() / 255)


def with_labels(dataset: Dataset, labels: int, seed: int, folder: Path) -> Dataset:
    """The dataset with labels of the first task for so many training images a class; the others keep theirs of further
    tasks."""
    if not labels:
        return dataset
    rows = dataset.read_manifest()
    train = rows["split"] == "train"
    kept = rows[train].groupby(LABEL).sample(labels, random_state=seed).index
    gone = train & ~rows.index.isin(kept)
    rows = rows.assign(split=rows["split"].mask(gone, PARTIAL), label=rows[LABEL].mask(gone, None))
    return with_rows(dataset, rows, f"{dataset.fingerprint}-{labels}-{seed}", folder)


def alone(dataset: Dataset, target: Target, folder: Path) -> Dataset:
    """The dataset as if this task were its only one."""
    rows = dataset.read_manifest()
    rows = rows[rows[target.column].notna()]
    split = rows["split"].replace(PARTIAL, "train")
    folder.mkdir(parents=True, exist_ok=True)
    single = with_rows(dataset, rows.assign(label=rows[target.column], split=split), f"alone-{target.name}", folder)
    return single.model_copy(update={"targets": (target.model_copy(update={"column": LABEL}),)})


def compared(task: Task, kind: str, epochs: int) -> Iterator[dict[str, Any]]:
    """What each task comes to on the held-out images, alone and learned with the others in each way."""
    method = METHODS["mlp" if kind == "head" else "lp_ft"]
    keys = {} if kind == "head" else {"epochs": epochs, "learning_rate": 3e-4, "batch_size": 64, "least_area": 0.5}
    for target in task.dataset.targets:
        single = alone(task.dataset, target, task.folder)
        yield {"weights": "single"} | trained(method.model_validate(keys), task, single, [target])
    for name, weights in WEIGHINGS.items():
        if isinstance(weights, float):
            weights = {target.name: weights for target in task.dataset.further}
        section = method.model_validate(keys | {"tasks": {"weights": weights}})
        yield {"weights": name} | trained(section, task, task.dataset, task.dataset.targets)


def trained(section: Method, task: Task, dataset: Dataset, targets: Sequence[Target]) -> dict[str, Any]:
    """What a training comes to, and its seconds."""
    folder = task.folder / f"{time.monotonic_ns()}"
    of = Task(dataset, task.preprocessed, task.features, task.weights_file, folder, task.seed)
    began = time.monotonic()
    fit = section.fit(of)
    return {"seconds": time.monotonic() - began} | measured(fit, task, targets)


def measured(fit: Fit, task: Task, targets: Sequence[Target]) -> dict[str, float]:
    """Accuracy or, of a number, R² of each task on the held-out images."""
    rows = task.dataset.read_manifest()
    rows = rows[rows["split"] == task.dataset.report_on]
    features, found = seen_by(fit, task, rows), {}
    for head, target in zip([fit.head, *fit.further.values()], targets, strict=True):
        with torch.inference_mode():
            found[target.name] = merit(head(features), targets_of(task.dataset, rows, target))
    return found


def tell(rows: pd.DataFrame) -> None:
    """Means over the seeds and their 95% intervals, of each task, and the seconds of all trainings together."""
    for (name, labels, kind), part in rows.groupby(["set", "labels", "kind"], sort=False):
        names = [column for column in part if column in ("thing", "domain", "animal", "brightness")]
        names = [each for each in names if part[each].notna().any()]
        print(f"\n{name}, {labels or 'all'} labels, {kind}\n| weights | " + " | ".join(names) + " | s |")
        print("|---" * (len(names) + 2) + "|")
        for weights, found in part.groupby("weights", sort=False):
            cells = []
            for each in names:
                mean, low, high = mean_interval(found[each].dropna().tolist())
                cells.append(f"{mean:.4f} [{low:.4f}, {high:.4f}]")
            seconds = found.groupby("seed")["seconds"].sum().mean()
            print(f"| {weights} | " + " | ".join(cells) + f" | {seconds:.0f} |")


if __name__ == "__main__":
    main()
