"""The attack that models are trained under and measured by: projected gradient ascent on the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

WHITE = 255.0
"""Of images in floats, as backbones take them."""

REACH = 2.5
"""How far all steps together go, in radii: from a random start to any border of the ball, and along it."""

Objective = Callable[[torch.Tensor], torch.Tensor]
"""What an attacker raises, of images ``[N, 3, S, S]``: a number, or one for each image ``[N]``."""


def ascend(
    images: torch.Tensor, objective: Objective, radius: float, steps: int, step: float | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[torch.Tensor]:  # fmt: skip
    """Images that are further and further from what is right: a random start, then each of ``steps`` steps,

        x⁰ = Π(x + u),  u uniform in the ball        xᵗ⁺¹ = Π(xᵗ + α · sign ∇ₓ objective(xᵗ))

    where Π takes each pixel to the nearest one that is within ``radius`` of x, and that there is: from 0 to 255 (PGD in
    L∞, Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", 2.1). Where the objective
    has no slope, a pixel stays.

    Args:
        images: x, float32 ``[N, 3, S, S]`` from 0 to 255, as they are before they are standardised.
        radius: how far a pixel may move, as a share of that range.
        step: α, a share of it as well; by default `REACH` · radius / steps.
        generator: of the random start, on the images' device; by default torch's own.
    """
    reach = WHITE * radius
    stride = WHITE * (step if step is not None else REACH * radius / steps)
    least, most = (images - reach).clamp(min=0), (images + reach).clamp(max=WHITE)
    drawn = torch.rand(images.shape, generator=generator, device=images.device)
    moved = (images + reach * (2 * drawn - 1)).clamp(least, most)
    yield moved
    for _ in range(steps):
        [slope] = torch.autograd.grad(*_climbed(moved, objective))
        moved = (moved + stride * slope.nan_to_num().sign()).clamp(least, most)
        yield moved


def _climbed(images: torch.Tensor, objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of an objective, and the images that it is to be derived by."""
    with torch.enable_grad():
        free = images.detach().requires_grad_()
        return objective(free).sum(), free


def attacked(
    images: torch.Tensor, objective: Objective, radius: float, steps: int, step: float | None = None
) -> torch.Tensor:
    """The last images of `ascend`."""
    *_, last = ascend(images, objective, radius, steps, step)
    return last
