"""What domain adaptation gains, and whether it is known without labels of the target: PACS, each pair of a domain with
labels and one without, on features of a frozen MobileNetV2 (ImageNet or, by `--weights`, iNaturalist) at 128 px.

Half of a target's images, by content, is adapted to; its labels are read by nobody. The figure is of the other half.

Command: PYTHONPATH=. python benchmarks/adaptation.py [--workspace FOLDER] [--seeds 0] [--methods cdan,mcc]
         [--weights inat_bird]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from itertools import permutations
from pathlib import Path

import pandas as pd
import torch
from extract import SHARED, machine

from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.splits import position
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.train.adaptation.aligning import Aligning
from tasks.train.adaptation.alignment import both as align
from tasks.train.adaptation.criteria import Verdict
from tasks.train.adaptation.domains import Domains, Learned
from tasks.train.adaptation.fit import both, learn
from tasks.train.adaptation.hedging import shares, together
from tasks.train.adaptation.method import Adaptation
from tasks.train.methods import METHODS
from tasks.train.targets import Labelled
from tasks.train.task import labelled
from tasks.workspace import Workspace

WEIGHTS = SHARED.parent / "weights"
PLAIN: dict[tuple[str, str, int], tuple[Domains, Learned]] = {}
"""What is not adapted is the same for all methods but those in closed form, whose heads are linear: by source, target
and seed."""
ADAPTATIONS = [name for name, kind in METHODS.items() if issubclass(kind, Adaptation | Aligning)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "headstart-adaptation")
    parser.add_argument("--seeds", default="0", help="comma between them")
    parser.add_argument("--methods", default=",".join(ADAPTATIONS))
    parser.add_argument("--weights", default="imagenet", choices=["imagenet", "inat_bird", "inat_insect"])
    arguments = parser.parse_args()
    arguments.workspace.mkdir(parents=True, exist_ok=True)
    os.environ["HEADSTART_WORKSPACE"] = str(arguments.workspace.resolve())
    print(machine())
    rows, images = look(arguments.weights)
    tables = []
    for method in arguments.methods.split(","):
        started = time.monotonic()
        found = [
            run(method, source, target, int(seed), rows, images)
            for source, target in permutations(rows["domain"].unique(), 2)
            for seed in arguments.seeds.split(",")
        ]
        tables.append(table := pd.DataFrame(found))
        mean = table[["plain", "adapted", "kept"]].mean()
        harm = (table["kept"] - table["plain"]).min()
        print(
            f"{method:14} source only {mean['plain']:.4f}, adapted {mean['adapted']:.4f}, kept {mean['kept']:.4f} "
            f"({mean['kept'] - mean['plain']:+.4f}; at worst {harm:+.4f}; adapted in {table['taken'].mean():.0%}), "
            f"{(time.monotonic() - started) / len(table):.1f} s a pair",
            flush=True,
        )
        pd.concat(tables).to_csv(arguments.workspace / "adaptation.csv", index=False)


def look(weights: str) -> tuple[pd.DataFrame, Labelled]:
    """All images of PACS: a row each, and features and labels."""
    workspace = Workspace.find()
    source = {"archive": str(SHARED / "pacs-128.tar.gz"), "layout": "domain/label"}
    dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace)
    preprocessed = preview_recipe(PreprocessConfig.model_validate({"size": 128}), dataset, workspace)
    config = ExtractConfig.model_validate(
        {"backbone": "mobilenet_v2", "weights": str(WEIGHTS / f"mobilenet_v2-{weights}.safetensors")}
    )
    features = extract_features(config, dataset, preprocessed, workspace)
    rows = dataset.read_manifest().reset_index(drop=True)
    rows["position"] = rows["hash"].map(position)
    return rows, labelled(dataset, features, rows)


def run(method: str, source: str, target: str, seed: int, rows: pd.DataFrame, images: Labelled) -> dict[str, object]:
    """A pair: accuracy on the target's other half of the head that is not adapted, of the one that is, and of what
    caution keeps; and the criteria of both."""
    ours, theirs = rows["domain"] == source, rows["domain"] == target
    chosen = rows["position"] < 0.15
    train_images, validation = (take(images, part) for part in (ours & ~chosen, ours & chosen))
    test = take(images, theirs & (rows["position"] >= 0.5))
    unlabelled = take(images, theirs & (rows["position"] < 0.5))[0]
    section, classes = METHODS[method].model_validate({}), int(images[1].max()) + 1
    told: dict[str, float] = {}
    if isinstance(section, Aligning):
        attempts = align(train_images, validation, unlabelled, classes, partial(section.align, seed=seed))
        heads, answers = [each.fit.head for each in attempts], [each.logits for each in attempts]
    else:
        assert isinstance(section, Adaptation)
        if (source, target, seed) not in PLAIN:
            domains = Domains(train_images, validation, unlabelled, classes)
            PLAIN[source, target, seed] = domains, learn(section, domains, seed)
        domains, unadapted = PLAIN[source, target, seed]
        trained = both(section, domains, seed, unadapted)
        heads, answers = [each.head for each in trained], [each.logits for each in trained]
        told = {f"{name}.{key}": value for name, each in zip(("plain", "adapted"), trained, strict=True)
                for key, value in vars(each.criteria).items()}  # fmt: skip
    verdict = Verdict.of(answers[1].softmax(1), answers[0].softmax(1))
    taken = verdict.trusted(section.least_agreement)
    heads.append(together((heads[0], heads[1]), shares(*answers)))
    with torch.inference_mode():
        before, after, both_ = ((head(test[0]).argmax(1) == test[1]).double().mean().item() for head in heads)
    return {
        "method": method, "source": source, "target": target, "seed": seed, "plain": before, "adapted": after,
        "together": both_, "kept": both_ if taken else before, "taken": taken,
        "agreement": verdict.agreement,
    } | told  # fmt: skip


def take(images: Labelled, which: pd.Series) -> Labelled:
    mask = torch.tensor(which.to_numpy())
    return images[0][mask], images[1][mask]


if __name__ == "__main__":
    main()
