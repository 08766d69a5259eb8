"""A list of doubtful labels that a person has been through, as corrections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tasks.errors import DataError
from tasks.ingest.corrections import Correction, read_table
from tasks.wording import shorten

COLUMNS = ["label", "was", "path", "hash"]


def read_review(
    file: Path, manifest: pd.DataFrame, known: Mapping[str, Correction], new_classes: bool = False
) -> dict[str, Correction]:
    """The corrections, those that are known and those of an edited list, whose column ``label`` was written in.

    Rows whose label is as it was, or is that of the dataset already, change nothing.

    Args:
        manifest: of the version that the list is of.
        new_classes: whether labels may be new to the dataset.

    Raises:
        DataError: a row is of no image of the version, of one whose label is another meanwhile, or names a class that
            there is not; or two rows contradict each other.
    """
    labelled = manifest[manifest["label"].notna()]
    several = not labelled["label"].map(lambda label: isinstance(label, str)).all()
    images = labelled.drop_duplicates("hash").set_index("hash")
    classes = set(labelled["label"].explode().dropna())
    edited: dict[str, Correction] = {}
    for line, row in enumerate(read_table(file, COLUMNS), 2):
        where = f"{file}, row {line} ({shorten([row['path']])})"
        label, was = (_label(row[name].strip(), several, where) for name in ("label", "was"))
        if label == was:
            continue
        if row["hash"] not in images.index:
            raise DataError(
                f"{where}: the version has no labelled image of content {row['hash']!r}; say with --data of which "
                "version the list is"
            )
        if row["path"] not in set(labelled.loc[labelled["hash"] == row["hash"], "path"]):
            called = str(images.at[row["hash"], "path"])
            raise DataError(f"{where}: the image of content {row['hash']} is called {called}")
        if (now := label_text(images.at[row["hash"], "label"])) == label:
            continue
        if now != was:
            raise DataError(f"{where}: its label is {now} now, not {was}: make the list anew, or correct `was`")
        if label is not None and not new_classes:
            _check_known(json.loads(label) if several else [label], classes, where)
        correction = Correction(row["hash"], label, str(was), row["path"])
        if edited.setdefault(row["hash"], correction)[:2] != correction[:2]:
            raise DataError(f"{where}: another row gives the same image another label")
    after = dict(known) | {hash: _after(known.get(hash), each) for hash, each in edited.items()}
    return {hash: each for hash, each in after.items() if each.label != each.was}


def _after(earlier: Correction | None, correction: Correction) -> Correction:
    """A source still says what was wrong at first."""
    return correction._replace(was=earlier.was) if earlier else correction


def _label(text: str, several: bool, where: str) -> str | None:
    if not text or not several:
        return text or None
    try:
        labels = json.loads(text) if text.startswith("[") else [text]
    except ValueError as error:
        raise DataError(f'{where}: {text} is no list of labels, such as ["cat", "dog"]') from error
    if not all(isinstance(label, str) for label in labels):
        raise DataError(f"{where}: {text} holds what is no name")
    return label_text(labels)


def label_text(label: object) -> str:
    """A label as a cell of a table; several labels are a JSON list, in the order of their names."""
    return label if isinstance(label, str) else json.dumps(sorted(set(label)), ensure_ascii=False)  # type: ignore[call-overload]


def _check_known(labels: list[str], classes: set[str], where: str) -> None:
    if unknown := [label for label in labels if label not in classes]:
        raise DataError(
            f"{where}: there is no class {unknown[0]!r} among {shorten(sorted(classes))}; --new-classes takes it in"
        )
