"""``data.labels.csv``: labels that somebody corrected, by content, so that they hold wherever a source brings it again.

The file lies beside ``data.dvc`` and belongs into version control. A correction is made where the image has the label
that was wrong; one that has another meanwhile, or in another source, is left as it is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tasks.encoding import write_rows
from tasks.errors import DataError
from tasks.fingerprint import file_digest
from tasks.ingest.journal import USED, Journal
from tasks.ingest.tables.cells import number_of, number_text
from tasks.target import Kind
from tasks.wording import REASON, brief
from tasks.workspace import Workspace, write_whole

CORRECTIONS = "data.labels.csv"
COLUMNS = ["hash", "label", "was", "path"]

Key = tuple[str, str]
"""Of a correction: the content, and the label that was wrong. Copies that contradict each other may bear several."""


class Correction(NamedTuple):
    """What an image is labelled in place of what it was; several labels are a JSON list.

    Attributes:
        hash: MD5 of the content.
        label: None leaves the image out.
        path: where it was seen, for people.
    """

    hash: str
    label: str | None
    was: str
    path: str

    @property
    def key(self) -> Key:
        return self.hash, self.was


def corrections_file(workspace: Workspace) -> Path:
    """Where a workspace's corrections lie."""
    return workspace.root / CORRECTIONS


def corrections_state(workspace: Workspace) -> str | None:
    """A fingerprint of the corrections; None where there are none."""
    file = corrections_file(workspace)
    return file_digest(file) if file.is_file() else None


def read_corrections(workspace: Workspace) -> dict[Key, Correction]:
    """The corrections by content and wrong label.

    Raises:
        DataError: the file has other columns, or says two things of one image.
    """
    file = corrections_file(workspace)
    found: dict[Key, Correction] = {}
    labels: dict[str, str | None] = {}
    for line, row in enumerate(read_table(file, COLUMNS) if file.is_file() else [], 2):
        if not any(row.values()):
            continue  # as a spreadsheet leaves the cells of a row that was cleared
        label = row["label"] if row["label"].strip() else None
        correction = Correction(row["hash"], label, row["was"], row["path"])
        if labels.setdefault(correction.hash, correction.label) != correction.label:
            raise DataError(
                f"{file}, row {line}: {correction.path} is corrected twice, and differently: remove one row"
            )
        found.setdefault(correction.key, correction)
    return found


def write_corrections(workspace: Workspace, corrections: Mapping[Key, Correction]) -> Path:
    """Write them in the order of their paths, so that a change of one is a change of one line."""
    text = io.StringIO()
    ordered = sorted(corrections.values(), key=lambda each: (each.path, each.hash, each.was))
    write_rows(text, [COLUMNS, *ordered])
    write_whole(file := corrections_file(workspace), text.getvalue())
    return file


def read_table(file: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV file as it, or a spreadsheet that it was edited in, writes it.

    Raises:
        DataError: it is not there, no such table, or lacks columns.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")  # as it is: a name may hold a carriage return
    except (OSError, UnicodeDecodeError) as error:
        told = "is not UTF-8: save it as CSV UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise DataError(f"{file}: {told}") from error
    head = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    lacking = [name for name in columns if name not in (rows.fieldnames or ())]
    if lacking:
        raise DataError(f"{file} lacks the columns {', '.join(lacking)}; it needs {', '.join(columns)}")
    try:
        found = list(rows)
    except csv.Error as error:
        raise DataError(f"{file}, line {rows.line_num}: {error}") from error
    if ragged := next((line for line, row in enumerate(found, 2) if None in row or None in row.values()), None):
        raise DataError(f"{file}, row {ragged}: it has more or fewer cells than the head of the table")
    return found


def correct_labels(journal: Journal, corrections: Mapping[Key, Correction], kind: Kind = "class") -> None:
    """Give the rows of a dataset in the making their corrected labels of the leading task, and say so.

    Args:
        kind: of the leading task.

    Raises:
        DataError: it is a number, and a correction is none.
    """
    if not corrections:
        return
    sql = journal.sql
    sql.execute("CREATE TEMP TABLE corrections (hash TEXT, new TEXT, old TEXT, PRIMARY KEY (hash, old)) WITHOUT ROWID")
    sql.executemany(
        "INSERT OR IGNORE INTO temp.corrections VALUES (?,?,?)",
        [(each.hash, each.label and _read(each.label, kind), _read(each.was, kind)) for each in corrections.values()],
    )
    joined = f"rows JOIN temp.corrections USING (hash) WHERE {USED} AND label IS NOT NULL"
    settled = f"SELECT hash FROM {joined} AND (label = old OR label IS new)"
    for finding, condition in (("corrected", "label = old AND new IS NOT NULL"),
                            ("outdated_correction", f"hash NOT IN ({settled}) GROUP BY id")):  # fmt: skip
        sql.execute(f"INSERT INTO noted SELECT '{finding}', id, 'was ' || old FROM {joined} AND {condition}")
    sql.execute(f"CREATE TEMP TABLE changed AS SELECT id, new FROM {joined} AND label = old")
    for (new,) in sql.execute("SELECT DISTINCT new FROM temp.changed WHERE new IS NOT NULL").fetchall():
        _plain(new, kind)
    sql.execute(
        """UPDATE rows SET kind = 'left_out', reason = 'data.labels.csv leaves it out'
        WHERE id IN (SELECT id FROM temp.changed WHERE new IS NULL)"""
    )
    sql.execute("UPDATE rows SET label = changed.new FROM temp.changed WHERE rows.id = changed.id AND new IS NOT NULL")
    for table in ("corrections", "changed"):
        sql.execute(f"DROP TABLE temp.{table}")
    sql.commit()


def _read(label: str, kind: Kind) -> str:
    """As the journal has it; as it is where it cannot be of this kind, as those of another dataset may be."""
    try:
        return _plain(label, kind)
    except DataError:
        return label


def _plain(label: str, kind: Kind) -> str:
    """As the journal has it, whose lists are in ASCII, each name once, in the order of the names.

    Raises:
        DataError: it is no label of this kind.
    """
    try:
        if kind == "number":
            return number_text(number_of(label))
        if kind == "class":
            return label
        names = json.loads(label) if label.startswith("[") else [label]
    except ValueError as error:
        told = error if kind == "number" else 'is no list of labels, such as ["cat", "dog"]'
        raise DataError(f"{CORRECTIONS}: the label {brief(label, REASON)} {told}") from error
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{CORRECTIONS}: the label {brief(label, REASON)} holds what is no name")
    return json.dumps(sorted(set(names)))
