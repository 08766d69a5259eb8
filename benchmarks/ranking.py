"""Does `headstart rank` name the right backbone? What each score says on a sample of the training images, against the
test accuracy of a linear head on all of them and, of some, of the fine-tuned network.

Ants and bees at 160 px in their own split; a part of each domain of PACS, of CIFAR-10, digits and Tiny ImageNet at 96
px, of which each seed is a fold. Three MobileNetV2s (ImageNet, iNaturalist's birds, its insects), EfficientNet-Lite0, a
MobileNetV2 of random weights and the built-in network at 32 px, with up to three layers each, are 17 candidates.
Scores, samples and times are those of the command. A candidate's accuracy is the mean over all folds that have been
measured, as one holds few images. A fold is appended to ``ranking.csv`` as soon as it is there, and a second call goes
on with what is missing; features are kept.

Command: python benchmarks/ranking.py [--sets hymenoptera digits] [--seeds 0 1 2 3 4] [--most 1500]
         python benchmarks/ranking.py --tune     (also fine-tunes the whole networks, an hour)
         python benchmarks/ranking.py --table    (prints the tables alone)
"""

from __future__ import annotations

import argparse
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from extract import SHARED, Table
from learning_curves import is_there, record, with_rows, workplace
from scipy.stats import weightedtau
from sources import DOMAINS, ingested, settings
from sources import TABLE as SOURCES

from tasks.evaluate.transferability.ranking import Rated, ranking, rate
from tasks.evaluate.transferability.rating import cost_of
from tasks.evaluate.transferability.sample import draw_sample, telling
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.facts import own_looks
from tasks.groups import group_numbers
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.train.solvers import fit_linear, fit_linear_cross_validated
from tasks.train.targets import Labelled
from tasks.train.task import Task, labelled
from tasks.workspace import Workspace, fresh_folder

TABLE, TUNED = Path(__file__).parent / "ranking.csv", Path(__file__).parent / "ranking_tuned.csv"
WEIGHTS = SHARED.parent / "weights"
MOBILENET = ("features.13", "features.17", "features.18")
NETWORKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "imagenet": ("mobilenet_v2", str(WEIGHTS / "mobilenet_v2-imagenet.safetensors"), MOBILENET),
    "inat_bird": ("mobilenet_v2", str(WEIGHTS / "mobilenet_v2-inat_bird.safetensors"), MOBILENET),
    "inat_insect": ("mobilenet_v2", str(WEIGHTS / "mobilenet_v2-inat_insect.safetensors"), MOBILENET),
    "lite0": (
        "timm/tf_efficientnet_lite0", str(WEIGHTS / "tf_efficientnet_lite0-imagenet.safetensors"),
        ("blocks.4", "blocks.6", "bn2"),
    ),
    "builtin": ("resnet_32px", "builtin", ("blocks.0", "blocks.1", "flatten")),
    "random": ("mobilenet_v2", "random", ("features.13", "features.18")),
}  # fmt: skip
CLASSES = {"cifar10": 10, "tinyimagenet": 25}
"""That are taken of an archive, the first ones."""
SETS = ("hymenoptera", *DOMAINS, "cifar10", "digits", "tinyimagenet")
SCORES = {"probe": "probe", "neighbours": "k-NN", "log_me": "LogME", "h_score": "H-score", "n_leep": "NLEEP"}
POINT = 0.01
LARGE = 60_000
"""Images of a set beside which a sample's cost is told, too."""
RESAMPLES = 10_000
COSTS: dict[tuple[str, str, str], tuple[float, int, int]] = {}
"""Of a set, network and layer, the same in all folds."""


@dataclass(frozen=True)
class Case:
    """A fold of a set, and the sample that is ranked on."""

    name: str
    seed: int
    dataset: Dataset
    sample: Dataset


def main() -> None:
    """Measure what is missing, then print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="folds, from 0 to 4")
    parser.add_argument("--most", type=int, default=1_500, help="images of a set, held-out ones included")
    parser.add_argument("--images", type=int, default=2_000, help="of a sample, at most")
    parser.add_argument("--tune", action="store_true", help="fine-tune, too")
    parser.add_argument("--table", action="store_true", help="only print")
    options = parser.parse_args()
    if not options.table:
        workspace = workplace()
        for seed, name in product(options.seeds, options.sets):
            if seed == 0 or name != "hymenoptera":
                measure(name, seed, options, workspace)
    show(options.most, options.images)


def measure(name: str, seed: int, options: argparse.Namespace, workspace: Workspace) -> None:
    """Append what is missing of a set's fold to the tables."""
    key = {"dataset": name, "seed": seed, "most": options.most, "images": options.images}
    if is_there(TABLE, key) and not options.tune:
        return
    dataset = taken_in(name, seed, options.most, workspace)
    case = Case(name, seed, dataset, draw_sample(dataset, options.images, workspace))
    if not is_there(TABLE, key):
        began = time.monotonic()
        rows = pd.DataFrame(judged(case, workspace)).assign(**key)
        rows.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False, float_format="%.5g")
        print(f"{name} {seed}: {len(rows)} candidates in {time.monotonic() - began:.0f} s", flush=True)
    for network in NETWORKS if options.tune else ():
        tuned(case, network, workspace)


