"""Write tasks/extract/facts/backbones.csv, what `tasks.extract.facts` knows of every backbone: from the installed timm
and torchvision, counted on the meta device, so that no weights are loaded and nothing is downloaded.

Command: python docs/backbone_facts.py (half an hour on one core)
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import timm
import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from tasks.extract.backbones import last_classifier, without_values
from tasks.extract.facts import FILE, Facts
from tasks.extract.weights import BUILTIN, build_network

NOT_COMMERCIAL = ("vit_h_14", "regnet_y_128gf")
"""Of torchvision's networks, those whose default weights are of SWAG (Singh et al. 2022), under CC-BY-NC."""


OF_ATTENTION = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
"""Products of one token with another, which fused kernels never write down."""


class Outputs(TorchDispatchMode):
    """Counts the elements that convolutions and matrix products give: what a training has to keep of a pass."""

    elements = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = op(*args, **(kwargs or {}))
        if op.overloadpacket in flop_registry and op.overloadpacket not in OF_ATTENTION:
            first = given[0] if isinstance(given, tuple) else given
            self.elements += first.numel()
        return given


def main() -> None:
    """Count, and write all or nothing."""
    warnings.simplefilter("ignore")
    rows = [*builtin(), *of_torchvision(), *of_timm()]
    with FILE.with_suffix(".new").open("w", newline="") as file:
        writer = csv.DictWriter(file, Facts.__dataclass_fields__, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.as_text() for row in rows)
    FILE.with_suffix(".new").replace(FILE)
    print(f"{len(rows)} rows in {FILE}")


def builtin() -> Iterator[Facts]:
    network = build_network(BUILTIN)
    network.head = torch.nn.Identity()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    yield Facts(BUILTIN, *counted(network, 32), 32, "crop", 1.0, "bilinear", mean, std, "see the card", "headstart")


def of_torchvision() -> Iterator[Facts]:
    for name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name)["DEFAULT"]
        looks = weights.transforms()
        size, larger = looks.crop_size[0], looks.resize_size[0]
        network = without_values(name, size=size)
        parent, _, last = last_classifier(network).rpartition(".")
        setattr(network.get_submodule(parent), last, torch.nn.Identity())
        yield Facts(
            name, *counted(network, size), size, "crop", round(size / larger, 4), looks.interpolation.value,
            tuple(looks.mean), tuple(looks.std), "cc-by-nc-4.0" if name in NOT_COMMERCIAL else "bsd-3-clause",
            weights.url,
        )  # fmt: skip


def of_timm() -> Iterator[Facts]:
    """The default weights of an architecture come first among its weights."""
    for architecture in timm.list_models():
        default = timm.get_pretrained_cfg(architecture)
        tags = [name for name in timm.list_pretrained(f"{architecture}.*") if name.rpartition(".")[0] == architecture]
        tags.sort(key=lambda name: name.rpartition(".")[2] != default.tag)
        for name in tags or [architecture]:
            looks = timm.get_pretrained_cfg(name)
            channels, size, width = looks.input_size
            if channels != 3 or size != width:
                continue
            try:
                counts = counted_timm(architecture, size)
            except Exception as error:
                print(f"left out: {architecture} at {size}: {str(error).splitlines()[0]}")
                continue
            source = looks.hf_hub_id or (looks.url if tags else "")
            yield Facts(
                f"timm/{name}", *counts, size, {"center": "crop", "border": "pad"}.get(looks.crop_mode, "squash"),
                looks.crop_pct, looks.interpolation, tuple(looks.mean), tuple(looks.std),
                (looks.license or "unknown") if tags else "", str(source or ""),
            )  # fmt: skip


@cache
def counted_timm(architecture: str, size: int) -> tuple[int, int, int]:
    """`counted`, of a network built for images of ``size``; some cannot be built on the meta device."""
    failed: Exception = ValueError()
    for device, options in (("meta", {}), ("meta", {"img_size": size}), ("cpu", {}), ("cpu", {"img_size": size})):
        try:
            with torch.device(device):
                return counted(timm.create_model(architecture, num_classes=0, **options), size)
        except (AssertionError, RuntimeError, TypeError, NotImplementedError) as error:
            failed = error
    raise failed


def counted(network: torch.nn.Module, size: int) -> tuple[int, int, int]:
    """Parameters, and of an image of ``size`` pixels the floating-point operations and outputs; see `Facts`."""
    device = next(network.parameters()).device
    network.requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as flops, Outputs() as outputs:
        network.eval()(torch.zeros(1, 3, size, size, device=device))
    return sum(p.numel() for p in network.parameters()), flops.get_total_flops(), outputs.elements


if __name__ == "__main__":
    main()
