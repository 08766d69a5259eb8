"""Small pictures with numbers, and the features that tell them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.numbers.answers import Numbers
from tasks.extract.keys import keys_of
from tasks.extract.store import FeatureStore
from tasks.fingerprint import file_digest
from tasks.groups import group_numbers
from tasks.records import Candidate, Dataset, FeatureSet
from tasks.target import Target
from tasks.train.heads import Head

CONFIG = EvaluateConfig(resamples=100, slices=("domain",))
WIDTH = 8
IMAGES = {"train": 80, "val": 60, "test": 60}
AGE = Target(name="age", kind="number", unit="years")
SPECIES = Target(name="species", column="label:species", classes=("cat", "dog"))
TAGS = Target(name="tags", column="label:tags", kind="labels", classes=("ball", "tree"))


def make_dataset(folder: Path, targets: tuple[Target, ...] = (AGE,)) -> Dataset:
    """Pictures of 4 by 3 pixels; ages from 20 to 80, a domain that is told worse (see `answered`), and of most images
    what `SPECIES` and `TAGS` are, whether they are among the targets or not."""
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
                "label:species": random.choice(SPECIES.classes) if index % 4 else None,
                "label:tags": [tag for tag in TAGS.classes if random.random() < 0.5] if index % 5 else None,
            })  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet", index=False)
    return Dataset(
        fingerprint="d", source="pictures", version="v", manifest=folder / "manifest.parquet", report=folder,
        images=folder, targets=targets, counts=IMAGES, choose_on="val", report_on="test", quarantined=0,
    )  # fmt: skip


def make_features(dataset: Dataset, folder: Path) -> FeatureSet:
    """The first feature is the age in units of 10 years from 50, with an error of a tenth; the second is above 0 of
    dogs, mostly, the next two of images with the tags; others are noise."""
    rows = dataset.read_manifest()
    random = np.random.default_rng(1)
    features = random.normal(size=(len(rows), WIDTH)).astype(np.float32)
    features[:, 0] = (rows["label"] - 50) / 10 + 0.1 * features[:, 0]
    features[:, 1] += np.where(rows["label:species"] == "dog", 1.5, -1.5)
    for place, tag in enumerate(TAGS.classes, 2):
        features[:, place] += [1.5 if tags is not None and tag in tags else -1.5 for tags in rows["label:tags"]]
    FeatureStore.open(folder, {}).append(keys_of(rows["hash"]), features)
    return FeatureSet(
        fingerprint="f", store=folder, backbone="b", weights="w", digest="0", layers=("x",), pool="avg", width=WIDTH,
        precision="float32", device="cpu", new=0, reused=0, seconds=0,
    )  # fmt: skip


def make_candidate(folder: Path, *further: Target, leads: Target = AGE) -> Candidate:
    """Heads that read these features as they are meant."""
    folder.mkdir(exist_ok=True)
    files = {}
    for target in (leads, *further):
        files[target.name] = folder / f"{target.name}.safetensors"
        made_head(target).save(files[target.name])
    curves = pd.DataFrame({"step": [1, 2], "train/loss": [2.0, 1.0], "val/loss": [2.0, 1.0]})
    curves.to_parquet(folder / "curves.parquet", index=False)
    head = files.pop(leads.name)
    return Candidate(
        fingerprint="c", method="linear", head=head, further=files, curves=folder / "curves.parquet",
        chosen={"l2": 0.1}, score=0.9,
    )  # fmt: skip


def made_head(target: Target) -> Head:
    """What tells a target from `make_features`."""
    number = target.kind == "number"
    head = Head(WIDTH, 2, multi_label=target.kind == "labels", number=number)
    weights = {"age": {0: (0, 1.0)}, "species": {0: (1, -1.0), 1: (1, 1.0)}, "tags": {0: (2, 2.0), 1: (3, 2.0)}}
    with torch.no_grad():
        head.layers.weight.zero_()
        head.layers.bias.zero_()
        for output, (feature, weight) in weights[target.name].items():
            head.layers.weight[output, feature] = weight
        if number:
            head.layers.bias[1] = 2 * np.log(0.1)
            head.centre.fill_(50)
            head.scale.fill_(10)
    return head


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