def taken_in(name: str, seed: int, most: int, workspace: Workspace) -> Dataset:
    """A fold of a set: so many of its images, the same ones in each."""
    if name == "hymenoptera" or name in DOMAINS:
        dataset = ingested(name, seed, workspace)
    else:
        config: dict[str, Any] = {"split": {"folds": 5, "fold": seed}}
        if name != "digits":
            config["source"] = {"folder": str(cut(name, most, workspace))}
        dataset = ingest_images(IngestConfig.model_validate(config), workspace, into_data=False)
    rows = dataset.read_manifest().sort_values("path")
    if len(rows) <= most:
        return dataset
    return with_rows(dataset, rows.sample(most, random_state=0), f"{name}-{seed}-{most}", workspace.cache)


def cut(name: str, most: int, workspace: Workspace) -> Path:
    """A folder with the first classes of an archive, and as many images of each."""
    final = workspace.cache / "cut" / f"{name}-{most}"
    if final.is_dir():
        return final
    archive = {"cifar10": "cifar10-jpeg", "tinyimagenet": "tinyimagenet-32"}[name]
    counts: Counter[str] = Counter()
    with fresh_folder(final) as folder, tarfile.open(SHARED / f"{archive}.tar.gz") as files:
        for member in files:
            if not member.isfile() or not member.name.startswith("train/"):
                continue
            _, label, file = member.name.split("/")
            if label not in counts and len(counts) == CLASSES[name]:
                break
            counts[label] += 1
            if counts[label] <= most // CLASSES[name] and (content := files.extractfile(member)):
                (folder / label).mkdir(exist_ok=True)
                (folder / label / file).write_bytes(content.read())
    return final


def judged(case: Case, workspace: Workspace) -> Iterator[dict[str, Any]]:
    """A row for each candidate: as the command ranks it, and what a linear head comes to."""
    rows = case.sample.read_manifest()
    rated: list[Rated] = []
    after: dict[str, dict[str, Any]] = {}
    for network, (_, _, layers) in NETWORKS.items():
        preprocessed, features = seen(case, network, layers, workspace)
        matrix, targets = labelled(case.sample, features, rows)
        for layer, (begin, end) in zip(layers, pairwise(accumulate(features.widths, initial=0)), strict=True):
            alone = features.model_copy(update={"layers": (layer,), "widths": (), "width": end - begin})
            if (case.name, network, layer) not in COSTS:
                COSTS[case.name, network, layer] = cost_of(case.sample, preprocessed, alone, workspace)
            began, name = time.monotonic(), f"{network}:{layer}"
            part, wanted = matrix[:, begin:end].numpy(), telling(targets.numpy())
            rated.append(rate(name, part, wanted, *COSTS[case.name, network, layer], group_numbers(rows)))
            scored = time.monotonic() - began
            task = Task(case.dataset, preprocessed, features, Path(), workspace.cache / "trial", case.seed)
            after[name] = {"scored": scored} | headed(task, lambda x, b=begin, e=end: (x[0][:, b:e], x[1]))
    for row in ranking(rated, group_numbers(rows)).to_dict("records"):
        yield row | after[row["backbone"]] | {"sample": len(rows), "all": sum(case.dataset.counts.values())}


def seen(
    case: Case, network: str, layers: tuple[str, ...], workspace: Workspace
) -> tuple[Preprocessed, FeatureSet]:  # fmt: skip
    """What a network sees in all images of a set, all of some layers in one pass."""
    backbone, weights, _ = NETWORKS[network]
    size = 32 if network == "builtin" else 160 if case.name == "hymenoptera" else 96
    looks = PreprocessConfig.model_validate(own_looks(backbone) | {"size": size})
    preprocessed = preview_recipe(looks, case.dataset, workspace)
    config = ExtractConfig(backbone=backbone, weights=weights, layer=list(layers) or None, compile="never")
    return preprocessed, extract_features(config, case.dataset, preprocessed, workspace)


def headed(task: Task, take: Callable[[Labelled], Labelled]) -> dict[str, Any]:
    """Test accuracy of the linear head that a run would fit to some of the features, and seconds until it is there."""
    began = time.monotonic()
    if task.is_cross_validated:
        fit = fit_linear_cross_validated(take(task.everything), task.classes, groups=task.groups)
    else:
        fit = fit_linear(take(task.train), take(task.validation), task.classes)
    took = time.monotonic() - began
    features, targets = take(labelled(task.dataset, task.features, task.rows(task.dataset.report_on)))
    with torch.inference_mode():
        right = fit.head(features).argmax(1) == targets
    return {"accuracy": right.double().mean().item(), "fitted": took, "held_out": len(right)}


