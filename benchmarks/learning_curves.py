"""How much does a head start save? Test accuracy on CIFAR-10 against labelled images per class, for each method.

Every method starts from the same ImageNet MobileNetV2 and sees the same images; `scratch` starts from random weights.
Choices are made on a part of the validation images, figures are read from the test images. Each result is appended to
``learning_curves.csv`` as soon as it is there, and a second call goes on with what is missing.

Command: python benchmarks/learning_curves.py [--sizes 10 50 500 5000] [--seeds 0 1 2] [--methods ...]
         (hours; several calls with different seeds may run side by side, a core each)
         python benchmarks/learning_curves.py --plot       (draws the figure from the table alone)
"""

from __future__ import annotations

import argparse
import shutil
import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from extract import SHARED, machine
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from tasks.evaluate.scores.intervals import mean_interval, wilson
from tasks.extract.backbones import load_backbone
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.engine import forward_all
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.train.heads import predict_probabilities
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.solvers import Fit
from tasks.train.task import Task, read_features, targets_of
from tasks.workspace import Workspace

HERE = Path(__file__).parent
TABLE, FIGURE = HERE / "learning_curves.csv", HERE.parent / "docs" / "images" / "learning_curves.png"
WEIGHTS = HERE.parents[1] / "shared" / "weights" / "mobilenet_v2-imagenet.safetensors"
SIDE = 96
EPOCHS = {10: 20, 50: 10, 500: 5, 5000: 1}
"""Passes over the images, by images per class: fewer images take more. Of the most, validation leaves some 4,200."""
FROM_SCRATCH = {10: 100, 50: 50, 500: 8, 5000: 2}
"""Passes of `scratch`, which has more to learn: as many as time allows."""
VALIDATION, TEST = 500, 10_000
COLOURS = {
    "scratch": "#777777", "frozen": "#000000", "partial": "#E69F00", "lp_ft": "#0072B2", "full": "#009E73",
    "dynamic": "#D55E00",
}  # fmt: skip


def settings(name: str, size: int) -> Method:
    """The method as it is compared."""
    if name == "frozen":
        return METHODS["linear"]()
    if name == "scratch":
        epochs = FROM_SCRATCH.get(size, 8)
        return METHODS["full"](epochs=epochs, learning_rate=2e-3, batch_norm="update", least_area=0.5, batch_size=32)
    epochs, rate = EPOCHS.get(size, 5), 5e-4 if name == "partial" else 3e-4
    return METHODS[name](epochs=epochs, learning_rate=rate, least_area=0.5, batch_size=32)


def part_of(
    dataset: Dataset, size: int, seed: int, folder: Path, validation: int = VALIDATION, test: int = TEST
) -> Dataset:
    """The dataset with so many training images a class, drawn by the seed, and fewer others, which stay the same."""
    manifest = dataset.read_manifest()
    train = manifest[manifest["split"] == "train"]
    size = min(size, int(train["label"].value_counts().min()))
    chosen = train.groupby("label").sample(size, random_state=seed)
    held_out = manifest[manifest["split"] == "val"].sample(validation, random_state=0)
    reported = manifest[manifest["split"] == "test"]
    name = f"{size}-{seed}"
    if test < len(reported):
        reported, name = reported.sample(test, random_state=0), f"{name}-of-{validation}-{test}"
    return with_rows(dataset, pd.concat([chosen, held_out, reported]), name, folder)


def with_rows(dataset: Dataset, rows: pd.DataFrame, name: str, folder: Path) -> Dataset:
    """The dataset with some rows of its manifest only."""
    path = folder / f"{name}.parquet"
    rows.to_parquet(path)
    counts = {str(split): int(count) for split, count in rows["split"].value_counts().items()}
    name = f"{dataset.fingerprint}-{name}"
    return dataset.model_copy(update={"manifest": path, "counts": counts, "fingerprint": name})


def accuracy(fit: Fit, task: Task) -> float:
    """On the held-out images."""
    manifest = task.dataset.read_manifest()
    rows = manifest[manifest["split"] == task.dataset.report_on]
    right = predict_probabilities(fit.head, seen_by(fit, task, rows)).argmax(1) == targets_of(task.dataset, rows)
    return right.double().mean().item()


def seen_by(fit: Fit, task: Task, rows: pd.DataFrame) -> torch.Tensor:
    """Features of some images by the backbone as the training left it: float32 ``[N, width]``."""
    if fit.backbone is None:
        return read_features(task.features, rows)
    features = task.features
    backbone, _ = load_backbone(features.backbone, fit.backbone, features.layers, features.pool, task.recipe.size)
    precision = getattr(torch, features.precision)
    return torch.cat(
        list(forward_all(backbone, task.paths(rows), task.recipe, device=torch.device("cpu"), precision=precision))
    )


