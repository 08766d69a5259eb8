"""What a source tells of an image: a label without a name, or tasks by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator

from tasks.errors import ConfigurationError
from tasks.ingest.tables.cells import list_of, number_of, plain_number, several_labels
from tasks.section import Section
from tasks.target import LABEL, Kind, Target
from tasks.wording import REASON, brief

YES = frozenset(["1", "1.0", "true", "yes", "y"])
NO = frozenset(["", "0", "0.0", "false", "no", "n", "-1", "-1.0"])
"""What one-hot columns hold."""

LISTED = re.compile(r"""\[(?:\s*['"].*['"])?\s*\]""", re.DOTALL)
"""A list of texts, or of nothing, which is no name of a class; ``[0, 10]`` may be one."""

OBJECT = re.compile(r"""\{\s*["'](?:[^"'\\]|\\.)*["']\s*:.*\}""", re.DOTALL)
"""An object with texts for keys, which is no name of a class; ``{cat}`` may be one."""

BITS = frozenset(["0", "1", "true", "false"])
"""What vectors hold that say of each class whether it is there."""

LONGEST_LABEL = 1000
"""Signs; what is longer is no name of a class."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)
"""A task's name, which is part of names of columns, figures and files."""

TAKEN = frozenset([
    "label", "labels", "probability", "top_k", "value", "low", "high", "path", "error", "model",
    "train", "val", "test", "tune", "pool", "partial",
])  # fmt: skip
"""Names that columns of predictions, or splits, have already."""

DERIVED = ("probability", "low", "high")
"""What follows a task's name in columns of predictions."""

Label = tuple[str, ...] | float
"""Of an image by one task: the class, or several, or the number."""


class Asked(Section):
    """A task, and where a source tells it: ``label: {age: {column: age, kind: number, unit: years}}``. A column alone
    is a class; the names are letters, digits and _, and the first task leads."""

    column: str | list[str]
    """Where the label stands; several columns of 0 and 1 give several labels."""
    kind: Kind | None = None
    """``class``: one of several; ``labels``: any of several; ``number``: a quantity. None: labels where there is a
    separator or several columns, else a class."""
    separator: str | None = None
    """What stands between several labels in one cell that is no list."""
    unit: str = ""
    """Of a number, such as ``years``."""

    @property
    def columns(self) -> list[str]:
        """All of them."""
        return [self.column] if isinstance(self.column, str) else self.column

    @property
    def settled(self) -> Kind:
        """The kind, where need be by what else is said."""
        return self.kind or ("labels" if self.separator or isinstance(self.column, list) else "class")

    @property
    def takes_lists(self) -> bool:
        """Whether a value may be a list of several labels."""
        return self.settled == "labels" and isinstance(self.column, str)


Tasks = dict[str, Asked]
"""By their names; the first leads."""


def read_label(value: Any) -> Any:
    """The key ``label`` of a source: a column, several of 0 and 1, or columns by the names of tasks.

    Raises:
        ValueError: it is none of these, or a task is not told in full, or in two ways.
    """
    if not isinstance(value, dict):
        if value is None or isinstance(value, str) or (isinstance(value, list) and _are_names(value)):
            return value
        raise ValueError("name a column, a list of columns of 0 and 1, or columns by the names of tasks")
    check_names(value)
    tasks = {name: _read_task(name, entry) for name, entry in value.items()}
    seen: set[tuple[str, Kind]] = set()
    for name, asked in tasks.items():
        for column in asked.columns:
            if (column, asked.settled) in seen:
                raise ValueError(
                    f"task {name!r}: column {column!r} is that of another task of its kind, or named twice"
                )
            seen.add((column, asked.settled))
    return tasks


AnyLabel = Annotated[str | list[str] | Tasks, BeforeValidator(read_label)]
"""What the key ``label`` of a source may be."""


def check_names(names: Iterable[Any]) -> None:
    """Whether tasks may be called so.

    Raises:
        ValueError: there is none, a name is no name, or it stands for something else already.
    """
    known: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a task: a letter, then letters, digits and _, 40 at most")
        plain = name.casefold()
        if plain in TAKEN:
            raise ValueError(f"a task cannot be called {name!r}, which is the name of a column or a split already")
        for other in (plain, *(plain.removesuffix(f"_{end}") for end in DERIVED)):
            if other in known:
                raise ValueError(_clash(name, known[other]))
        for end in DERIVED:
            if f"{plain}_{end}" in known:
                raise ValueError(_clash(known[f"{plain}_{end}"], name))
        known[plain] = name
    if not known:
        raise ValueError("name a task and its column, such as label: {species: species}")


def _clash(name: str, other: str) -> str:
    return f"tasks {other!r} and {name!r} would have columns or files of one name: call one of them otherwise"


def _read_task(name: str, entry: Any) -> Asked:
    if isinstance(entry, str) or (isinstance(entry, list) and _are_names(entry)):
        return Asked(column=entry)
    if not isinstance(entry, dict):
        raise ValueError(f"task {name!r}: name its column, such as {name}: {{column: {name}, kind: number}}")
    for key in entry:
        if key not in Asked.model_fields:
            near = get_close_matches(str(key), Asked.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(Asked.model_fields)}"
            raise ValueError(f"task {name!r}: unknown key {key!r}; {hint}")
    column, kind = entry.get("column"), entry.get("kind")
    if not (column and isinstance(column, str)) and not (isinstance(column, list) and _are_names(column)):
        raise ValueError(f"task {name!r}: column must name one, or be a list of columns of 0 and 1 (given: {column!r})")
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"task {name!r}: there is no kind {kind!r}; there are {', '.join(get_args(Kind))}")
    asked = Asked.model_validate({key: each for key, each in entry.items() if each is not None})
    if asked.settled != "labels" and (asked.separator or isinstance(asked.column, list)):
        raise ValueError(f"task {name!r}: several columns or a separator give several labels, not a {asked.kind}")
    if asked.unit and asked.settled != "number":
        raise ValueError(f"task {name!r}: a unit is a number's; add kind: number, or leave it out")
    return asked


def _are_names(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(each, str) and each for each in values)


def check_single_columns(label: str | list[str] | Tasks | None, multi_label: bool = False) -> None:
    """Whether each label is a value of its own, not several columns or parts of a text as a table's may be.

    Args:
        multi_label: whether the source's own key says that labels are lists, as it may of one without a name.

    Raises:
        ValueError: one is not, or a label with a name is said to be a list so.
    """
    if isinstance(label, dict) and multi_label:
        raise ValueError("multi_label is for labels without a name: write kind: labels with the task")
    for asked in label.values() if isinstance(label, dict) else [Asked(column=label)] if label else []:
        if asked.separator or isinstance(asked.column, list):
            raise ValueError("label: separators and lists of columns are for tables")


def targets_of(tasks: Mapping[str, Asked]) -> tuple[Target, ...]:
    """The tasks as a dataset has them, before anything is known of their classes."""
    return tuple(
        Target(name=name, column=f"{LABEL}:{name}" if place else LABEL, kind=asked.settled, unit=asked.unit)
        for place, (name, asked) in enumerate(tasks.items())
    )


def read_cells(cells: Mapping[str, str], tasks: Mapping[str, Asked]) -> dict[str, Label | None]:
    """What a row says by each task; None where it says nothing.

    Args:
        cells: text by column.

    Raises:
        ValueError: a cell holds what cannot be a label of its task.
        ConfigurationError: it may hold several, and nothing says what stands between them.
    """
    return {name: _read_cell(cells, asked) for name, asked in tasks.items()}


def _read_cell(cells: Mapping[str, str], asked: Asked) -> Label | None:
    if not isinstance(asked.column, str):
        return _one_hot({name: cells[name].lower() for name in asked.column})
    if not (cell := cells[asked.column]):
        return None
    if asked.settled == "number":
        return _number(f"column {asked.column}", cell)
    try:
        return _several(cell, asked) if asked.takes_lists else _single(cell, asked)
    except ValueError as error:
        raise ValueError(f"column {asked.column} {error}") from None


def _several(cell: str, asked: Asked) -> tuple[str, ...] | None:
    listed = list_of(cell)
    if listed is None and not asked.separator:
        raise ConfigurationError(
            f"column {asked.column} holds {brief(cell, REASON)!r} where a list of labels is expected: name what stands "
            f"between several, as in {{column: {asked.column}, kind: labels, separator: ';'}}"
        )
    parts = cell.split(asked.separator) if listed is None else listed
    labels = _names([_name(part) for part in parts if part.strip()])
    return labels if labels or listed is not None else None


def _names(labels: Sequence[str]) -> tuple[str, ...]:
    """Several labels of an image, unless they are a vector: of three bits and more one comes twice."""
    if len(labels) > 2 and {plain_number(label.removesuffix(".")).lower() for label in labels} <= BITS:
        raise ValueError(
            "holds a vector of 0 and 1 where names of labels are expected: make a column of each class, as in label: "
            "[scratch, dent, rust], or lists of names"
        )
    return tuple(labels)


def _single(cell: str, asked: Asked) -> tuple[str] | None:
    if LISTED.fullmatch(cell):
        raise ValueError(f"holds a list where one class is expected; {several_labels(str(asked.column))}")
    if OBJECT.fullmatch(cell):
        raise ValueError("holds an object where one class is expected: write the class itself")
    return (_name(cell),) if cell.strip() else None


def _name(text: str) -> str:
    if len(text) > LONGEST_LABEL:
        raise ValueError(f"holds {len(text):,} signs where the name of a class is expected")
    return text.strip()


def _one_hot(cells: Mapping[str, str]) -> tuple[str, ...] | None:
    for name, cell in cells.items():
        if cell not in YES | NO:
            raise ValueError(f"column {name} holds {cell!r} where 0 or 1 is expected")
    return tuple(name for name, cell in cells.items() if cell in YES) if any(cells.values()) else None


def _number(where: str, text: str) -> float:
    try:
        return number_of(text)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def read_value(asked: Asked, values: tuple[str, ...] | None) -> Label | None:
    """What a value of another form than a table's cell says.

    Args:
        values: as text, which may be a single one that is a list; None where there is none.

    Raises:
        ValueError: it is no number where one is expected, a list for a class, or one that cannot be read.
    """
    if values is None:
        return None
    if asked.settled != "number":
        if len(values) != 1 or not (LISTED.fullmatch(values[0]) or OBJECT.fullmatch(values[0])):
            return _names(values)
        return _several(values[0], asked) if asked.takes_lists else _single(values[0], asked)
    if len(values) != 1:
        raise ValueError(f"{asked.column} holds {len(values)} values where a number is expected")
    return _number(str(asked.column), values[0]) if values[0].strip() else None


def labels_of(said: Mapping[str, Label | None]) -> dict[str, Any]:
    """What an item says of its labels, by the tasks in their order."""
    leading, *others = said.items()
    return {"labels": leading[1], "further": {name: label for name, label in others if label is not None}}
