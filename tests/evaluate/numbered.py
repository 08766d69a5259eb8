"""Small pictures with numbers, and the features that tell them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tasks.evaluate.numbers.answers import Numbers
from tasks.extract.keys import keys_of
from tasks.extract.store import FeatureStore
from tasks.fingerprint import file_digest
from tasks.groups import group_numbers
from tasks.records import Dataset, FeatureSet
from tasks.target import Target

WIDTH = 8
IMAGES = {"train": 80, "val": 60, "test": 60}
AGE = Target(name="age", kind="number", unit="years")


def make_dataset(folder: Path, targets: tuple[Target, ...] = (AGE,)) -> Dataset:
    """Pictures of 4 by 3 pixels; ages from 20 to 80, sizes and a domain that is told worse (see `answered`)."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in IMAGES.items():
        for index in range(count):
            path = folder / "x.png"
            Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8)).save(path)
            content = file_digest(path, "md5")
            (folder / content[:2]).mkdir(exist_ok=True)
            path.rename(folder / content[:2] / content[2:])
            rows.append({
                "path": f"{split}/{index}.png", "label": float(random.uniform(20, 80)), "split": split,
                "domain": "night" if index % 3 == 0 else "day", "group": None, "hash": content,
            })  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet", index=False)
    return Dataset(
        fingerprint="d", source="pictures", version="v", manifest=folder / "manifest.parquet", report=folder,
        images=folder, targets=targets, counts=IMAGES, choose_on="val", report_on="test", quarantined=0,
    )  # fmt: skip


def make_features(dataset: Dataset, folder: Path) -> FeatureSet:
    """The first feature is the age in units of 10 years from 50, with an error of a tenth; others are noise."""
    rows = dataset.read_manifest()
    random = np.random.default_rng(1)
    features = random.normal(size=(len(rows), WIDTH)).astype(np.float32)
    features[:, 0] = (rows["label"] - 50) / 10 + 0.1 * features[:, 0]
    FeatureStore.open(folder, {}).append(keys_of(rows["hash"]), features)
    return FeatureSet(
        fingerprint="f", store=folder, backbone="b", weights="w", digest="0", layers=("x",), pool="avg", width=WIDTH,
        precision="float32", device="cpu", new=0, reused=0, seconds=0,
    )  # fmt: skip


def answered(dataset: Dataset, split: str, grouped: bool = False) -> Numbers:
    """Ages told with an error of a year, at night of five."""
    manifest = dataset.read_manifest()
    rows = manifest[manifest["split"] == split].reset_index(drop=True)
    if grouped:
        rows["group"] = [f"g{place // 6}" for place in range(len(rows))]
    random = np.random.default_rng(len(split))
    spread = np.where(rows["domain"] == "night", 5.0, 1.0)
    targets = rows["label"].to_numpy()
    mean = targets + random.normal(0, spread)
    return Numbers(split, rows, targets, mean, spread, group_numbers(rows), AGE.unit)