def record(table: Path, key: dict[str, Any], method: Method, task: Task) -> None:
    """Train, and append what came of it to a table."""
    started = time.monotonic()
    fit = method.fit(task)
    seconds = time.monotonic() - started
    row = key | {"accuracy": round(accuracy(fit, task), 4), "seconds": round(seconds, 1)}
    shutil.rmtree(task.folder, ignore_errors=True)
    pd.DataFrame([row]).to_csv(table, mode="a", header=not table.exists(), index=False)
    print(*row.values(), flush=True)


def is_there(table: Path, key: dict[str, Any]) -> bool:
    """Whether a table has a row with these values."""
    if not table.exists():
        return False
    rows = pd.read_csv(table)
    return bool((rows[list(key)] == pd.Series(key)).all(axis=1).any())


def measure(sizes: list[int], seeds: list[int], methods: list[str], workspace: Workspace) -> None:
    """Append what is missing to the table."""
    source = {"archive": str(SHARED / "cifar10-jpeg.tar.gz")}
    dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace, into_data=False)
    preprocessed = preview_recipe(PreprocessConfig(size=SIDE), dataset, workspace)
    features = {
        weights: extract_features(
            ExtractConfig(backbone="mobilenet_v2", weights=weights), dataset, preprocessed, workspace
        )
        for weights in (str(WEIGHTS), "random")
    }
    for size, seed, name in product(sizes, seeds, methods):
        key = {"per_class": size, "seed": seed, "method": name}
        if is_there(TABLE, key):
            continue
        used = features["random" if name == "scratch" else str(WEIGHTS)]
        part = part_of(dataset, size, seed, workspace.cache)
        folder = workspace.cache / "learning_curves" / f"{size}-{seed}-{name}"
        record(TABLE, key, settings(name, size), Task(part, preprocessed, used, Path(used.weights), folder, seed))


def interval(values: list[float], images: int) -> tuple[float, float, float] | None:
    """Mean and 95% interval over seeds; of one, or where nothing is drawn and all are equal, Wilson's over so many test
    images; None without any."""
    if not values:
        return None
    return mean_interval(values) if len(set(values)) > 1 else wilson(round(values[0] * images), images)


def cell(values: list[float], images: int) -> str:
    """The mean and half the width of its interval, for a table."""
    found = interval(values, images)
    return "" if found is None else f"{found[0]:.3f} ± {found[2] - found[0]:.3f}"


def workplace() -> Workspace:
    """Say what machine this is, and where features are kept."""
    print(machine())
    workspace = Workspace.find()
    workspace.check_writable()
    return workspace


def draw() -> None:
    """The figure, and the table in Markdown."""
    table = pd.read_csv(TABLE)
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(table["per_class"].unique())
    print("| images a class | " + " | ".join(COLOURS) + " |\n|---|" + "---|" * len(COLOURS))
    cells: dict[int, list[str]] = {size: [] for size in sizes}
    for place, (name, colour) in enumerate(COLOURS.items()):
        points = []
        for size in sizes:
            values = table.query("method == @name and per_class == @size")["accuracy"].tolist()
            cells[size].append(cell(values, TEST))
            if found := interval(values, TEST):
                points.append((size, *found))
        if points:
            at, means, lows, highs = zip(*points, strict=True)
            beside = 1.05 ** (place - len(COLOURS) / 2)  # or they would hide one another
            errors = [[mean - low, high - mean] for mean, low, high in zip(means, lows, highs, strict=True)]
            axes.errorbar(
                [size * beside for size in at], means, list(zip(*errors, strict=True)), fmt="o-", color=colour,
                label=name, ms=4, lw=1.2, elinewidth=1, capsize=2,
            )  # fmt: skip
    for size, row in cells.items():
        print(f"| {size:,} | " + " | ".join(row) + " |")
    axes.set(xscale="log", xlabel="labelled images per class", ylabel="test accuracy, CIFAR-10", ylim=(0, 1))
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("MobileNetV2 at 96 px; means and 95% intervals over seeds")
    figure.savefig(FIGURE, dpi=130)


def main() -> None:
    """Measure what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, default=list(EPOCHS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", choices=list(COLOURS), default=list(COLOURS))
    parser.add_argument("--plot", action="store_true", help="only draw")
    options = parser.parse_args()
    if not options.plot:
        measure(options.sizes, options.seeds, options.methods, workplace())
    draw()


if __name__ == "__main__":
    main()
