"""The ``train`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.section import Section


class TrainConfig(Section):
    """How the new head is fitted to the team's classes."""

    method: Literal["linear", "mlp"] = "linear"
    """`linear`: logistic regression, solved to convergence, regularisation chosen on validation; `mlp`: one
    hidden layer trained with Adam, the best epoch chosen on validation."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the training features (mlp)."""
    hidden: int = Field(default=256, ge=1)
    """Width of the hidden layer (mlp)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's step size (mlp)."""
    batch_size: int = Field(default=64, ge=1)
    """Images per step (mlp)."""
    seed: int = 0
    """Of initial weights and the order of batches (mlp)."""
