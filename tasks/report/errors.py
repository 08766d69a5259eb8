"""Errors that people can act on: the surest mistakes, which classes are taken for which, labels that may be wrong."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pandas as pd

from tasks.ingest.contradictions import as_suspects, read_contradictions
from tasks.report.facts import Facts, in_words, rows, table

MISTAKES, PAIRS, SUSPECTS = 18, 12, 18
SIDE = 96
"""Pixels of a neighbour."""


def errors(facts: Facts) -> dict[str, Any] | None:
    """Mistakes on the held-out images, and suspects among all labels."""
    found = {"mistakes": _mistakes(facts), "pairs": _pairs(facts), "suspects": _suspects(facts)}
    return found if any(found.values()) else None


def _mistakes(facts: Facts) -> list[dict[str, Any]]:
    folder, split = facts.evaluation.report, facts.dataset.report_on
    return [
        row | {"picture": facts.picture(row["hash"]), "neighbours": _neighbours(facts, row)}
        for row in rows(table(folder, f"{split}_mistakes.csv", several=facts.dataset.multi_label), MISTAKES)
    ]


def _neighbours(facts: Facts, row: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for place in (1, 2, 3):
        content = row.get(f"neighbour_{place}_hash")
        if isinstance(content, str) and content:
            found.append({
                "picture": facts.picture(content, SIDE),
                "label": row[f"neighbour_{place}_label"],
                "similarity": row[f"neighbour_{place}_similarity"],
            })  # fmt: skip
    return found


def _pairs(facts: Facts) -> list[dict[str, Any]]:
    return rows(table(facts.evaluation.report, f"{facts.dataset.report_on}_confusions.csv"), PAIRS)


def _suspects(facts: Facts) -> dict[str, Any]:
    """Copies that contradict each other first, which may be kept out; each picture is shown once."""
    several = facts.dataset.multi_label
    copies = in_words(as_suspects(read_contradictions(facts.dataset.report)), several=several)
    found = table(facts.evaluation.report, "suspects.csv", several=several)
    listed = pd.concat([each for each in (copies, found) if each is not None and len(each)] or [copies])
    listed = listed.drop_duplicates(["path", "label"]).sort_values("score", ascending=False, kind="stable")
    if not len(listed):
        return {}
    there = (row for row in rows(listed.drop_duplicates("hash")) if facts.dataset.image(row["hash"]).is_file())
    shown = [row | {"picture": facts.picture(row["hash"])} for row in islice(there, SUSPECTS)]
    return {"count": len(listed), "rows": shown}
