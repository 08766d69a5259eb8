"""What domain adaptation gains through the backbone: PACS, each pair of a domain with labels and one without, all
layers of an ImageNet MobileNetV2 at 64 px.

The images of a pair are those of `benchmarks/adaptation.py`: half of a target's, by content, is adapted to, and the
figure is of the other half. `plain` is what learns from the source alone, alike in all else, once for all targets;
`statistics` is the same network with the target's statistics in its batch norms, and `likeness` is Cohen's kappa of its
answers and the adapted one's; `kept` is what caution serves without a label of the target. The term `none` is
`adabn_tuned`, whose adapted network is the one of `statistics`.

Command: PYTHONPATH=. python benchmarks/adaptation_tuned.py [--workspace FOLDER] [--seeds 0] [--terms mcc] [--epochs 3]
         [--pairs photo-cartoon,art_painting-photo]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pandas as pd
from extract import SHARED, Table, machine
from learning_curves import accuracy, is_there, with_rows

from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.splits import position
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.train.adaptation.criteria import agreement
from tasks.train.adaptation.images import answers, restated, some_of_target, trusted
from tasks.train.adaptation.midway import midway
from tasks.train.methods.adapt_tuned import AdaptTuned
from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.workspace import Workspace

SIDE = 64
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
WEIGHTS = SHARED.parent / "weights" / "mobilenet_v2-imagenet.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-adaptation-tuned")
    parser.add_argument("--seeds", default="0", help="comma between them")
    parser.add_argument("--terms", default="mcc", help="comma between them")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the labelled images")
    pairs = ",".join("-".join(pair) for pair in permutations(DOMAINS, 2))
    parser.add_argument("--pairs", default=pairs, help="labelled-unlabelled; comma between them")
    options = parser.parse_args()
    options.workspace.mkdir(parents=True, exist_ok=True)
    os.environ["HEADSTART_WORKSPACE"] = str(options.workspace.resolve())
    print(machine())
    everything, table = look(Workspace.find()), options.workspace / "adaptation_tuned.csv"
    for seed in map(int, options.seeds.split(",")):
        for source, target in (pair.split("-") for pair in options.pairs.split(",")):
            for term in options.terms.split(","):
                key = {"term": term, "source": source, "target": target, "seed": seed, "epochs": options.epochs}
                if not is_there(table, key):
                    row = key | measured(of_pair(everything, source, target, seed), term, options.epochs)
                    pd.DataFrame([row]).to_csv(table, mode="a", header=not table.exists(), index=False)
                    print(*row.values(), flush=True)
    tell(pd.read_csv(table))


def look(workspace: Workspace) -> Task:
    """All images of PACS, as the frozen network sees them."""
    source = {"archive": str(SHARED / "pacs-128.tar.gz"), "layout": "domain/label"}
    dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace, into_data=False)
    preprocessed = preview_recipe(PreprocessConfig(size=SIDE), dataset, workspace)
    config = ExtractConfig(backbone="mobilenet_v2", weights=str(WEIGHTS))
    features = extract_features(config, dataset, preprocessed, workspace)
    return Task(dataset, preprocessed, features, Path(features.weights), workspace.cache / "adaptation_tuned", 0)


def of_pair(everything: Task, source: str, target: str, seed: int) -> Task:
    """The labelled domain, and the other without labels but those of the images that are tested on."""
    rows = everything.dataset.read_manifest()
    place, ours = rows["hash"].map(position), rows["domain"] == source
    split = pd.Series("train", index=rows.index).mask(place < 0.15, "val").where(ours, "pool")
    split = split.mask(~ours & (place >= 0.5), "test")
    rows = rows.assign(split=split)[ours | (rows["domain"] == target)]
    rows["label"] = rows["label"].mask(rows["split"] == "pool", None)
    dataset: Dataset = with_rows(everything.dataset, rows, f"{source}-{target}", everything.folder.parent)
    return replace(everything, dataset=dataset, folder=everything.folder / source / str(seed), seed=seed, known={})


def measured(task: Task, term: str, epochs: int) -> dict[str, float | bool]:
    """Accuracy on the target of the network that was adapted and of the one that was not, and what tells them apart."""
    known = {} if term == "none" else {"term": term}
    method = AdaptTuned.model_validate(known | {"epochs": epochs, "cautious": False})
    # A training that is over is not begun again: the source's serves all of its targets.
    plain: Fit = method.source_only.fit(replace(task, folder=task.folder / f"source-only-{epochs}", known={}))
    began, folder = time.monotonic(), task.folder / "adapted"
    shutil.rmtree(folder, ignore_errors=True)
    if term == "none":
        moved = adapted = restated(plain, task, cautious=False)
        served = restated(plain, task)
    else:
        adapted = method.fit(replace(task, folder=folder, known={}))
        moved = midway(plain, adapted, 0.0, task, some_of_target(task), follow=True)
        served = trusted(adapted, plain, task)
    seconds = time.monotonic() - began
    compared = {"plain": plain, "statistics": moved, "adapted": adapted, "kept": served}
    figures = {name: accuracy(fit, task) for name, fit in compared.items()}
    told = {name: served.chosen[name] for name in ("agreement", "information", "plain_information")}
    likeness = agreement(*(answers(each, task) for each in (adapted, moved)))
    return figures | {"seconds": seconds, "likeness": likeness, "share": served.chosen.get("share", -1.0)} | told


def tell(rows: pd.DataFrame) -> None:
    """Each pair, and the means over all."""
    columns = ["plain", "statistics", "adapted", "kept", "likeness", "agreement"]
    for (term, epochs), part in rows.groupby(["term", "epochs"], sort=False):
        print(f"\n{term}, {epochs} epochs")
        lines = Table("labelled → unlabelled", *columns)
        for (source, target), pair in part.groupby(["source", "target"], sort=False):
            lines.row(f"{source} → {target}", *(f"{value:.3f}" for value in pair[columns].mean()))
        lines.row("mean", *(f"{value:.4f}" for value in part[columns].mean()))
        gains = part[columns[1:4]].sub(part["plain"], axis=0).min()
        lines.row("at worst", "", *(f"{value:+.4f}" for value in gains), "", "")


if __name__ == "__main__":
    main()
