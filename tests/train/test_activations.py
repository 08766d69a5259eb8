"""Activations in place: torch's own, in all but what they keep."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from tasks.train.tuning.activations import LeanReLU6, with_lean_activations


def layers() -> tuple[nn.Sequential, nn.Sequential]:
    """The same network twice: torch's, and ours."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.Conv2d(4, 4, 1), nn.ReLU6(inplace=True))
    for parameter in plain.parameters():
        parameter.data *= 8  # so that both bounds are met
    lean = copy.deepcopy(plain)
    assert with_lean_activations(lean) == 2
    return plain, lean


@contextmanager
def kept() -> Iterator[list[int]]:
    """Where what is kept for the gradient lies."""
    places: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        places.append(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield places


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_torchs_to_the_bit(dtype: torch.dtype) -> None:
    found = []
    for network in layers():
        images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output = network(images)
        (output.float() ** 2).sum().backward()
        found.append([output, images.grad, *(each.grad for each in network.parameters())])
    output = found[0][0]
    assert {0.0, 6.0} < set(output.flatten().tolist())
    for ours, torchs in zip(*found, strict=True):
        assert torch.equal(ours, torchs)


def test_nothing_is_kept_beside_what_the_next_layer_keeps() -> None:
    images, counts = torch.randn(2, 3, 9, 9), []
    for network in layers():
        with kept() as places:
            network[:3](images)
        counts.append(len(set(places)))
    assert counts[1] == counts[0] - 1


def test_of_a_gradient_there_is_a_gradient() -> None:
    _, lean = layers()
    images = torch.randn(2, 3, 9, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad((lean(images) ** 2).sum(), images, create_graph=True)
    (gradient**2).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_only_relu6_in_place_is_changed() -> None:
    class Own(nn.ReLU6):
        pass

    others = nn.Sequential(nn.ReLU6(), nn.ReLU(inplace=True), nn.Hardtanh(inplace=True), Own(inplace=True))
    assert with_lean_activations(others) == 0
    lean = LeanReLU6(inplace=True)
    values = torch.tensor([-1.0, 7.0, 3.0])
    assert lean(values).data_ptr() == values.data_ptr() and values.tolist() == [0.0, 6.0, 3.0]


def test_a_part_of_a_tensor_is_clipped_as_well() -> None:
    images = torch.full((2, 4, 3, 3), 1.0, requires_grad=True)
    part = (images * 3)[:, 1:]
    LeanReLU6(inplace=True)(part).sum().backward()
    assert images.grad is not None and images.grad.sum() == 3 * part.numel()
