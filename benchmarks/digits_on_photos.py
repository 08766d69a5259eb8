"""Digits with labels, and digits on photos without: the protocol of MNIST-M (Ganin et al. 2016, 5.2.4) on
scikit-learn's digits and patches of photos of ants and bees.

A digit on a photo is |I - P| of each pixel and channel: I is the digit at 32 pixels, P a random patch of a photo. Of
the 1,797 digits, two thirds, drawn by the seed, are learned from: with labels as they are, and without on photos. The
figure is of the last third on photos, which no method has seen in any form. 15% of the labelled ones choose.

All start from the built-in backbone. `frozen` are heads on its features, the others train through it, all with as many
steps. Source-only reads no image on a photo.

Command: PYTHONPATH=. python benchmarks/digits_on_photos.py [--workspace FOLDER] [--seeds 0,1,2] [--epochs 8]
         [--only source-only,dann]
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from extract import SHARED, machine
from learning_curves import accuracy, with_rows
from PIL import Image
from sklearn.datasets import load_digits

from tasks.evaluate.scores.intervals import mean_interval
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.train.adaptation.config import LEAST_AGREEMENT
from tasks.train.adaptation.criteria import Verdict
from tasks.train.adaptation.images import trusted
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.methods.adapt_tuned import AdaptTuned
from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.workspace import Workspace

SIDE = 32
HELD_OUT, CHOOSING = 1 / 3, 0.15
RATE, BATCH = 5e-4, 64

PLAIN = "source-only"
"""Of those that train through the backbone, what the others are compared with."""
SHARED_KEYS = {"learning_rate": RATE, "batch_size": BATCH, "augment": "none", "batch_norm": "update"}
"""Of all that train through the backbone. Digits are no digits when mirrored."""
COMPARED = {
    "frozen linear": {"method": "linear"},
    "frozen adabn": {"method": "adabn", "cautious": False},
    "frozen dann": {"method": "dann", "cautious": False},
    "frozen mcc": {"method": "mcc", "cautious": False},
    PLAIN: {"method": "full"} | SHARED_KEYS,
    "dann": {"method": "adapt_tuned", "term": "dann", "cautious": False} | SHARED_KEYS,
    "cdan": {"method": "adapt_tuned", "term": "cdan", "cautious": False} | SHARED_KEYS,
    "mcc": {"method": "adapt_tuned", "term": "mcc", "cautious": False} | SHARED_KEYS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-digits-on-photos")
    parser.add_argument("--seeds", default="0,1,2", help="comma between them")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the labelled digits")
    parser.add_argument("--only", default=",".join(COMPARED), help="rows of the table; comma between them")
    options = parser.parse_args()
    options.workspace.mkdir(parents=True, exist_ok=True)
    os.environ["HEADSTART_WORKSPACE"] = str(options.workspace.resolve())
    print(machine())
    rows = []
    for seed in map(int, options.seeds.split(",")):
        ready, fits = prepare(seed, Workspace.find()), {}
        for name in filter(COMPARED.__contains__, options.only.split(",")):
            keys = COMPARED[name] | ({"epochs": options.epochs} if "batch_norm" in COMPARED[name] else {})
            method = METHODS[str(keys["method"])].model_validate(keys)
            rows.append({"seed": seed, "what": name} | tried(name, method, ready, fits))
            print(*rows[-1].values(), flush=True)
            pd.DataFrame(rows).to_csv(options.workspace / "digits_on_photos.csv", index=False)
    tell(pd.DataFrame(rows))


def prepare(seed: int, workspace: Workspace) -> Task:
    """The digits of a seed, seen by the built-in backbone."""
    folder = workspace.root / f"digits-{seed}"
    if not folder.exists():
        write(folder, seed)
    source = {"folder": str(folder), "layout": "domain/label"}
    split = {"target": ["photo"]}
    dataset = ingest_images(IngestConfig.model_validate({"source": source, "split": split}), workspace, into_data=False)
    dataset = as_meant(dataset, seed, workspace)
    preprocessed = preview_recipe(PreprocessConfig(size=SIDE), dataset, workspace)
    features = extract_features(ExtractConfig(), dataset, preprocessed, workspace)
    extract_features(ExtractConfig(), dataset, preprocessed, workspace, ("pool",))
    checkpoints = Path(tempfile.mkdtemp(dir=workspace.root))
    return Task(dataset, preprocessed, features, Path(features.weights), checkpoints, seed)


def write(folder: Path, seed: int) -> None:
    """All digits as they are and on photos, in folders by domain and label."""
    draw = np.random.default_rng(seed)
    photos = patches(draw)
    digits = load_digits()
    for number, (grey, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        drawn = Image.fromarray((grey * 255 / 16).round().astype(np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        digit = np.asarray(drawn.convert("RGB"))
        blended = np.abs(digit.astype(int) - next(photos)).astype(np.uint8)
        for domain, pixels in (("plain", digit), ("photo", blended)):
            path = folder / domain / str(label) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def patches(draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Random squares of random photos, int ``[32, 32, 3]``, without end."""
    with tarfile.open(SHARED / "hymenoptera.tar.gz") as archive:
        files = [archive.extractfile(member) for member in archive.getmembers() if member.name.endswith(".jpg")]
        photos = [np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")) for file in files if file]
    while True:
        photo = photos[draw.integers(len(photos))]
        top, left = (int(draw.integers(side - SIDE + 1)) for side in photo.shape[:2])
        yield photo[top : top + SIDE, left : left + SIDE].astype(int)


def as_meant(dataset: Dataset, seed: int, workspace: Workspace) -> Dataset:
    """The dataset in which no digit that is tested is learned from in any form."""
    rows = dataset.read_manifest()
    number = rows["path"].str.extract(r"(\d{4})\.png$", expand=False).astype(int)
    order = np.random.default_rng(seed).permutation(1 + number.max()) / (1 + number.max())
    place = pd.Series(order[number], index=rows.index)
    on_photo, tested = rows["domain"] == "photo", place < HELD_OUT
    choosing = place < HELD_OUT + (1 - HELD_OUT) * CHOOSING
    split = pd.Series("train", index=rows.index).mask(choosing, "val").mask(on_photo, "pool").mask(tested, "test")
    rows = rows.assign(split=split)[on_photo | ~tested]
    rows["label"] = rows["label"].mask(rows["split"] == "pool", None)
    return with_rows(dataset, rows, f"seed-{seed}", workspace.cache)


def tried(name: str, method: Method, task: Task, fits: dict[str, Fit]) -> dict[str, float]:
    """Test accuracy of a method, its seconds, and what the criteria say of it against source-only; through the
    backbone, also the accuracy of what caution serves."""
    began = time.monotonic()
    fits[name] = fit = method.fit(replace(task, folder=task.folder / str(len(fits))))
    found = {"accuracy": accuracy(fit, task), "validation": fit.score, "seconds": time.monotonic() - began}
    if "agreement" in fit.chosen:
        verdict = Verdict(*(fit.chosen[key] for key in ("agreement", "information", "plain_information")))
    elif isinstance(method, AdaptTuned) and PLAIN in fits:
        served = trusted(fit, fits[PLAIN], task)
        verdict = Verdict(*(served.chosen[key] for key in ("agreement", "information", "plain_information")))
        found["served"] = accuracy(served, task)
    else:
        return found
    return found | vars(verdict) | {"trusted": verdict.trusted(LEAST_AGREEMENT)}


def tell(rows: pd.DataFrame) -> None:
    """Means over the seeds with their 95% intervals, the gain over source-only of the same kind, and seconds."""
    wide = rows.pivot(index="seed", columns="what", values="accuracy")
    for name, part in rows.groupby("what", sort=False):
        plain = "frozen linear" if str(name).startswith("frozen") else PLAIN
        gain = mean_interval((wide[name] - wide[plain]).tolist()) if plain in wide and len(wide) > 1 else ()
        mean = mean_interval(part["accuracy"].tolist()) if len(part) > 1 else (part["accuracy"].mean(),)
        print("|", " | ".join([str(name), *(" ".join(f"{value:+.4f}" for value in each) for each in (mean, gain)),
              f"{part['seconds'].mean():.0f}"]), "|")  # fmt: skip


if __name__ == "__main__":
    main()
