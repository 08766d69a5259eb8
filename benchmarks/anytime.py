"""How good is what a budget of time buys? Held-out accuracy against wall time: `train.method: auto` against a fixed
`linear`, a fixed `lp_ft`, and fastai, with the same splits and the same budget. All three of these have the ImageNet
MobileNetV2, for which `auto` has to decide: EfficientNet-Lite0 and the built-in network compete.

Each cell is a process of its own in a fresh workspace, timed from its start to its end: `headstart run` registers a
model and writes its report in that time, fastai only trains and answers. `lp_ft` and fastai are told to end their
training in time for what follows. A cell is appended to ``anytime.csv`` as soon as it is there, and a second call goes
on with what is missing.

Command: python benchmarks/anytime.py [--sets hymenoptera pacs cifar10] [--minutes 1 3 10 30] [--ways auto linear lp_ft]
         python benchmarks/anytime.py --ways fastai --fastai PYTHON   (of an environment with headstart's packages and
         `pip install fastai`; not part of headstart's own)
         python benchmarks/anytime.py --table                        (prints the table alone)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from extract import SHARED, machine

from tasks.evaluate.scores.intervals import wilson

HERE = Path(__file__).parent
TABLE = HERE / "anytime.csv"
WEIGHTS = SHARED.parent / "weights"
MOBILENET = {"backbone": "mobilenet_v2", "weights": str(WEIGHTS / "mobilenet_v2-imagenet.safetensors")}
COMPETING = [
    "mobilenet_v2",
    f"timm/tf_efficientnet_lite0={WEIGHTS / 'tf_efficientnet_lite0-imagenet.safetensors'}",
    "resnet_32px",
]
SETS: dict[str, dict[str, Any]] = {
    "hymenoptera": {"source": {"archive": str(SHARED / "hymenoptera.tar.gz")}, "size": 224, "images": 398},
    "pacs": {
        "source": {"archive": str(SHARED / "pacs-128.tar.gz"), "layout": "domain/label"}, "size": 128,
        "images": 9_991,
    },
    "cifar10": {"source": {"archive": str(SHARED / "cifar10-jpeg.tar.gz")}, "size": 128, "images": 60_000},
}  # fmt: skip
WAYS = ("auto", "linear", "lp_ft", "fastai")
AFTER, EACH = 40.0, 0.002
"""Seconds that a run takes beside its training, and of each image, by which trainings are told when to end."""


def section(way: str, minutes: float, images: int) -> dict[str, Any]:
    """What ``train`` says."""
    if way == "auto":
        return {"method": "auto", "budget": f"{minutes:g}m", "backbones": COMPETING}
    if way == "linear":
        return {"method": "linear"}
    left = max(10.0, 60 * minutes - AFTER - 3 * EACH * images)
    small = images < 20_000
    return {
        "method": "lp_ft", "epochs": 20, "minutes": round(left / 60, 3), "learning_rate": 3e-4,
        "batch_size": 32 if small else 64,
    }  # fmt: skip


def config_of(name: str, way: str, minutes: float) -> dict[str, Any]:
    """The pipeline of a cell."""
    of = SETS[name]
    return {
        "name": name, "ingest": {"source": of["source"]}, "preprocess": {"size": of["size"]}, "extract": MOBILENET,
        "train": section(way, minutes, of["images"]),
    }  # fmt: skip


def headstart(name: str, way: str, minutes: float, folder: Path) -> dict[str, Any]:
    """A cell of headstart's: the held-out accuracy of the version that the run registered, and its wall time."""
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(config_of(name, way, minutes)))
    env = os.environ | {"HEADSTART_WORKSPACE": str(folder)}
    command = [sys.executable, "-m", "flows.cli", "run", str(path), "--quiet"]
    began = time.monotonic()
    done = subprocess.run(command, env=env, cwd=HERE.parent, capture_output=True, text=True)
    took = time.monotonic() - began
    subprocess.run([sys.executable, "-m", "flows.cli", "ui", "--stop"], env=env, cwd=HERE.parent, capture_output=True)
    if done.returncode:
        return {"seconds": took, "note": done.stderr.strip().splitlines()[-1]}
    return {"seconds": took, "note": done.stdout.strip()} | _figures(folder, name)


def _figures(folder: Path, name: str) -> dict[str, Any]:
    """Of the whole run, which is inside no other."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    [experiment] = [each for each in client.search_experiments() if each.name == name]
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    metrics = next(run.data.metrics for run in runs if "mlflow.parentRunId" not in run.data.tags)
    split = "test" if "test/accuracy" in metrics else "val"
    return {
        key: metrics[f"{split}/accuracy{end}"] for key, end in (("accuracy", ""), ("low", "_low"), ("high", "_high"))
    }


def fastai(name: str, minutes: float, folder: Path, python: str) -> dict[str, Any]:
    """A cell of fastai's, by the splits that headstart gives the images, which are ingested before the time begins."""
    job = folder / "job.json"
    job.write_text(json.dumps(_ingested(name, folder) | {"seconds": 60 * minutes, "size": SETS[name]["size"]}))
    began = time.monotonic()
    command, env = [python, __file__, "--job", str(job)], os.environ | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, env=env)
    took = time.monotonic() - began
    if done.returncode:
        return {"seconds": took, "note": done.stderr.strip().splitlines()[-1]}
    told = json.loads(done.stdout.strip().splitlines()[-1])
    value, low, high = wilson(told["right"], told["images"])
    return {"seconds": took, "accuracy": value, "low": low, "high": high, "note": f"{told['epochs']} epochs"}