def tuned(case: Case, network: str, workspace: Workspace) -> None:
    """Append the test accuracy of a whole network, fine-tuned as `sources.py` does it, unless it is there."""
    key = {"dataset": case.name, "source": network, "method": "lp_ft", "seed": case.seed}
    if network == "random" or is_there(TUNED, key):
        return
    preprocessed, features = seen(case, network, (), workspace)
    folder = workspace.cache / "ranking" / "-".join(map(str, key.values()))
    weights = Path(NETWORKS[network][1])
    task = Task(case.dataset, preprocessed, features, weights, folder, case.seed)
    record(TUNED, key, settings("lp_ft", case.name), task)


def show(most: int, images: int) -> None:
    """The tables in Markdown."""
    table = pd.read_csv(TABLE).query("most == @most and images == @images")
    table["accuracy"] = table.groupby(["dataset", "backbone"])["accuracy"].transform("mean")
    cases = [part for _, part in table.groupby(["dataset", "seed"], sort=False)]
    print(f"\nLinear heads: {len(cases)} folds of {table['dataset'].nunique()} sets, {most:,} images at most")
    agreement(cases, "accuracy")
    near = [case["accuracy"].max() - case.loc[case["ties"], "accuracy"].max() <= POINT + 1e-9 for case in cases]
    marked = sum(case["ties"].sum() for case in cases) / len(cases)
    print(f"\nOne of those marked `=`, {marked:.1f} of the candidates, is within a point: {sum(near)} of {len(near)}")
    both = fine_tuned(table)
    parts = [part for _, part in both.groupby(["dataset", "seed"], sort=False) if len(part) > 2]
    if parts:
        print(f"\nFine-tuned: {len(parts)} folds of {both['dataset'].nunique()} sets, whole networks only")
        agreement(parts, "accuracy_tuned")
    costs(table, both)


def fine_tuned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole networks that were fine-tuned, with accuracy_tuned and, where it was done here, seconds."""
    whole = [f"{network}:{layers[-1]}" for network, (*_, layers) in NETWORKS.items()]
    rows = table[table["backbone"].isin(whole)]
    rows = rows.assign(source=rows["backbone"].str.partition(":")[0])
    known = [pd.read_csv(SOURCES).query("method == 'lp_ft'").assign(seconds=np.nan)]
    known += [pd.read_csv(TUNED)] if TUNED.exists() else []
    keys = ["dataset", "seed", "source"]
    latest = pd.concat(known).drop_duplicates(keys, keep="last")
    return rows.merge(latest, on=keys, suffixes=("", "_tuned"))


def agreement(cases: list[pd.DataFrame], truth: str) -> None:
    """Of each score, Kendall's weighted correlation with the truth by set, and what its first choice loses."""
    names = list(dict.fromkeys(case["dataset"].iloc[0] for case in cases))
    lines = Table("score", *names, "mean τ", "first within a point", "loses on average, at most")
    for score, title in SCORES.items():
        found = pd.DataFrame(
            {
                "dataset": case["dataset"].iloc[0],
                "tau": weightedtau(case[score], case[truth]).statistic,
                "loss": case[truth].max() - case.loc[case[score].idxmax(), truth],
            }
            for case in cases
        )
        taus = found.groupby("dataset", sort=False)["tau"].mean()
        near = found["loss"] <= POINT + 1e-9
        lines.row(
            title, *(f"{taus[name]:.2f}" for name in names), over_sets(taus.to_numpy()),
            f"{near.mean():.0%} ({near.sum()} of {len(near)})",
            f"{100 * found['loss'].mean():.1f}, {100 * found['loss'].max():.1f} points",
        )  # fmt: skip


def over_sets(values: np.ndarray) -> str:
    """The mean over sets, with the interval of the bootstrap over them."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def costs(table: pd.DataFrame, tuned: pd.DataFrame) -> None:
    """Seconds of ranking candidates, against those of a linear head on each, and of fine-tuning each."""
    ranked, heads = ranking_seconds(table).sum(), (table["all"] * table["ms"] / 1000 + table["fitted"]).sum()
    print(f"\nRanking takes {ranked:.0f} s, linear heads on all images {heads:.0f} s: {ranked / heads:.0%}")
    many = (LARGE * table["ms"] / 1000).sum()
    print(f"The features alone of {LARGE:,} images would take {many:.0f} s: {ranked / many:.1%}")
    here = tuned.dropna(subset="seconds")
    if len(here):
        some, all_of_them = ranking_seconds(here).sum(), here["seconds"].sum()
        print(
            f"Of {len(here)} networks, ranking takes {some:.0f} s, fine-tuning {all_of_them:.0f} s: "
            f"{some / all_of_them:.1%}"
        )


def ranking_seconds(table: pd.DataFrame) -> pd.Series:
    """Of each candidate: the sample's features, and their scores."""
    return table["sample"] * table["ms"] / 1000 + table["scored"]


if __name__ == "__main__":
    main()
