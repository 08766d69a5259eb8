"""Copies of one file that stand under different labels: whatever it shows, all of these labels but one are wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pandas as pd

CONTRADICTIONS = "contradictions.csv"
COLUMNS = ["path", "hash", "split", "label"]
"""Of the table; labels as `tasks.ingest.relabel.label_text` has them."""

SUSPECTS = ["path", "hash", "split", "label", "suggested", "why", "score"]
"""Columns of labels that may be wrong."""

FOUND = """
    SELECT path, hash, split, label FROM (
        SELECT *, MIN(label) OVER alike AS least, MAX(label) OVER alike AS most FROM rows
        WHERE label IS NOT NULL AND (kind IS NULL OR kind IN ('conflicting_label', 'straddling', 'duplicate'))
        AND hash IN (
            SELECT hash FROM rows WHERE kind = 'conflicting_label'
            UNION SELECT hash FROM noted JOIN rows USING (id) WHERE noted.kind = 'conflicting_label'
        )
        WINDOW alike AS (PARTITION BY hash)
    ) WHERE least <> most ORDER BY hash, path, label
"""
"""SQL for the rows of a journal, whether they were kept out or not; copies stand one after the other."""


def read_contradictions(folder: Path) -> pd.DataFrame:
    """The table of an ingestion's report; empty where an earlier headstart made it."""
    if not (file := folder / CONTRADICTIONS).is_file():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def as_suspects(copies: pd.DataFrame) -> pd.DataFrame:
    """Each copy with the label that most of those have that contradict it; the score is 1: one of the two is wrong."""
    return pd.DataFrame(_suspects(copies), columns=SUSPECTS)


def _suspects(copies: pd.DataFrame) -> Iterator[tuple[str, str, str, str, str, str, float]]:
    rows = copies[COLUMNS].itertuples(index=False, name=None)
    for _, each in groupby(rows, key=lambda row: row[1]):
        alike = list(each)
        for path, content, split, label in alike:
            others = [(their_label, their_path) for their_path, _, _, their_label in alike if their_label != label]
            suggested = Counter(their_label for their_label, _ in others).most_common(1)[0][0]
            where = next(their_path for their_label, their_path in others if their_label == suggested)
            yield path, content, split, label, suggested, f"the same file as {where}, which is {suggested}", 1.0
