"""Ridge regression onto the classes: all strengths of regularisation from one decomposition. `least_squares` is onto a
number."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from tasks.progress import progress
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.kinds import Balance
from tasks.train.solvers import L2_PATH, Fit
from tasks.train.targets import Labelled, class_weights, indicators, is_multi_label, measured, merit_column

SHARPNESS = 10.0
"""What regression values, 0 and 1 for wrong and right, are multiplied by to serve as logits until calibrated."""


def fit_ridge(
    train: Labelled, validation: Labelled, classes: int, balance: Balance = "none", parts: Sequence[Part] = ()
) -> Fit:
    """Least squares onto ones and zeros; the L2 strength is chosen on validation."""
    features, targets = train
    head = Head(features.shape[1], classes, multi_label=is_multi_label(targets), parts=parts).standardise_like(features)
    weights = class_weights(targets, classes)[targets] if balance != "none" else None
    x, held_out = head.standardised(features), head.standardised(validation[0])
    path = ridge_path(x, indicators(targets, classes), L2_PATH, weights)
    rows, candidates = [], []
    with progress("train", total=len(path), unit="fit") as advance:
        for step, (l2, (weight, bias)) in enumerate(zip(L2_PATH, path, strict=True)):
            layer = nn.Linear(*weight.T.shape)
            layer.weight.data, layer.bias.data = SHARPNESS * weight, SHARPNESS * (bias - 0.5)
            row = {"step": step, "l2": l2}
            for name, inputs, wanted in (("train", x, targets), ("validation", held_out, validation[1])):
                with torch.inference_mode():
                    row |= measured(name, layer(inputs), wanted)
            rows.append(row)
            candidates.append(layer)
            advance(1)
    curves = pd.DataFrame(rows)
    merit = merit_column(curves)
    best = int(curves[merit].argmax())
    head.layers = candidates[best]
    return Fit(head.eval(), float(curves[merit][best]), {"l2": L2_PATH[best]}, curves)


@torch.no_grad()
def ridge_path(
    features: torch.Tensor, targets: torch.Tensor, strengths: tuple[float, ...], weights: torch.Tensor | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """W ``[C, d]`` and b ``[C]`` that minimise Σᵢ ωᵢ‖W xᵢ + b - yᵢ‖² / Σᵢ ωᵢ + l2·‖W‖², for each l2.

    With centred X and XᵀΩX/Σω = V diag(s) Vᵀ, it is W = YᵀΩX/Σω · V diag(1/(s + l2)) Vᵀ (Hastie et al. 2009, "The
    elements of statistical learning", 3.4.1); with fewer images than features, the images take the place of V.

    Args:
        features: float32 ``[N, d]``, and ``targets``: float32 ``[N, C]``.
        weights: float32 ``[N]``, how much each image counts.
    """
    share = (torch.ones(len(features)) if weights is None else weights).to(features.device).double()
    share = (share / share.sum()).sqrt()[:, None]
    mean_x = (share.square() * features).sum(0)
    mean_y = (share.square() * targets).sum(0)
    x, y = share * (features - mean_x), share * (targets - mean_y)
    if len(x) < x.shape[1]:
        span, coordinates = torch.linalg.qr(x.T)
        x = coordinates.T
    else:
        span = None
    spectrum, directions = torch.linalg.eigh(x.T @ x)
    projected = y.T @ x @ directions
    solutions = []
    for l2 in strengths:
        weight = (projected / (spectrum.clamp(min=0) + l2)) @ directions.T
        weight = weight if span is None else weight @ span.T
        solutions.append((weight.float(), (mean_y - weight @ mean_x).float()))
    return solutions
