"""Where the model comes from: data, method, cost, and how to make it again."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import yaml

from tasks.report.charts import curves_charts
from tasks.report.facts import Facts, rows, table
from tasks.report.pictures import drawn

CLASSES = 60
"""Most that are listed with their images."""


def data(facts: Facts) -> dict[str, Any]:
    """What was learned from, and what ingestion found."""
    report = facts.dataset.report
    counts = table(report, "classes.csv")
    checks = table(report, "checks.csv")
    return {
        "tasks": facts.dataset.targets if facts.dataset.further or facts.dataset.target.kind == "number" else (),
        "facts": json.loads((report / "checks.json").read_text()) if (report / "checks.json").is_file() else {},
        "classes": None if counts is None else _head(counts),
        "checks": rows(checks),
        "preview": drawn(facts.preprocessed.preview) if facts.preprocessed.preview.is_file() else None,
    }


def _head(counts: pd.DataFrame) -> dict[str, Any]:
    columns = [name for name in counts.columns if name != "class"]
    return {
        "columns": columns,
        "rows": rows(counts, CLASSES),
        "more": max(0, len(counts) - CLASSES),
        "most": int(counts[columns].sum(axis=1).max()),
    }


def method(facts: Facts) -> dict[str, Any]:
    """What was trained, on which features, and how it went."""
    return {"curves": curves_charts(pd.read_parquet(facts.candidate.curves))}


def cost(facts: Facts) -> dict[str, Any]:
    """Seconds of each stage when it was computed, and the price of an answer."""
    stages = {
        "ingest": facts.dataset, "preprocess": facts.preprocessed, "extract": facts.features, "train": facts.candidate,
        "evaluate": facts.evaluation, "compare": facts.comparison, "inspect": facts.inspection, "register": facts.model,
    }  # fmt: skip
    took = {name: record.took for name, record in stages.items() if record}
    rate = facts.features.new / facts.features.seconds if facts.features.new and facts.features.seconds else None
    return {"took": took, "longest": max([*took.values(), 1e-9]), "total": sum(took.values()), "rate": rate}


def lineage(facts: Facts) -> dict[str, Any]:
    """All that it takes to make the model again."""
    return {"config": yaml.safe_dump(facts.config, sort_keys=False, allow_unicode=True)}
