"""Depthwise convolutions: torch's own, in all but the way gradients are computed that oneDNN is slow at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from tasks.extract.weights import build_network
from tasks.train.tuning.depthwise import Depthwise, with_fast_gradients


def gradients(layer: nn.Conv2d, images: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """Output under autocast to ``dtype``, and gradients of a sum over it: of images, weight and bias."""
    images = images.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        output = layer(images)
    pull = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    (output.float() * pull).sum().backward()
    return [output.detach(), *(tensor.grad for tensor in (images, layer.weight, layer.bias) if tensor is not None)]


def pair(channels: int = 8, **shape: Any) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The same layer twice: torch's, and ours."""
    torch.manual_seed(0)
    plain, fast = (nn.Conv2d(channels, channels, groups=channels, **shape) for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    assert with_fast_gradients(nn.Sequential(fast)) == 1 and type(fast) is Depthwise
    return plain, fast


sides = st.integers(9, 17)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    height=sides, width=sides, kernel=st.sampled_from([1, 2, 3, (3, 2), 5]),
    stride=st.sampled_from([2, 3, (1, 2), (2, 1), (3, 2)]), padding=st.sampled_from([0, 1, 2, (0, 2)]),
    dilation=st.sampled_from([1, (1, 2)]), bias=st.booleans(), channels_last=st.booleans(),
)  # fmt: skip
def test_outputs_and_gradients_are_torchs_to_within_bf16_rounding(
    height: int, width: int, channels_last: bool, **shape: Any
) -> None:
    plain, fast = pair(kernel_size=shape.pop("kernel"), **shape)
    images = torch.randn(3, 8, height, width, generator=torch.Generator().manual_seed(1))
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    wanted, found = (gradients(layer, images, torch.bfloat16) for layer in (plain, fast))
    exact = gradients(plain, images, torch.float32)
    assert found[0].dtype == torch.bfloat16 and torch.equal(found[0], wanted[0])
    for ours, torchs, right in zip(found, wanted, exact, strict=True):
        assert ours.dtype == torchs.dtype and ours.shape == torchs.shape
        # As far from the right value as torch's are: eight bits, of the largest terms that are summed.
        torch.testing.assert_close(ours.float(), right, rtol=0.02, atol=0.02 * float(right.abs().max()))


@pytest.mark.parametrize("stride, padding, dilation", [(2, 1, 1), ((1, 2), 0, 1), (3, 2, 2)])
def test_strides_in_fp32_change_no_bit(stride: int, padding: int, dilation: int) -> None:
    plain, fast = pair(kernel_size=3, stride=stride, padding=padding, dilation=dilation)
    images = torch.randn(2, 8, 15, 13)
    for ours, torchs in zip(*(gradients(layer, images, torch.float32) for layer in (fast, plain)), strict=True):
        assert torch.equal(ours, torchs)


wide = pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="wide kernels are left as they are"
)


@wide
@settings(max_examples=60)
@given(
    height=st.integers(3, 13), width=st.integers(3, 13), kernel=st.sampled_from([4, 5, 7, (1, 4), (3, 5), (5, 6)]),
    stride=st.sampled_from([1, 1, 2, (1, 2), (3, 1)]), padding=st.sampled_from([2, 3, (0, 2), (3, 1)]),
    bias=st.booleans(), channels_last=st.booleans(),
)  # fmt: skip
def test_wide_kernels_have_torchs_gradients(
    height: int, width: int, padding: int | tuple[int, int], channels_last: bool, **shape: Any
) -> None:
    plain, fast = pair(channels=16, kernel_size=shape.pop("kernel"), padding=padding, **shape)
    around = (padding, padding) if isinstance(padding, int) else padding
    assume(height + 2 * around[0] >= plain.kernel_size[0] and width + 2 * around[1] >= plain.kernel_size[1])
    images = torch.randn(3, 16, height, width, generator=torch.Generator().manual_seed(1))
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 0.02)):
        wanted, found = (gradients(layer, images, dtype) for layer in (plain, fast))
        for ours, torchs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, torchs, rtol=bound, atol=bound * float(torchs.abs().max()))


@pytest.mark.parametrize("frozen", ["weight", "images"])
@pytest.mark.parametrize(
    "shape, dtype",
    [({"stride": 2}, torch.bfloat16), ({"kernel_size": 5}, torch.float32), ({"kernel_size": 5}, torch.bfloat16)],
)
def test_no_gradient_is_computed_that_is_not_wanted(shape: dict[str, Any], dtype: torch.dtype, frozen: str) -> None:
    _, fast = pair(**{"kernel_size": 3} | shape)
    fast.weight.requires_grad_(frozen != "weight")
    images = torch.randn(2, 8, 9, 9).requires_grad_(frozen != "images")
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        fast(images).float().sum().backward()
    assert (fast.weight.grad is None) == (frozen == "weight")
    assert (images.grad is None) == (frozen == "images")
    assert fast.bias is not None and fast.bias.grad is not None


@pytest.mark.parametrize("side", [9, 12])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel, stride", [(3, 2), (5, 3), ((2, 3), (1, 2)), (1, 2)])
def test_padding_as_tensorflow_has_it_stays(side: int, channels_last: bool, kernel: Any, stride: Any) -> None:
    from timm.layers import Conv2dSame

    torch.manual_seed(0)
    plain, fast = (Conv2dSame(8, 8, kernel, stride=stride, groups=8) for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    assert with_fast_gradients(nn.Sequential(fast)) == 1 and isinstance(fast, Depthwise)
    images = torch.randn(3, 8, side, side + 1)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16):
        wanted, found = (gradients(layer, images, dtype) for layer in (plain, fast))
        for ours, torchs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, torchs, rtol=0.02, atol=0.02 * float(torchs.abs().max()))


def test_only_slow_depthwise_layers_are_changed_and_names_stay() -> None:
    network = build_network("mobilenet_v2", 10)
    names = list(network.state_dict())
    assert with_fast_gradients(network) == 4
    assert list(network.state_dict()) == names
    others = nn.Sequential(
        nn.Conv2d(8, 8, 3, stride=2), nn.Conv2d(8, 16, 3, stride=2, groups=8), nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, stride=2, groups=4), nn.Conv2d(8, 8, 3, stride=2, groups=8, padding_mode="reflect"),
        nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(8, 8, (7, 3), groups=8), nn.Conv2d(8, 8, 5, groups=8, dilation=2),
    )  # fmt: skip
    assert with_fast_gradients(others) == 0
