"""Words that configurations and the code behind them share."""

from __future__ import annotations

from typing import Literal

Balance = Literal["none", "weights", "sampling"]
"""Classes of unequal size: as they are, each image weighted by its class, or drawn from every class as often."""

Answer = Literal["class", "labels", "number"]
"""What is to be told of an image, as `tasks.target.Kind`, for code that needs torch alone."""
