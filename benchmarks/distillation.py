"""What a small student gains from a large teacher, and from images without labels.

cifar10: the built-in backbone, taught by an EfficientNet-Lite0 (ImageNet) at 96 px that has seen no more labels than
the student has: by `lp_ft` of its own in `tuned`, as a head on its frozen features in `head` and `relations`. Some
training images of each class have labels, drawn by the seed; the others are the pool. 500 further images choose, 1,000
test images are the figure.
digits: the built-in backbone's last layer, taught by its early one, which tells digits apart and has seen all labels.

`alone` is the best that the student does without a teacher: its head solved on frozen features and, where it is tuned,
`lp_ft` of as many steps. `ensemble` is another question: a head on a frozen MobileNetV2 at 96 px, taught by heads on
both networks; in `ensemble_tuned`, all layers of all of them.

Command: PYTHONPATH=. python benchmarks/distillation.py [--set cifar10] [--workspace FOLDER] [--labels 50,500]
         [--seeds 0,1,2] [--only head,tuned,relations,ensemble,ensemble_tuned] [--epochs 6] [--images 6000]
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from extract import SHARED, machine
from learning_curves import accuracy, with_rows

from tasks.evaluate.scores.intervals import mean_interval
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.rival import Rival
from tasks.teachers import Teachers
from tasks.train.distillation.teachers import answers
from tasks.train.method import Method
from tasks.train.methods.distill import Distill, DistillTuned
from tasks.train.methods.linear import Linear
from tasks.train.methods.lp_ft import LpFt
from tasks.train.solvers import Fit
from tasks.train.task import Task, targets_of
from tasks.workspace import Workspace

WEIGHTS = SHARED.parent / "weights"
NETWORKS = {
    "student": {"backbone": "resnet_32px", "weights": "builtin"},
    "early": {"backbone": "resnet_32px", "weights": "builtin", "layer": "blocks.1", "pool": "flatten"},
    "lite0": {
        "backbone": "timm/tf_efficientnet_lite0",
        "weights": str(WEIGHTS / "tf_efficientnet_lite0-imagenet.safetensors"),
    },
    "mobile": {"backbone": "mobilenet_v2", "weights": str(WEIGHTS / "mobilenet_v2-imagenet.safetensors")},
}
SIDES = {"student": 32, "early": 32, "lite0": 96, "mobile": 96}
TEACHERS = {"cifar10": "lite0", "digits": "early"}
VALIDATION, TEST = 500, 1_000
RATE, BATCH = 3e-4, 64
TEACHERS_EPOCHS = {50: 10, 500: 8}
"""Passes of a teacher that is tuned, by labels a class."""

Seen = tuple[Preprocessed, FeatureSet]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=TEACHERS, default="cifar10")
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-distillation")
    parser.add_argument("--labels", default="50,500", help="a class; comma between several")
    parser.add_argument("--seeds", default="0,1,2", help="comma between them")
    parser.add_argument("--only", default=",".join(KINDS), help="comma between them")
    parser.add_argument("--images", type=int, default=6_000, help="to learn from, with labels and without")
    parser.add_argument("--epochs", type=int, default=6, help="passes of the tuned student over all images")
    options = parser.parse_args()
    options.workspace.mkdir(parents=True, exist_ok=True)
    os.environ["HEADSTART_WORKSPACE"] = str(options.workspace.resolve())
    print(machine())
    dataset, seen = look(Workspace.find(), options)
    rows = []
    for labels in map(int, options.labels.split(",")):
        for what in options.only.split(","):
            for seed in map(int, options.seeds.split(",")):
                part = part_of(dataset, labels, seed, options.workspace)
                lesson = Class(part, dataset, labels, seen, seed, options)
                found = KINDS[what](lesson)
                rows += [{"labels": labels, "kind": what, "seed": seed, "model": name} | each for name, each in found]
                pd.DataFrame(rows).to_csv(options.workspace / "distillation.csv", index=False)
    tell(pd.DataFrame(rows))


def look(workspace: Workspace, options: argparse.Namespace) -> tuple[Dataset, dict[str, Seen]]:
    """The images that are used, and what each network sees in them."""
    source = {"embedded": "digits"} if options.set == "digits" else {"archive": str(SHARED / "cifar10-jpeg.tar.gz")}
    dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace, into_data=False)
    if options.set == "cifar10":
        rows, counts = dataset.read_manifest(), {"train": options.images, "val": VALIDATION, "test": TEST}
        parts = [rows[rows["split"] == split].sample(count, random_state=0) for split, count in counts.items()]
        dataset = with_rows(dataset, pd.concat(parts), f"used-{options.images}", workspace.cache)
    seen = {}
    for name in ("student", TEACHERS[options.set], *["mobile"] * ("ensemble" in options.only)):
        preprocessed = preview_recipe(PreprocessConfig(size=SIDES[name]), dataset, workspace)
        config = ExtractConfig.model_validate(NETWORKS[name])
        seen[name] = preprocessed, extract_features(config, dataset, preprocessed, workspace)
    return dataset, seen


def part_of(dataset: Dataset, labels: int, seed: int, folder: Path) -> Dataset:
    """The dataset with labels for so many training images a class; the others are the pool, and have none."""
    rows = dataset.read_manifest()
    train = rows["split"] == "train"
    chosen = rows[train].groupby("label").sample(labels, random_state=seed).index
    unlabelled = train & ~rows.index.isin(chosen)
    rows = rows.assign(split=rows["split"].mask(unlabelled, "pool"), label=rows["label"].mask(unlabelled, None))
    return with_rows(dataset, rows, f"{labels}-{seed}", folder)


class Class:
    """A student and its teachers, on the same images, of which the teachers may know more labels."""

    def __init__(
        self, dataset: Dataset, everything: Dataset, labels: int, seen: dict[str, Seen], seed: int,
        options: argparse.Namespace,
    ) -> None:  # fmt: skip
        self.dataset, self.all, self.labels, self.seen, self.seed = dataset, everything, labels, seen, seed
        self.options, self.theirs = options, everything if options.set == "digits" else dataset
        self.teacher = TEACHERS[options.set]
        self.folder = Path(tempfile.mkdtemp(dir=options.workspace))

    def task(self, network: str, teachers: Teachers | None = None) -> Task:
        preprocessed, features = self.seen[network]
        folder = self.folder / f"{network}-{time.monotonic_ns()}"
        return Task(self.dataset, preprocessed, features, Path(features.weights), folder, self.seed, teachers=teachers)

    def tried(self, method: Method, network: str, teachers: Teachers | None = None) -> dict[str, float]:
        """Test accuracy of a method, and its seconds."""
        task, began = self.task(network, teachers), time.monotonic()
        fit = method.fit(task)
        seconds = time.monotonic() - began
        found = {"accuracy": accuracy(fit, task), "validation": fit.score, "seconds": seconds}
        print(self.dataset.counts["train"], self.seed, method.method, network, found, flush=True)
        return found

    def answered(self, teachers: Teachers) -> dict[str, float]:
        """Test accuracy of teachers."""
        rows = self.dataset.read_manifest().query("split == 'test'")
        right = answers(teachers, self.dataset, rows).argmax(1) == targets_of(self.dataset, rows)
        found = {"accuracy": right.double().mean().item(), "validation": math.nan, "seconds": math.nan}
        print(self.dataset.counts["train"], self.seed, *teachers.names, found, flush=True)
        return found

    def teachers(self, *networks: str, tuned: bool = False) -> Teachers:
        """Networks as if they were registered: linear heads on what they see or, ``tuned``, all of their layers."""
        versions, heads, features = [], [], []
        for number, network in enumerate(networks, 1):
            task = replace(self.task(network), dataset=self.theirs)
            epochs = TEACHERS_EPOCHS.get(self.labels, 5)
            method = LpFt(epochs=epochs, learning_rate=RATE, least_area=0.5) if tuned else Linear()
            fit = method.fit(task)
            fit.head.save(path := self.folder / f"{network}.safetensors")
            heads.append(path)
            features.append(self._seen_by(fit, task))
            versions.append(
                Rival(
                    fingerprint=network,
                    name=network,
                    version=number,
                    bundle=self.folder,
                    data="",
                    extraction={},
                    classes=self.dataset.classes,
                    learned_from=("train",),
                    geometry={},
                )
            )
        return Teachers(
            fingerprint=f"{'-'.join(networks)}-{tuned}",
            versions=tuple(versions), heads=tuple(heads), features=tuple(features),
        )  # fmt: skip

    def _seen_by(self, fit: Fit, task: Task) -> FeatureSet:
        """What a network, as its training left it, sees in all images."""
        if fit.backbone is None:
            return task.features
        config = ExtractConfig(backbone=task.features.backbone, weights=fit.backbone.source)
        return extract_features(config, self.all, task.preprocessed, Workspace.find())


Found = list[tuple[str, dict[str, float]]]


def head(lesson: Class) -> Found:
    teachers = lesson.teachers(lesson.teacher)
    taught = Distill(teacher=["teacher"])
    return [
        ("teacher", lesson.answered(teachers)),
        ("alone", lesson.tried(Linear(), "student")),
        ("taught, labelled images alone", lesson.tried(taught.model_copy(update={"pool": False}), "student", teachers)),
        ("taught", lesson.tried(taught, "student", teachers)),
    ]


def tuned(lesson: Class) -> Found:
    teachers = lesson.teachers(lesson.teacher, tuned=lesson.options.set == "cifar10")
    section = passes(lesson)
    return [
        ("teacher", lesson.answered(teachers)),
        ("alone", lesson.tried(alone(lesson), "student")),
        ("taught", lesson.tried(DistillTuned.model_validate(section | {"teacher": "teacher"}), "student", teachers)),
    ]


def relations(lesson: Class) -> Found:
    teachers, section = lesson.teachers(lesson.teacher), passes(lesson) | {"teacher": "teacher"}
    return [
        (
            f"relations: {strength}",
            lesson.tried(DistillTuned.model_validate(section | {"relations": strength}), "student", teachers),
        )
        for strength in (0.0, 0.1)
    ]


def alone(lesson: Class) -> LpFt:
    """As many steps as a student takes that learns from images without labels as well."""
    counts = lesson.dataset.counts
    epochs = round(lesson.options.epochs * (counts["train"] + counts["pool"]) / counts["train"])
    return LpFt.model_validate(passes(lesson) | {"epochs": epochs})


def passes(lesson: Class) -> dict[str, Any]:
    """Keys of a student that is tuned."""
    shared = {"epochs": lesson.options.epochs, "learning_rate": RATE, "batch_size": BATCH}
    return shared | ({"augment": "none"} if lesson.options.set == "digits" else {"least_area": 0.5})


def ensemble(lesson: Class) -> Found:
    teachers = lesson.teachers("lite0", "mobile")
    return [
        ("teachers", lesson.answered(teachers)),
        ("alone", lesson.tried(Linear(), "mobile")),
        ("taught", lesson.tried(Distill(teacher=["lite0", "mobile"]), "mobile", teachers)),
    ]


def ensemble_tuned(lesson: Class) -> Found:
    teachers = lesson.teachers("lite0", "mobile", tuned=True)
    taught = DistillTuned.model_validate(passes(lesson) | {"teacher": ["lite0", "mobile"]})
    return [
        ("teachers", lesson.answered(teachers)),
        ("alone", lesson.tried(alone(lesson), "mobile")),
        ("taught", lesson.tried(taught, "mobile", teachers)),
    ]


KINDS: dict[str, Callable[[Class], Found]] = {
    "head": head,
    "tuned": tuned,
    "relations": relations,
    "ensemble": ensemble,
    "ensemble_tuned": ensemble_tuned,
}


def tell(rows: pd.DataFrame) -> None:
    """Means over the seeds, with their 95% intervals, and seconds."""
    for (labels, kind, model), part in rows.groupby(["labels", "kind", "model"], sort=False):
        mean, low, high = mean_interval(part["accuracy"].tolist())
        print(
            f"| {labels} | {kind} | {model} | {mean:.4f} [{low:.4f}, {high:.4f}] | "
            f"{', '.join(f'{each:.4f}' for each in part['accuracy'])} | {part['seconds'].mean():.0f} |"
        )


if __name__ == "__main__":
    main()
