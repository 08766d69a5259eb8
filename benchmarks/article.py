"""The textbook experiment as it was published, and as headstart does it: VGG16 from ImageNet on CIFAR-10 at 32 px.

published: the frozen base runs again on every image in every epoch, in fp32, inputs in [0, 1], 50,000 images to learn
from and the 10,000 test images in place of validation; `Flatten`, `Dense(256, ReLU)`, `Dense(10)`, Adam with its
defaults, batches of 64, ten epochs. The base is the very one that was published with, Keras's own, whose pixels were
expected otherwise. Since it is frozen, it gives the same in every epoch: it runs twice, the first is timed alone, and
the seconds of ten epochs are ten times those of one. `normalised` is the same with inputs as in the base's training.

ours: `headstart run` of a configuration, from the archive to the registered model; features of one seed serve the next.

Each result is printed, and kept in the workspace as soon as it is there; a second call goes on with what is missing.

Command: PYTHONPATH=. python benchmarks/article.py [--workspace FOLDER] [--seeds 0,1,2] [--only published,layers]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from extract import SHARED, machine, unpack
from learning_curves import interval, is_there
from mlflow import MlflowClient
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import normalize, pil_to_tensor
from tqdm import tqdm

from tasks.extract.backbones import load_network
from tasks.extract.weights import read_weights

ROOT = Path(__file__).parents[1]
WEIGHTS = SHARED.parent / "weights" / "vgg16-imagenet.safetensors"
EPOCHS, BATCH, TEST = 10, 64, 10_000
OURS = {
    "layers": ["article_vgg16_layers"],
    "soon": [
        "article_vgg16_layers",
        "ingest.split.shots=100",
        "ingest.split.val=0.02",
        "preprocess.augmented=0",
        "evaluate.robustness=0",
        "evaluate.explain=0",
    ],
}
"""Configurations, and what of them is set otherwise; ``soon`` is what it takes to be better than as published."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-article")
    parser.add_argument("--seeds", default="0,1,2", help="comma between them")
    parser.add_argument("--only", default=",".join(["published", "normalised", *OURS]), help="comma between them")
    options = parser.parse_args()
    options.workspace.mkdir(parents=True, exist_ok=True)
    print(machine())
    table = options.workspace / "article.csv"
    for what in options.only.split(","):
        for seed in map(int, options.seeds.split(",")):
            key = {"what": what, "seed": seed}
            if not is_there(table, key):
                found = run(what, seed, options.workspace) if what in OURS else published(what, seed, options.workspace)
                row = pd.DataFrame([key | found])
                row.to_csv(table, mode="a", header=not table.exists(), index=False)
                print(row.to_string(index=False, header=False), flush=True)
    tell(pd.read_csv(table))


def published(what: str, seed: int, workspace: Path) -> dict[str, Any]:
    """Test accuracy and seconds of the procedure as it was published, or with its inputs ``normalised``."""
    images = {split: Images.read(workspace, split) for split in ("train", "test")}
    base = Base(what == "normalised")
    seen, kept = {}, workspace / f"{what}.pt"
    if kept.exists():
        seen = torch.load(kept)
    else:
        for split, each in images.items():
            began = time.monotonic()
            seen[split] = base(each.pixels)
            seen[f"{split} seconds"] = time.monotonic() - began
        torch.save(seen, kept)
    began = time.monotonic()
    accuracy = trained(seen["train"], images["train"].targets, seen["test"], images["test"].targets, seed)
    seconds = time.monotonic() - began + EPOCHS * (seen["train seconds"] + seen["test seconds"])
    return {"accuracy": accuracy, "seconds": seconds, "both": seconds}


