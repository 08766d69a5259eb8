"""Labels as the journal has them: in ``label`` those of the leading task, in ``further`` the others, by their names.

A class is text, several labels are a JSON list in the order of their names, a number is its shortest text; ``further``
is a JSON object of these, where a number is one. So labels are equal where their texts are.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from tasks.ingest.journal import USED
from tasks.ingest.labels import Label
from tasks.ingest.tables.cells import number_text
from tasks.target import LABEL, Target

LABELLED = f"{USED} AND label IS NOT NULL"
"""SQL condition of the images that have a label of the leading task."""

TOLD = f"{USED} AND COALESCE(label, further) IS NOT NULL"
"""SQL condition of the images that have a label of any task."""

Plain = str | list[str] | float | None
"""A label as JSON has it."""


def plain_label(label: Label, target: Target) -> Plain:
    """What a source says, as JSON has it; of a task of one class, the first of several."""
    if not isinstance(label, tuple):
        return float(label)
    return sorted(set(label)) if target.kind == "labels" else next(iter(label), None)


def cell_of(label: Plain) -> str | None:
    """A label as the column ``label`` has it."""
    if isinstance(label, list):
        return json.dumps(label)
    return number_text(label) if isinstance(label, float | int) else label


def label_of(cell: str | None, target: Target) -> Plain:
    """The label that the column ``label`` has, by the kind of the leading task."""
    if cell is None or target.kind == "class":
        return cell
    return json.loads(cell) if target.kind == "labels" else float(cell)


class Values(NamedTuple):
    """SQL for the labels of a task: one row for each class that an image has, or for its number.

    Attributes:
        value: a class, or a number.
        table: where the values are had from, with the columns of ``rows``.
        known: condition of the rows that have a label of the task.
    """

    value: str
    table: str
    known: str


def cell_sql(target: Target) -> str:
    """SQL for a task's label as the journal has it."""
    return "rows.label" if target.column == LABEL else f"json_extract(rows.further, '$.{target.name}')"


def values_of(target: Target) -> Values:
    """Where the journal has a task's labels."""
    cell = cell_sql(target)
    known = f"{cell} IS NOT NULL"
    if target.kind == "labels":
        return Values("each.value", f"rows, json_each({cell}) AS each", known)
    return Values(f"CAST({cell} AS REAL)" if target.kind == "number" else cell, "rows", known)
