"""What adversarial training gives, and what it costs: fine-tuning as usual, by PGD and by TRADES, measured on the same
held-out images as they are and under PGD-20 at two radii.

digits: the built-in backbone at 32 px, all images. cifar10: MobileNetV2 (ImageNet) at 64 px, some images of each class.
Every training has as many epochs, from the same start; epochs are chosen on validation, of the adversarial ones under
attack. A call goes on where an earlier one with the same workspace was killed.

Command: PYTHONPATH=. python benchmarks/robustness.py [--sets digits,cifar10] [--seeds 0,1,2] [--workspace FOLDER]
         (digits: some ten minutes a seed on one core)
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from extract import SHARED, machine
from learning_curves import with_rows

from tasks.evaluate.config import AttackConfig
from tasks.evaluate.inspection.attacks import measure_attacks
from tasks.evaluate.inspection.looking import Looker
from tasks.evaluate.scores.intervals import Sample, wilson
from tasks.extract.backbones import load_backbone
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.engine import Engine
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.train.methods import METHODS
from tasks.train.radius import levels
from tasks.train.solvers import Fit
from tasks.train.task import Task, targets_of
from tasks.workspace import Workspace

TRAINING, VALIDATION, TEST = 200, 50, 50
"""Images of each class of CIFAR-10."""


@dataclass(frozen=True)
class Trial:
    """A set, the network that is tuned on it, and what it is attacked by: the larger radius is trained under."""

    source: dict[str, Any]
    extract: dict[str, Any]
    size: int
    train: dict[str, Any]
    radii: tuple[str, str]


SETS = {
    "digits": Trial(
        {"embedded": "digits"},
        {"backbone": "resnet_32px", "weights": "builtin"},
        32,
        {"epochs": 5, "learning_rate": 1e-3, "augment": "none", "batch_norm": "update", "batch_size": 32},
        ("4/255", "8/255"),
    ),
    "cifar10": Trial(
        {"archive": str(SHARED / "cifar10-jpeg.tar.gz")},
        {"backbone": "mobilenet_v2", "weights": str(SHARED.parent / "weights" / "mobilenet_v2-imagenet.safetensors")},
        64,
        {"epochs": 10, "learning_rate": 5e-4, "least_area": 0.6},
        ("1/255", "2/255"),
    ),
}


def trainings(trial: Trial) -> dict[str, dict[str, Any]]:
    """What is compared, as keys of a training."""
    attack = {"radius": trial.radii[1], "steps": 7}
    return {"standard": {}, "PGD": {"attack": attack}, "TRADES": {"attack": attack | {"trades": 6.0}}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0,1,2", help="comma between them")
    parser.add_argument("--only", default="standard,PGD,TRADES", help="comma between them")
    parser.add_argument("--images", type=int, default=200, help="held-out images that are attacked, at most")
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-robustness")
    arguments = parser.parse_args()
    arguments.workspace.mkdir(parents=True, exist_ok=True)
    os.environ["HEADSTART_WORKSPACE"] = str(arguments.workspace.resolve())
    print(machine())
    file = arguments.workspace / "robustness.csv"
    rows = pd.read_csv(file).to_dict("records") if file.is_file() else []
    for name in arguments.sets.split(","):
        trial = SETS[name]
        task = look(trial, Workspace.find())
        for seed in map(int, arguments.seeds.split(",")):
            for what in arguments.only.split(","):
                place = {"set": name, "seed": seed, "what": what}
                if any(place.items() <= row.items() for row in rows):
                    continue
                rows.append(
                    place | tried(trial, what, Task(**task, seed=seed, folder=folder(**place)), arguments.images)
                )
                pd.DataFrame(rows).to_csv(file, index=False)
                print(rows[-1], flush=True)
    print(table(pd.DataFrame(rows)))


def folder(**place: Any) -> Path:
    """Where the checkpoints of a training lie, from which it goes on when it was killed."""
    return Workspace.find().cache / "robustness" / "-".join(map(str, place.values()))


def look(trial: Trial, workspace: Workspace) -> dict[str, Any]:
    """What the stages before training hand on."""
    dataset = ingest_images(IngestConfig.model_validate({"source": trial.source}), workspace, into_data=False)
    dataset = dataset if "embedded" in trial.source else few(dataset, workspace)
    preprocessed = preview_recipe(PreprocessConfig(size=trial.size), dataset, workspace)
    config = ExtractConfig.model_validate(trial.extract | {"compile": "never"})
    features = extract_features(config, dataset, preprocessed, workspace)
    return {
        "dataset": dataset, "preprocessed": preprocessed, "features": features,
        "weights_file": Path(trial.extract["weights"]),
    }  # fmt: skip


def few(dataset: Dataset, workspace: Workspace) -> Dataset:
    """So many images of each class."""
    rows, counts = dataset.read_manifest(), {"train": TRAINING, "val": VALIDATION, "test": TEST}
    parts = [rows[rows["split"] == split].groupby("label").head(count) for split, count in counts.items()]
    return with_rows(dataset, pd.concat(parts), "few", workspace.cache)


def tried(trial: Trial, what: str, task: Task, images: int) -> dict[str, Any]:
    """Right answers of a training with and without an attack, and its seconds."""
    began = time.monotonic()
    fit = METHODS["lp_ft"].model_validate(trial.train | trainings(trial)[what] | {"seed": task.seed}).fit(task)
    took = time.monotonic() - began
    looker = looker_of(fit, task)
    rows = task.rows(task.dataset.report_on)
    rows = rows.sample(min(images, len(rows)), random_state=0)
    config = AttackConfig.model_validate({"radii": trial.radii, "steps": 20})
    targets = targets_of(task.dataset, rows).numpy()
    found, _, _ = measure_attacks(looker, looker.see(task.dataset, rows), targets, Sample(len(rows)), config)
    shutil.rmtree(task.folder, ignore_errors=True)
    accuracies = {
        f"at {levels(radius)}/255": value for radius, value in zip(found["radius"], found["accuracy"], strict=True)
    }
    return {"images": len(rows), **accuracies, "epoch": fit.chosen["epoch"], "seconds": took}


def looker_of(fit: Fit, task: Task) -> Looker:
    """A tuned network as an inspection looks through it."""
    assert fit.backbone is not None
    features = task.features
    backbone, _ = load_backbone(features.backbone, fit.backbone, features.layers, features.pool, task.preprocessed.size)
    precision = getattr(torch, features.precision)
    return Looker(
        Engine(backbone, task.recipe, torch.device(features.device), precision, compile="never"), fit.head, task.recipe
    )


def table(rows: pd.DataFrame) -> str:
    """Means over the seeds, with the 95% interval of a share of so many images, and from which seed to which."""
    lines = []
    for (name, what), part in rows.groupby(["set", "what"], sort=False):
        columns = [column for column in part if column.startswith("at ") and part[column].notna().all()]
        cells = [cell(part[column], int(part["images"].iloc[0])) for column in columns]
        lines.append(f"| {name} | {what} | {' | '.join(cells)} | {part['seconds'].mean():.0f} |")
    return "\n".join(lines)


def cell(accuracies: pd.Series, images: int) -> str:
    """A figure of several seeds."""
    _, low, high = wilson(round(accuracies.mean() * images), images)
    return f"{accuracies.mean():.4f} [{low:.4f}, {high:.4f}] ({accuracies.min():.3f} to {accuracies.max():.3f})"


if __name__ == "__main__":
    main()