@dataclass
class Images:
    """Pixels uint8 [images, 3, 32, 32], and classes by number."""

    pixels: Tensor
    targets: Tensor

    @classmethod
    def read(cls, workspace: Path, split: str) -> Images:
        unpacked = workspace / "unpacked"
        if not unpacked.exists():
            unpack("cifar10-jpeg.tar.gz", workspace / "unpacking").rename(unpacked)
        folder = ImageFolder(str(unpacked / split))
        return cls(torch.stack([pil_to_tensor(image) for image, _ in folder]), torch.tensor(folder.targets))


class Base:
    """The convolutional base, frozen.

    Args:
        normalised: whether it sees pixels as in its training; else in [0, 1].
    """

    def __init__(self, normalised: bool) -> None:
        weights = read_weights("vgg16", WEIGHTS.name, WEIGHTS)
        self.network = load_network("vgg16", weights, ["features"]).eval().features
        self.mean, self.std = (weights.mean, weights.std) if normalised else ((0.0,) * 3, (1.0,) * 3)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """What it sees: float32 [images, 512]."""
        batches = (normalize(batch / 255, list(self.mean), list(self.std)) for batch in pixels.split(BATCH))
        return torch.cat([self.network(batch).flatten(1) for batch in tqdm(batches, total=-(-len(pixels) // BATCH))])


def trained(train: Tensor, targets: Tensor, test: Tensor, truth: Tensor, seed: int) -> float:
    """Test accuracy of the published head after its last epoch.

    The published loss was told to expect logits and given probabilities; Keras, that notices, takes the logits."""
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Linear(train.shape[1], 256), nn.ReLU(), nn.Linear(256, 10))
    optimiser = torch.optim.Adam(head.parameters())
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(train)).split(BATCH):
            optimiser.zero_grad()
            cross_entropy(head(train[batch]), targets[batch]).backward()
            optimiser.step()
    with torch.inference_mode():
        return (head(test).argmax(1) == truth).double().mean().item()


def run(what: str, seed: int, workspace: Path) -> dict[str, Any]:
    """Test accuracy and seconds of a whole run of headstart."""
    config, *changes = OURS[what]
    settings = [argument for change in (*changes, f"train.seed={seed}") for argument in ("-s", change)]
    environment = os.environ | {"HEADSTART_WORKSPACE": str(workspace.resolve())}
    began = time.monotonic()
    command = [sys.executable, "-m", "flows.cli", "run", str(ROOT / "configs" / f"{config}.yaml"), "--quiet", *settings]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    seconds = time.monotonic() - began
    client = MlflowClient(f"sqlite:///{workspace.resolve()}/mlruns/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    [latest] = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)
    both = sum(stages(workspace / "mlruns" / "headstart.log")[stage] for stage in ("extract", "train", "evaluate"))
    return {"accuracy": latest.data.metrics["test/accuracy"], "seconds": seconds, "both": both}


def stages(log: Path) -> dict[str, float]:
    """Seconds of each stage of the latest run, as its log has them."""
    found, before = {}, datetime.min
    said = re.compile(r"(\S+ \S+) \| .* (?:(Beginning flow run)|Task run '(\w+)-\w+' - Finished)")
    for when, begins, stage in (line.groups() for line in map(said.match, log.read_text().splitlines()) if line):
        if begins:
            found = {}
        else:
            found[stage] = (datetime.fromisoformat(when) - before).total_seconds()
        before = datetime.fromisoformat(when)
    return found


def tell(rows: pd.DataFrame) -> None:
    """Accuracy with its interval over seeds, or over the test images where there is one; seconds of the first seed,
    whose features were not there yet, and of these what the published procedure does, too: the base's look at the
    images, training, evaluation."""
    for what, seeds in rows.groupby("what", sort=False):
        values = list(seeds["accuracy"])
        mean, low, high = interval(values, TEST) or ()
        seconds, both = seeds[["seconds", "both"]].iloc[0]
        print(f"{what:<12} {mean:.4f} [{low:.4f}, {high:.4f}]  {len(values)} seeds  {seconds:,.0f} s  {both:,.0f} s")


if __name__ == "__main__":
    main()
