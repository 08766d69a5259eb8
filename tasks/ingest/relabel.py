"""A list of doubtful labels that a person has been through, as corrections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tasks.errors import DataError
from tasks.ingest.corrections import Correction, Key, read_table
from tasks.ingest.tables.cells import number_of, number_text
from tasks.target import Kind
from tasks.wording import shorten

COLUMNS = ["label", "was", "path", "hash"]


def read_review(
    file: Path, manifest: pd.DataFrame, known: Mapping[Key, Correction], new_classes: bool = False,
    copies: pd.DataFrame | None = None,
) -> dict[Key, Correction]:  # fmt: skip
    """The corrections, those that are known and those of an edited list, whose column ``label`` was written in.

    Labels are those of the leading task. Rows whose label is as it was, or is that of the dataset already, change
    nothing.

    Args:
        manifest: of the version that the list is of.
        new_classes: whether labels may be new to the dataset.
        copies: that contradict each other, wherever they are now; see `tasks.ingest.contradictions`.

    Raises:
        DataError: a row is of no image of the version, of one whose label is another meanwhile, or names a class that
            there is not; or two rows contradict each other.
    """
    labelled = manifest[manifest["label"].notna()]
    kind = _kind(labelled["label"])
    classes = set(labelled["label"].explode().dropna())
    images = _images(labelled, copies)
    edited: dict[Key, Correction] = {}
    labels: dict[str, str | None] = {}
    for line, row in enumerate(read_table(file, COLUMNS), 2):
        where = f"{file}, row {line} ({shorten([row['path']])})"
        label, was = (_label(_trimmed(row[name], classes), kind, where) for name in ("label", "was"))
        correction = Correction(row["hash"], label, str(was), row["path"])
        earlier = known.get(correction.key)
        if label == was or (earlier and earlier.label == label):
            continue
        now = _labels_now(images, row, where)
        if now == {label}:
            continue
        if was not in now:
            told = " and ".join(sorted(now))
            raise DataError(f"{where}: its label is {told} now, not {was}: make the list anew, or correct `was`")
        if label is not None and not new_classes and kind != "number":
            _check_known(json.loads(label) if kind == "labels" else [label], classes, where)
        if labels.setdefault(correction.hash, label) != label:
            raise DataError(f"{where}: another row gives the same image another label")
        edited[correction.key] = correction
    return _chained(known, edited)


def _images(labelled: pd.DataFrame, copies: pd.DataFrame | None) -> pd.DataFrame:
    """Path, hash and label, as a text, of all images that may be in a list; by hash."""
    own = labelled[["path", "hash"]].assign(label=labelled["label"].map(label_text))
    rows = own if copies is None else pd.concat([own, copies[["path", "hash", "label"]]])
    return rows.set_index("hash").sort_index(kind="stable")


def _labels_now(images: pd.DataFrame, row: Mapping[str, str], where: str) -> set[str]:
    """The labels that a row's image, and its copies, have now."""
    if row["hash"] not in images.index:
        raise DataError(
            f"{where}: the version has no labelled image of content {row['hash']!r}; say with --data of which "
            "version the list is"
        )
    there = images.loc[[row["hash"]]]
    if row["path"] not in set(there["path"]):
        raise DataError(f"{where}: the image of content {row['hash']} is called {there['path'].iloc[0]}")
    return set(there["label"])


def _chained(known: Mapping[Key, Correction], edited: Mapping[Key, Correction]) -> dict[Key, Correction]:
    """All corrections. One of an image that was corrected before begins at what the source still says."""
    before: dict[Key, list[str]] = {}
    for earlier in known.values():
        before.setdefault((earlier.hash, str(earlier.label)), []).append(earlier.was)
    after = dict(known)
    for key, each in edited.items():
        for was in before.get(key, [each.was]):
            after[each.hash, was] = each._replace(was=was)
    return {key: each for key, each in after.items() if each.label != each.was}


def _kind(labels: pd.Series) -> Kind:
    """Of the leading task, by its labels."""
    if pd.api.types.is_float_dtype(labels):
        return "number"
    return "class" if labels.map(lambda label: isinstance(label, str)).all() else "labels"


def _trimmed(cell: str, classes: set[str]) -> str:
    """A cell without the spaces that got around it; those of a class are its own."""
    return cell if cell in classes else cell.strip()


def _label(text: str, kind: Kind, where: str) -> str | None:
    if not text or kind == "class":
        return text or None
    if kind == "number":
        try:
            return number_text(number_of(text))
        except ValueError as error:
            raise DataError(f"{where}: a label {error}") from error
    try:
        labels = json.loads(text) if text.startswith("[") else [text]
    except ValueError as error:
        raise DataError(f'{where}: {text} is no list of labels, such as ["cat", "dog"]') from error
    if not all(isinstance(label, str) for label in labels):
        raise DataError(f"{where}: {text} holds what is no name")
    return label_text(labels)


def label_text(label: object) -> str:
    """A label as a cell of a table; several labels are a JSON list, in the order of their names."""
    if isinstance(label, float):
        return number_text(label)
    return label if isinstance(label, str) else json.dumps(sorted(set(label)), ensure_ascii=False)  # type: ignore[call-overload]


def _check_known(labels: list[str], classes: set[str], where: str) -> None:
    if unknown := [label for label in labels if label not in classes]:
        raise DataError(
            f"{where}: there is no class {unknown[0]!r} among {shorten(sorted(classes))}; --new-classes takes it in"
        )
