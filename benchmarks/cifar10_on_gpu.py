"""How long does a GPU take for the CIFAR-10 fine-tuning of `configs/cifar10_finetune.yaml`, and is it as good?

The stages between the archive and the figure, on a machine without Prefect, MLflow and DVC: files under the names of
their contents, splits by content as ingestion makes them, features of the frozen network for the first head, training,
and the test images once, at the end, through the engine that serves.

Command: python benchmarks/cifar10_on_gpu.py [--seeds 0 1 2] [--batch-size 64] [--weights FILE] [--images 60000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from extract import DEVICE, PRECISION, ROOT, Table, addressed, machine, names_of, unpack

from flows.config import PipelineConfig, read_config
from tasks.evaluate.scores.intervals import mean_interval, wilson
from tasks.extract.backbones import load_backbone
from tasks.extract.engine import Engine
from tasks.extract.store import FeatureStore
from tasks.extract.weights import read_weights
from tasks.extract.work import Work, fill
from tasks.ingest.splits import position
from tasks.preprocess.recipe import Recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.target import one_task
from tasks.train.heads import predict_probabilities
from tasks.train.solvers import Fit
from tasks.train.task import Task, targets_of


def ingested(scratch: Path, validation: float, count: int) -> Dataset:
    """CIFAR-10 in a content-addressed store, with the splits that ingestion gives it."""
    folder = unpack("cifar10-jpeg.tar.gz", scratch / "files")
    images = sorted(folder.rglob("*.jpg"))
    images = images[:: len(images) // count]
    addressed(scratch / "store", images)
    rows = pd.DataFrame({
        "label": [path.parent.name for path in images],
        "split": [path.parent.parent.name for path in images],
        "hash": [names_of(path)[0] for path in images],
    })  # fmt: skip
    rows = rows.drop_duplicates("hash", keep="last")  # train comes after test
    held = (rows["split"] == "train") & (rows["hash"].map(position) < validation)
    rows.loc[held, "split"] = "val"
    rows.to_parquet(scratch / "manifest.parquet")
    return Dataset(
        fingerprint="cifar10", source="archive", version="", manifest=scratch / "manifest.parquet", report=scratch,
        images=scratch / "store", targets=one_task(tuple(sorted(rows["label"].unique()))),
        counts=rows["split"].value_counts().to_dict(), choose_on="val", report_on="test", quarantined=0,
    )  # fmt: skip


def extracted(config: PipelineConfig, weights: Path, dataset: Dataset, scratch: Path) -> FeatureSet:
    """Features of the frozen network for the images that the first head is solved on."""
    rows = dataset.read_manifest()
    np.save(scratch / "keys.npy", np.array([bytes.fromhex(each) for each in rows["hash"][rows["split"] != "test"]]))
    store, layers, recipe = scratch / "features", tuple(config.extract.layers), Recipe(config.preprocess.size)
    FeatureStore.open(store, {})
    work = Work(config.extract.backbone, "", weights, layers, "avg", recipe, str(PRECISION)[6:], None, "auto", "exact",
                store, dataset.images, scratch / "keys.npy", 4096)  # fmt: skip
    started = time.perf_counter()
    new = fill(work, DEVICE)
    read = read_weights(config.extract.backbone, "", weights)
    network, _ = load_backbone(config.extract.backbone, read, layers, "avg")
    width = network(torch.zeros(1, 3, recipe.size, recipe.size, dtype=torch.uint8)).shape[1]
    return FeatureSet(
        fingerprint="features", store=store, backbone=config.extract.backbone, weights=str(weights),
        digest=read.digest, layers=layers, pool="avg", width=width, precision=str(PRECISION)[6:], device=str(DEVICE),
        new=new, reused=0, seconds=time.perf_counter() - started,
    )  # fmt: skip


def right_of(fit: Fit, config: PipelineConfig, dataset: Dataset) -> tuple[int, int]:
    """Test images that the tuned network classifies right, and all of them."""
    rows = dataset.read_manifest().query("split == 'test'")
    assert fit.backbone is not None
    backbone, _ = load_backbone(config.extract.backbone, fit.backbone, tuple(config.extract.layers), "avg")
    engine = Engine(backbone, Recipe(config.preprocess.size), DEVICE, PRECISION)
    features = torch.cat(list(engine.run([dataset.image(each) for each in rows["hash"]], len(rows))))
    right = predict_probabilities(fit.head, features).argmax(1) == targets_of(dataset, rows)
    return int(right.sum()), len(right)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--weights", type=Path, default=ROOT.parent / "shared/weights/mobilenet_v2-imagenet.safetensors"
    )
    parser.add_argument("--images", type=int, default=60_000)
    options = parser.parse_args()
    print(machine())
    overrides = [f"train.batch_size={options.batch_size}"]
    config = read_config(ROOT / "configs" / "cifar10_finetune.yaml", overrides, PipelineConfig)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        started = time.perf_counter()
        dataset = ingested(scratch, config.ingest.split.val, options.images)
        print(f"\nfiles: {time.perf_counter() - started:.1f} s", flush=True)
        features = extracted(config, options.weights, dataset, scratch)
        print(f"features: {features.new:,} images in {features.seconds:.1f} s", flush=True)
        preprocessed = Preprocessed(fingerprint="", size=config.preprocess.size, fit="crop", preview=scratch,
                                    mean=(0, 0, 0), std=(1, 1, 1))  # fmt: skip
        table = Table("seed", "test accuracy", "validation accuracy", "seconds of training", "of the test images")
        accuracies = []
        shared: dict = {}
        for seed in options.seeds:
            task = Task(dataset, preprocessed, features, options.weights, scratch / str(seed), seed, known=shared)
            times = [time.perf_counter()]
            fit = config.train.fit(task)
            times.append(time.perf_counter())
            value, low, high = wilson(*right_of(fit, config, dataset))
            times.append(time.perf_counter())
            accuracies.append(value)
            table.row(str(seed), f"{value:.4f} [{low:.4f}, {high:.4f}]", f"{fit.score:.4f}",
                      *(f"{after - before:.1f}" for before, after in pairwise(times)))  # fmt: skip
        if len(accuracies) > 1:
            print("mean (Student's t): {:.4f} [{:.4f}, {:.4f}]".format(*mean_interval(accuracies)))


if __name__ == "__main__":
    main()
