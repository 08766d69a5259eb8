"""Pretrain the built-in backbone on a source task, see how it transfers, and write weights and card."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import torch
import yaml
from prefect import flow, task
from torch import nn

from flows.checks import check_pretraining
from flows.config import PretrainConfig, ProbeConfig
from flows.runs.leased import check_delivery, leased
from tasks.evaluate.probe import linear_probes
from tasks.evaluate.scores.intervals import wilson
from tasks.extract import tensors
from tasks.extract.backbones import load_backbone
from tasks.extract.residual import ResNet32px
from tasks.extract.weights import BUILTIN, Weights, build_network, read_weights
from tasks.fingerprint import file_digest, fingerprint
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.sources.archive import ArchiveSource
from tasks.preprocess.recipe import Recipe, load_pixels
from tasks.train.pretraining import Schedule, pretrain_supervised
from tasks.workspace import Workspace


@flow(name="pretrain")
def pretrain(config: PretrainConfig, output: str, command: str = "headstart pretrain") -> dict[str, float]:
    """Write ``output`` (safetensors) and a card beside it (Markdown).

    Killed at any time, the same call goes on from the last epoch.

    Returns:
        Source accuracy, and transfer accuracies by probe.
    """
    workspace = Workspace.find()
    target = workspace.resolve(output)
    check_pretraining(config, target, workspace)
    with leased(workspace):
        weights, accuracy, classes = fit_backbone(config, workspace)
        results = {name: probe_backbone(weights, each, config.size, workspace) for name, each in config.probes.items()}
        _save(weights, config, classes, target)
    target.with_suffix(".md").write_text(_card(config, target, accuracy, results, classes, command, workspace))
    transfer = {name: right["pretrained"][0] / right["pretrained"][1] for name, right in results.items()}
    accuracies = {"source": accuracy} | transfer
    check_delivery(accuracies, f"source accuracy {accuracy:.4f}", workspace)
    return accuracies


@task(name="fit backbone", persist_result=False)
def fit_backbone(config: PretrainConfig, workspace: Workspace) -> tuple[Weights, float, int]:
    """Train from scratch; returns the weights, the source accuracy and the number of source classes."""
    dataset = ingest_images(IngestConfig(source=config.source), workspace, into_data=False)
    manifest = dataset.read_manifest()
    splits = {}
    for split, names in {"train": ("train", "tune"), "val": (dataset.report_on,)}.items():
        rows = manifest[manifest["split"].isin(names)]
        labels = pd.Categorical(rows["label"], categories=list(dataset.classes)).codes
        paths = [dataset.image(hash) for hash in rows["hash"]]
        pixels = load_pixels(paths, Recipe(config.size), f"decode {split}")
        splits[split] = (pixels, torch.tensor(labels, dtype=torch.int64))
    key = fingerprint(dataset.fingerprint, config.model_dump(include={"size", "schedule"}))
    folder = workspace.cache / "pretraining" / key
    folder.mkdir(parents=True, exist_ok=True)
    network, accuracy, (mean, std) = pretrain_supervised(
        ResNet32px(len(dataset.classes)),
        splits["train"],
        splits["val"],
        Schedule(**config.schedule.model_dump()),
        folder,
    )
    state = {
        key: value
        for key, value in network.state_dict().items()
        if not key.startswith("head.") and "num_batches" not in key
    }
    return Weights(state, tuple(mean), tuple(std), "pretrained"), accuracy, len(dataset.classes)  # type: ignore[arg-type]


@task(name="probe backbone", persist_result=False)
def probe_backbone(weights: Weights, probe: ProbeConfig, size: int, workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Linear probes of the pretrained network and of the same network with random weights."""
    random = Weights(build_network(BUILTIN).state_dict(), weights.mean, weights.std, "random")
    backbones = {
        name: load_backbone(BUILTIN, state, [probe.layer] if probe.layer else [], probe.pool)[0]
        for name, state in (("pretrained", weights), ("random", random))
    }
    return linear_probes(backbones, probe, Recipe(size), workspace)


def _save(weights: Weights, config: PretrainConfig, classes: int, target: Path) -> None:
    """Convolutions in half precision: the network computes in bf16 anyway, and the file is half as large."""
    state = {key: value.half() if value.ndim == 4 else value.float() for key, value in weights.state.items()}
    metadata = {
        "arch": BUILTIN, "source": config.name, "num_classes": str(classes), "mean": ",".join(map(str, weights.mean)),
        "std": ",".join(map(str, weights.std)),
    }  # fmt: skip
    temporary = target.with_name(f".{target.name}")
    tensors.write(temporary, state, metadata)
    shutil.move(temporary, target)


def _card(
    config: PretrainConfig, target: Path, accuracy: float, results: dict[str, dict[str, tuple[int, int]]],
    classes: int, command: str, workspace: Workspace,
) -> str:  # fmt: skip
    parameters = sum(p.numel() for p in _without_head(build_network(BUILTIN)))
    rows = "\n".join(
        _probe_row(f"{name}, {config.probes[name].layer or 'last layer'}", right) for name, right in results.items()
    )
    source = config.source
    data = str(source)
    if isinstance(source, ArchiveSource):
        archive = workspace.resolve(source.archive)
        data = f"`{archive.name}`, SHA-256 `{file_digest(archive)}`"
    return f"""# {BUILTIN}: {config.name}

The built-in backbone (`tasks/extract/residual.py`): {parameters:,} parameters, {target.stat().st_size / 1e6:.2f} MB,
{config.size} px, 512 features per image.

| | |
|---|---|
| source task | {config.name}, {classes} classes |
| data | {data} |
| source accuracy (val, top-1) | {accuracy:.4f} |
| seed | {config.schedule.seed} |
| weights | SHA-256 of the parameters `{read_weights(BUILTIN, str(target), target).digest}` |
| licence | {config.licence} |
| command | `{command}` |

## Transfer
Frozen, a linear head on top; its regularisation is chosen on validation images, the figure is of held-out ones,
with Wilson's 95% interval. *Random* is the same network untrained.

| dataset, layer | pretrained | random |
|---|---|---|
{rows}

## Configuration
```yaml
{yaml.safe_dump(config.model_dump(exclude_none=True), sort_keys=False).strip()}
```
"""


def _probe_row(name: str, right: dict[str, tuple[int, int]]) -> str:
    cells = []
    for which in ("pretrained", "random"):
        value, low, high = wilson(*right[which])
        cells.append(f"{value:.4f} [{low:.4f}, {high:.4f}]")
    return f"| {name} | {' | '.join(cells)} |"


def _without_head(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for name, parameter in network.named_parameters() if not name.startswith("head.")]
