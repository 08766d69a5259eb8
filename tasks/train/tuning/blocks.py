"""Depth: a network's parameters in blocks, from its input to its features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass
class Block:
    """Parameters that are moved, or left, together.

    Attributes:
        name: of the module that they belong to.
        parameters: trainable ones.
        batch_norms: modules with running statistics.
    """

    name: str
    parameters: list[nn.Parameter] = field(repr=False)
    batch_norms: list[_BatchNorm] = field(repr=False)

    def __len__(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)


def blocks_of(network: nn.Module, trunk: nn.Module) -> list[Block]:
    """The blocks of ``network`` that ``trunk``, what is left of it where it was cut, consists of; the input's first.

    Plain containers, and modules that hold more than half of all parameters, are opened; any other module is a block.
    So a block is an inverted residual of MobileNetV2, a bottleneck of ResNet, an encoder layer of a transformer. A norm
    that stands alone belongs to the block before it.
    """
    used = {id(parameter) for parameter in trunk.parameters()}
    blocks: list[Block] = []
    for name, module, own in _opened("", network, used, _size(trunk, used) / 2):
        parameters = [p for p in (module.parameters(recurse=not own)) if id(p) in used]
        norms = [] if own else [m for m in module.modules() if isinstance(m, _BatchNorm) and id(m.weight) in used]
        if not parameters:
            continue
        if isinstance(module, NORMS) and blocks:
            blocks[-1].parameters += parameters
            blocks[-1].batch_norms += norms
        else:
            blocks.append(Block(name or "input", parameters, norms))
    return blocks


def _opened(name: str, module: nn.Module, used: set[int], most: float) -> Iterator[tuple[str, nn.Module, bool]]:
    """Modules that are blocks, with whether only what they hold themselves, beside their children, is meant."""
    children = [
        (child_name, child) for child_name, child in module.named_children() if any(True for _ in child.parameters())
    ]
    if not children or not (type(module) in CONTAINERS or _size(module, used) > most):
        yield name, module, False
        return
    # Such as a class token or position embeddings.
    yield name, module, True
    for child_name, child in children:
        yield from _opened(f"{name}.{child_name}" if name else child_name, child, used, most)


def _size(module: nn.Module, used: set[int]) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if id(parameter) in used)