def _ingested(name: str, folder: Path) -> dict[str, Any]:
    from tasks.ingest.config import IngestConfig
    from tasks.ingest.door import ingest_images
    from tasks.workspace import Workspace

    dataset = ingest_images(IngestConfig.model_validate({"source": SETS[name]["source"]}), Workspace(folder))
    rows = dataset.read_manifest()
    part = rows["split"].map({"train": "train", dataset.choose_on: "valid", dataset.report_on: "test"})
    listed = pd.DataFrame({"file": [str(dataset.image(h)) for h in rows["hash"]], "label": rows["label"], "part": part})
    listed.dropna().to_csv(folder / "images.csv", index=False)
    return {"images": str(folder / "images.csv"), "weights": MOBILENET["weights"]}


def train_with_fastai(job: dict[str, Any]) -> None:
    """What fastai's own recipe (`fine_tune`: the head for an epoch, then all) makes of the time; prints what came of
    it.

    Runs where fastai is installed, which headstart does not need.
    """
    began = time.monotonic()
    try:
        from fastai.vision import all as fast
    except ImportError as error:
        raise SystemExit(
            f"fastai is not installed for {sys.executable}: {sys.executable} -m pip install fastai"
        ) from error
    import torch
    from safetensors.torch import load_file
    from torchvision.models import mobilenet_v2

    rows = pd.read_csv(job["images"], dtype={"label": "string"})
    learned = rows[rows["part"] != "test"].assign(valid=rows["part"] == "valid")
    loaders = fast.ImageDataLoaders.from_df(
        learned, path="/", fn_col="file", label_col="label", valid_col="valid", bs=64 if len(learned) > 20_000 else 32,
        item_tfms=fast.Resize(job["size"]),
        batch_tfms=[*fast.aug_transforms(), fast.Normalize.from_stats(*fast.imagenet_stats)],
        num_workers=0, device=torch.device("cpu"),
    )  # fmt: skip

    # What `vision_learner` puts together; it looks for a pooling layer to cut at, and this network has none.
    network = mobilenet_v2(weights=None)
    network.load_state_dict(load_file(job["weights"]), strict=False)
    head = fast.create_head(1280, loaders.c)
    fast.apply_init(head, torch.nn.init.kaiming_normal_)
    model = torch.nn.Sequential(network.features, head)
    learner = fast.Learner(loaders, model, splitter=fast.default_split, metrics=fast.accuracy)
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        started = time.monotonic()
        learner.fit_one_cycle(1, slice(2e-3), pct_start=0.99)
        epoch = time.monotonic() - started
        test = rows[rows["part"] == "test"]
        # All layers take twice as long as the head alone, where the body's forward pass is most of it.
        left = job["seconds"] - (time.monotonic() - began) - epoch * len(test) / len(learned) - 5
        epochs = int(left / (2 * epoch))
        if epochs > 0:
            learner.unfreeze()
            learner.fit_one_cycle(epochs, slice(1e-5, 1e-3), pct_start=0.3, div=5.0)
        scores, _ = learner.get_preds(dl=loaders.test_dl(test["file"].tolist()))
    given = [loaders.vocab[place] for place in scores.argmax(1).tolist()]
    right = sum(one == other for one, other in zip(given, test["label"], strict=True))
    print(json.dumps({"right": right, "images": len(test), "epochs": epochs}))


def measure(name: str, way: str, minutes: float, python: str) -> dict[str, Any]:
    """One cell, in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="anytime-", ignore_cleanup_errors=True) as folder:
        if way == "fastai":
            return fastai(name, minutes, Path(folder), python)
        return headstart(name, way, minutes, Path(folder))


def show(table: pd.DataFrame) -> None:
    """The table in Markdown, a row for each set and budget."""
    print(f"| set | minutes | {' | '.join(WAYS)} |\n|---|---|{'---|' * len(WAYS)}")
    for (name, minutes), rows in table.groupby(["set", "minutes"], sort=False):
        cells = []
        for way in WAYS:
            found = rows[rows["way"] == way].dropna(subset="accuracy")
            one = found.iloc[-1] if len(found) else None
            cells.append(
                "" if one is None else f"{one.accuracy:.4f} [{one.low:.4f}, {one.high:.4f}] in {one.seconds:.0f} s"
            )
        print(f"| {name} | {minutes:g} | {' | '.join(cells)} |")


def main() -> None:
    """Measure what is missing, a line for each cell, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 3, 10, 30])
    parser.add_argument("--ways", nargs="+", default=["auto", "linear", "lp_ft"], choices=WAYS)
    parser.add_argument("--fastai", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        train_with_fastai(json.loads(options.job.read_text()))
        return
    known = pd.read_csv(TABLE) if TABLE.is_file() else pd.DataFrame(columns=["set", "minutes", "way"])
    there = set(zip(known["set"], known["minutes"], known["way"], strict=True))
    for name, minutes, way in product(options.sets, options.minutes, options.ways):
        if options.table or (name, minutes, way) in there:
            continue
        load = os.getloadavg()[0]
        cell = {"set": name, "minutes": minutes, "way": way} | measure(name, way, minutes, options.fastai)
        cell |= {"load": round(load, 1), "machine": machine()}
        columns = ["set", "minutes", "way", "accuracy", "low", "high", "seconds", "load", "machine", "note"]
        row = pd.DataFrame([cell]).reindex(columns=columns)
        row.to_csv(TABLE, mode="a", header=not TABLE.is_file(), index=False, float_format="%.4f")
        print(
            f"{name} {minutes:g} min {way}: {cell.get('accuracy', float('nan')):.4f} in {cell['seconds']:.0f} s",
            flush=True,
        )
    if TABLE.is_file():
        show(pd.read_csv(TABLE))


if __name__ == "__main__":
    main()
