"""How good the model is: figures, classes, slices, calibration."""

from __future__ import annotations

import json
from math import floor
from typing import Any

from tasks.records import Split
from tasks.report.charts import reliability_chart, risk_coverage_chart, spread_chart
from tasks.report.facts import LESS, Facts, rows, table
from tasks.report.pictures import drawn
from tasks.target import Target

DECIDED = (
    "coverage", "selective_accuracy", "operating_precision", "operating_recall", "operating_specificity", "cost",
    "cost_minimised", "cost_constant",
)  # fmt: skip
"""Figures of thresholds that were chosen."""

PICTURES = {"class": ("confusion",), "labels": ("precision_recall",), "number": ("scatter", "spread")}
"""Of a further task, by its kind."""

CELLS = 20
"""Most classes whose confusion matrix is a table; of more it is the picture."""

MOST, SHOWN = 15, 12
"""Slices, and images of one that is worse."""


def metrics(facts: Facts) -> dict[str, Any]:
    """Every figure with its interval, one column for each split, and the classes, the worst first."""
    told = (name.partition("/")[2] for name in facts.evaluation.metrics if name.count("/") == 1)
    names = [name for name in dict.fromkeys(told) if name not in DECIDED]
    found = facts.evaluation.metrics
    shown = [(name, [found.get(f"{split}/{name}") for split in facts.splits]) for name in names]
    shares = [values for name, values in shown if not name.startswith(LESS)]
    bounds = [bound for each in shares for value in each if value for bound in value if bound == bound]
    return {
        "rows": shown,
        "from": max(-1.0, min(0.9, floor(10 * min(bounds, default=0)) / 10)),
        "classes": _classes(facts),
        "confusion": _confusion(facts),
        "figures": _figures(facts, "roc", "precision_recall"),
        "numbers": _figures(facts, "scatter", "errors"),
    }


def further(facts: Facts) -> dict[str, Any] | None:
    """Tasks beside the leading one: figures on the held-out images that have a label, and a picture."""
    if not facts.dataset.further:
        return None
    return {"tasks": [_task(facts, target) for target in facts.dataset.further]}


def _task(facts: Facts, target: Target) -> dict[str, Any]:
    split, found = facts.dataset.report_on, facts.evaluation.metrics
    drawings = _figures(facts, *(f"{target.name}_{kind}" for kind in PICTURES[target.kind]))
    names = dict.fromkeys(
        name.split("/")[2] for name in found if name.split("/")[1:2] == [target.name] and name.count("/") == 2
    )
    classes = table(facts.evaluation.report, f"{split}_{target.name}_per_class.csv")
    return {
        "target": target,
        "rows": [(name, [found.get(f"{each}/{target.name}/{name}") for each in facts.splits]) for name in names],
        "classes": rows(None if classes is None else classes.sort_values("f1", na_position="last", kind="stable")),
        "pictures": drawings,
    }


def _classes(facts: Facts) -> list[dict[str, Any]]:
    found = table(facts.evaluation.report, f"{facts.dataset.report_on}_per_class.csv")
    return rows(None if found is None else found.sort_values("f1", na_position="last", kind="stable"))


def _confusion(facts: Facts) -> dict[str, Any] | None:
    """Counts, rows of true classes; None with several labels an image, and of a number."""
    if facts.dataset.target.kind != "class":
        return None
    if len(facts.dataset.classes) > CELLS:
        return {"picture": _figures(facts, "confusion")}
    split, classes = facts.dataset.report_on, list(facts.dataset.classes)
    given = table(facts.evaluation.report, f"{split}_predictions.parquet")
    assert given is not None
    counts = given.groupby(["label", "predicted"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    return {"classes": classes, "counts": counts.to_numpy().tolist(), "shares": shares.to_numpy().tolist()}


def slices(facts: Facts) -> dict[str, Any] | None:
    """Parts of the held-out images, each against the rest."""
    split: Split = facts.dataset.report_on
    found = table(facts.evaluation.report, f"{split}_slices.csv")
    if found is None:
        return None
    pictures = table(facts.evaluation.report, f"{split}_slice_images.csv")
    named = [] if pictures is None else [(name, rows(of, SHOWN)) for name, of in pictures.groupby("slice")]
    return {
        "figure": "mae" if "mae" in found else "accuracy",
        "rows": rows(found.sort_values("p_holm", kind="stable"), MOST),
        "named": [(name, [row | {"picture": facts.picture(row["hash"])} for row in of]) for name, of in named],
    }


def calibration(facts: Facts) -> dict[str, Any] | None:
    """Whether the model knows what it knows, and what it may be asked to keep silent about."""
    split = facts.dataset.report_on
    bins = table(facts.evaluation.report, f"{split}_reliability.csv")
    curve = table(facts.evaluation.report, f"{split}_risk_coverage.csv")
    decided = facts.evaluation.report / "decisions.json"
    decisions = json.loads(decided.read_text()) if decided.is_file() else {}
    if (spread := table(facts.evaluation.report, f"{split}_spread.csv")) is not None:
        return {"charts": [("Intervals", spread_chart(spread))]}
    if bins is None and curve is None:
        return {"pictures": drawings} if (drawings := _figures(facts, "reliability")) else None
    charts = []
    if bins is not None:
        charts.append(("Reliability", reliability_chart(bins)))
    if curve is not None:
        threshold = decisions["abstain"]["threshold"] if decisions else None
        charts.append(("Risk and coverage", risk_coverage_chart(curve, threshold)))
    if point := _figures(facts, "operating_point"):
        charts.append(("Operating point", point[0]))
    known = facts.evaluation.metrics
    found = {name: known[f"{split}/{name}"] for name in DECIDED if f"{split}/{name}" in known}
    return {"charts": charts, "decisions": decisions, "found": found}


def _figures(facts: Facts, *kinds: str) -> list[str]:
    paths = (facts.evaluation.report / f"{facts.dataset.report_on}_{kind}.png" for kind in kinds)
    return [drawn(path) for path in paths if path.is_file()]
