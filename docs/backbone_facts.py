"""Write tasks/extract/facts/backbones.csv, what `tasks.extract.facts` knows of every backbone: from the installed timm
and torchvision, counted on the meta device, so that no weights are loaded and nothing is downloaded.

Command: python docs/backbone_facts.py [PATTERN ...]     counts what matches and is not counted yet (all: 20 minutes)
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from itertools import groupby
from typing import Any

import timm
import torch
import torchvision
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tasks.extract.backbones import last_classifier, without_values
from tasks.extract.facts import BUILTIN, FILE, TIMM, Facts, facts
from tasks.extract.timm_zoo import is_encoder
from tasks.extract.weights import IMAGENET_MEAN, IMAGENET_STD, build_network

NOT_COMMERCIAL = ("vit_h_14", "regnet_y_128gf")
"""Of torchvision's networks, those whose default weights are of SWAG (Singh et al. 2022), under CC-BY-NC."""

OF_ATTENTION = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
"""Products of one token with another, which fused kernels never write down."""

UNCOUNTED = (0, 0, 0)


class Counter(TorchDispatchMode):
    """Counts the floating-point operations of a pass, and the elements that convolutions and matrix products give."""

    flops = outputs = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = op(*args, **(kwargs or {}))
        if count := flop_registry.get(op.overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=given)
            first = given[0] if isinstance(given, tuple) else given
            self.outputs += 0 if op.overloadpacket in OF_ATTENTION else first.numel()
        return given


class TwoOf(torch.nn.Module):
    """As a classifier of two classes that costs nothing, so that its answers fit with those of another one."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features[..., :2]


def main(patterns: list[str]) -> None:
    """Look all of it up, and count what is not counted yet."""
    warnings.simplefilter("ignore")
    known = facts()
    rows = [_counted_before(row, known.get(row.name)) for row in (builtin(), *of_torchvision(), *of_timm())]
    write(rows)
    for (architecture, size), alike in groupby(enumerate(rows), key=lambda row: (_architecture(row[1]), row[1].size)):
        places = [place for place, _ in alike]
        if rows[places[0]].parameters or not any(fnmatch(architecture, pattern) for pattern in patterns or ["*"]):
            continue
        try:
            counts = counted(rows[places[0]].name, size)
        except Exception as error:  # of many types: what cannot be built without weights
            print(f"not counted: {architecture} at {size}: {(str(error).splitlines() or [error])[0]}")
            continue
        for place in places:
            rows[place] = replace(rows[place], **dict(zip(("parameters", "flops", "outputs"), counts, strict=True)))
        write(rows)


def write(rows: list[Facts]) -> None:
    """Write the table, all or nothing."""
    with FILE.with_suffix(".new").open("w", newline="") as file:
        table = csv.DictWriter(file, list(Facts.__dataclass_fields__), lineterminator="\n")
        table.writeheader()
        table.writerows(row.as_text() for row in rows)
    FILE.with_suffix(".new").replace(FILE)


def builtin() -> Facts:
    return Facts(
        BUILTIN, *UNCOUNTED, 32, "crop", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD, "see its card", "headstart"
    )


def of_torchvision() -> Iterator[Facts]:
    for name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name)["DEFAULT"]
        looks = weights.transforms()
        size, larger = looks.crop_size[0], looks.resize_size[0]
        yield Facts(
            name, *UNCOUNTED, size, "crop", round(size / larger, 4), looks.interpolation.value, tuple(looks.mean),
            tuple(looks.std), "cc-by-nc-4.0" if name in NOT_COMMERCIAL else "bsd-3-clause", weights.url,
        )  # fmt: skip


def of_timm() -> Iterator[Facts]:
    """The default weights of an architecture come first among its weights."""
    weights = {name: list(names) for name, names in groupby(sorted(timm.list_pretrained()), lambda n: n.split(".")[0])}
    for architecture in timm.list_models():
        default = timm.get_pretrained_cfg(architecture).tag
        named = sorted(weights.get(architecture, [architecture]), key=lambda name: name.partition(".")[2] != default)
        for name in named:
            looks = timm.get_pretrained_cfg(name)
            channels, size, width = looks.input_size
            if channels != 3 or size != width:
                continue
            has = architecture in weights
            yield Facts(
                f"{TIMM}{name}", *UNCOUNTED, size, {"center": "crop", "border": "pad"}.get(looks.crop_mode, "squash"),
                looks.crop_pct, looks.interpolation, tuple(looks.mean), tuple(looks.std),
                (looks.license or "unknown") if has else "", str(looks.hf_hub_id or looks.url) if has else "",
            )  # fmt: skip


def counted(name: str, size: int) -> tuple[int, int, int]:
    """Parameters without the classifier, and of an image of ``size`` pixels the operations and outputs."""
    try:
        with FakeTensorMode():  # shapes alone, also of what is computed while the network is built
            return _counted(build_network(name, 2, size), size)
    except Exception:  # of many types: some networks look at values while they are built
        return _counted(without_values(name, 2, size), size)


def _counted(network: torch.nn.Module, size: int) -> tuple[int, int, int]:
    network.requires_grad_(False).eval()
    if not is_encoder(network):
        parent, _, last = last_classifier(network).rpartition(".")
        setattr(network.get_submodule(parent), last, TwoOf())
    device = next(network.parameters()).device
    with torch.no_grad(), Counter() as counter:
        network(torch.zeros(1, 3, size, size, device=device))
    return sum(p.numel() for p in network.parameters()), counter.flops, counter.outputs


def _counted_before(row: Facts, known: Facts | None) -> Facts:
    if known is None or known.size != row.size:
        return row
    return replace(row, parameters=known.parameters, flops=known.flops, outputs=known.outputs)


def _architecture(row: Facts) -> str:
    return row.name if not row.name.startswith(TIMM) else row.name.partition(".")[0]


if __name__ == "__main__":
    main(sys.argv[1:])
