"""How backbone and method were chosen, where a run had a budget to find them in."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tasks.report.charts import choice_chart
from tasks.report.facts import Facts, rows


def choice(facts: Facts) -> dict[str, Any] | None:
    """What was tried, with what was predicted and measured, and what was chosen."""
    if facts.choice is None:
        return None
    steps = pd.read_parquet(facts.choice.steps)
    return {"steps": rows(steps), "chart": choice_chart(steps)}
