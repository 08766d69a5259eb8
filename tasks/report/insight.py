"""What the network looks at, and how it stands images unlike those that it knows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tasks.report.charts import robustness_chart
from tasks.report.facts import Facts, rows, table
from tasks.report.pictures import drawn
from tasks.train.radius import levels


def explanation(facts: Facts) -> dict[str, Any] | None:
    """Heat maps, and whether they are more than decoration."""
    folder = facts.inspection.report if facts.inspection else None
    found = table(folder, "explanations.csv")
    if folder is None or found is None:
        return None
    shown = [row | {"picture": drawn(folder / row["picture"])} for row in rows(found)]
    faithful = table(folder, "faithfulness.csv")
    return {"rows": shown, "faithfulness": rows(faithful)}


def robustness(facts: Facts) -> dict[str, Any] | None:
    """Accuracy under corruptions of rising severity, and under attacks."""
    folder = facts.inspection.report if facts.inspection else None
    corrupted, attacked = _corrupted(table(folder, "robustness.csv")), table(folder, "attacks.csv")
    if corrupted is None and attacked is None:
        return None
    return {"corrupted": corrupted, "attacked": None if attacked is None else _attacked(attacked)}


def _corrupted(found: pd.DataFrame | None) -> dict[str, Any] | None:
    if found is None:
        return None
    figure = _figure_of(found)
    spoilt = found[found["severity"] > 0]
    return {
        "chart": robustness_chart(found, figure),
        "figure": figure,
        "images": int(found["images"].max()),
        "severities": sorted(spoilt["severity"].unique().tolist()),
        "rows": [(name, rows(of)) for name, of in spoilt.groupby("corruption", sort=False)],
    }


def _attacked(found: pd.DataFrame) -> dict[str, Any]:
    figure = _figure_of(found)
    radii = [f"{levels(radius)}/255" if radius else "none" for radius in found["radius"]]
    bounds = zip(found[figure], found["low"], found["high"], strict=True)
    return {
        "figure": figure,
        "images": int(found["images"].max()),
        "rows": list(zip(radii, bounds, strict=True)),
    }


def _figure_of(found: pd.DataFrame) -> str:
    return next(name for name in ("accuracy", "f1_samples", "mae") if name in found)


def shift(facts: Facts) -> dict[str, Any] | None:
    """Whether the held-out images are like those that were learned from."""
    folder = facts.evaluation.report
    found = table(folder, "shift.csv")
    if found is None:
        return None
    projection = folder / "projection.png"
    return {
        "rows": rows(found),
        "projection": drawn(projection) if projection.is_file() else None,
    }
