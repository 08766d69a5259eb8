"""What the network looks at, and how it stands images unlike those that it knows."""

from __future__ import annotations

from typing import Any

from tasks.report.charts import robustness_chart
from tasks.report.facts import Facts, rows, table
from tasks.report.pictures import drawn


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
    """Accuracy under corruptions of rising severity."""
    found = table(facts.inspection.report if facts.inspection else None, "robustness.csv")
    if found is None:
        return None
    figure = "accuracy" if "accuracy" in found else "f1_samples"
    corrupted = found[found["severity"] > 0]
    return {
        "chart": robustness_chart(found, figure),
        "figure": figure,
        "images": int(found["images"].max()),
        "severities": sorted(corrupted["severity"].unique().tolist()),
        "rows": [(name, rows(of)) for name, of in corrupted.groupby("corruption", sort=False)],
    }


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
