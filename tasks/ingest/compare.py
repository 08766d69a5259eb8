"""What changed between two versions of a dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from tasks.ingest.tables.cells import number_text
from tasks.target import LABEL

CHANGES = ("came", "went", "replaced", "moved", "relabelled", "resplit")
"""``came``, ``went``: images; ``replaced``: another content under the same path; ``moved``: the same content under
another path; ``relabelled``, ``resplit``: the same image with another label of a task, or in another split."""


def compare(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """The differences between two manifests, a row each.

    Args:
        before, after: manifests; see `tasks.records`.

    Returns:
        change (one of `CHANGES`), path, before and after (str: label, split, path or content, None where there is
        none), in the order of change and path. An image may have several rows, such as relabelled and resplit.
    """
    columns = dict.fromkeys([*_labels(before), *_labels(after)])
    before, after = (_with(table, columns) for table in (before, after))
    both = before.merge(after, on="path", how="outer", suffixes=("_before", "_after"), indicator=True)
    same = both[(both["_merge"] == "both") & (both["hash_before"] == both["hash_after"])]
    other = both[(both["_merge"] == "both") & (both["hash_before"] != both["hash_after"])]
    went = _shown(both[both["_merge"] == "left_only"], "_before", columns)
    came = _shown(both[both["_merge"] == "right_only"], "_after", columns)
    moved = _pairs(went, came)
    parts = [
        _rows("came", came[~came["path"].isin(moved["path_after"])], None, "label"),
        _rows("went", went[~went["path"].isin(moved["path_before"])], "label", None),
        _rows("replaced", other, "hash_before", "hash_after"),
        _rows("moved", moved.assign(path=moved["path_after"]), "path_before", "path_after"),
    ]
    stayed = pd.concat([same, moved.assign(path=moved["path_after"]), other])
    for change, column in (*(("relabelled", column) for column in columns), ("resplit", "split")):
        of = column.removeprefix(LABEL).replace(":", "", 1) if change == "relabelled" else ""
        old, new = (
            pd.Series([_told(value, of) for value in stayed[f"{column}_{when}"]], stayed.index, dtype=object)
            for when in ("before", "after")
        )
        differs = old.fillna("") != new.fillna("")
        parts.append(_rows(change, stayed.assign(old=old, new=new)[differs], "old", "new"))
    changes = pd.concat(parts, ignore_index=True)
    changes["change"] = pd.Categorical(changes["change"], CHANGES, ordered=True)
    return changes.sort_values(["change", "path"], ignore_index=True)


def _labels(manifest: pd.DataFrame) -> list[str]:
    """Columns of labels, that of the leading task first."""
    return [LABEL, *(name for name in manifest.columns if name.startswith(f"{LABEL}:"))]


def _with(manifest: pd.DataFrame, labels: Iterable[str]) -> pd.DataFrame:
    """A manifest with a column of each task, empty where it does not have one."""
    return manifest.assign(**{name: None for name in labels if name not in manifest.columns})


def _shown(rows: pd.DataFrame, suffix: str, labels: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame({"path": rows["path"]} | {name: rows[name + suffix] for name in ("hash", *labels, "split")})


def _pairs(went: pd.DataFrame, came: pd.DataFrame) -> pd.DataFrame:
    """Images that went and came under another path; of several copies, the first goes with the first."""
    numbered = [rows.assign(copy=rows.groupby("hash").cumcount()) for rows in (went, came)]
    return numbered[0].merge(numbered[1], on=["hash", "copy"], suffixes=("_before", "_after"))


def _rows(change: str, rows: pd.DataFrame, before: str | None, after: str | None) -> pd.DataFrame:
    old = rows[before].map(_text) if before else None
    new = rows[after].map(_text) if after else None
    return pd.DataFrame({"change": change, "path": rows["path"], "before": old, "after": new}, dtype=object)


def _told(value: object, task: str) -> str | None:
    """A label as text, of a further task with its name before it."""
    text = _text(value)
    return f"{task}: {text}" if task and text is not None else text


def _text(value: object) -> str | None:
    """A label as text; several labels, as multi-label manifests hold them, with commas between."""
    if value is None or value is pd.NA:
        return None
    if isinstance(value, float):
        return None if math.isnan(value) else number_text(value)
    return value if isinstance(value, str) else ", ".join(map(str, value))  # type: ignore[call-overload]
