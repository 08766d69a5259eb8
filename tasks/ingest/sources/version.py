"""A version of the dataset that was made before, as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, model_validator

from tasks.errors import ConfigurationError
from tasks.ingest.labels import Label, check_names, labels_of
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.section import Section
from tasks.target import LABEL, Kind, Target, one_task
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


class Told(Section):
    """A task that a version has."""

    kind: Kind = "class"
    """``class``, ``labels`` or ``number``."""
    unit: str = ""
    """Of a number; versions do not keep it."""


def _read_tasks(value: Any) -> Any:
    """Tasks by their names; a kind stands for a task of this kind."""
    if not isinstance(value, dict):
        return value
    if value:
        check_names(value)
    return {name: {"kind": each} if isinstance(each, str) else each for name, each in value.items()}


class VersionSource(Source):
    """A version of the dataset in this workspace's store, with the labels, splits, domains and groups that it has.

    ``headstart data list`` shows versions, ``headstart data pull`` fetches one from the remote.
    """

    version: str
    """All 32 digits, as in ``data.dvc``."""
    multi_label: bool = False
    """Whether an image may have several labels."""
    tasks: Annotated[dict[str, Told], BeforeValidator(_read_tasks)] = {}  # noqa: RUF012
    """Where the version's tasks have names, these with their kinds, the leading one first: ``{species: class, age:
    {kind: number, unit: years}}``."""
    tells_numbers: ClassVar[bool] = True
    expects = "images of a version that headstart made"

    @model_validator(mode="after")
    def _tasks_say_their_kinds(self) -> VersionSource:
        if self.tasks and self.multi_label:
            raise ValueError("multi_label is for a version whose labels have no name: write tasks: {NAME: labels}")
        return self

    def targets(self) -> tuple[Target, ...]:
        """As configured."""
        if not self.tasks:
            return one_task((), self.multi_label)
        return tuple(
            Target(name=name, column=f"{LABEL}:{name}" if place else LABEL, kind=task.kind, unit=task.unit)
            for place, (name, task) in enumerate(self.tasks.items())
        )

    def check(self, workspace: Workspace) -> None:
        """The store has the version, and its labels are as configured."""
        self._manifest(workspace)

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every image, from the store."""
        from tasks.ingest.objects import object_path
        from tasks.ingest.repository import object_store

        store = object_store(workspace)
        targets = self.targets()
        columns = [target.column for target in targets]
        rows = self._manifest(workspace)[["path", "split", "domain", "group", "hash", *columns]]
        for path, split, domain, group, hash, *cells in rows.itertuples(index=False, name=None):
            said = {target.name: _label(cell) for target, cell in zip(targets, cells, strict=True)}
            place = str(object_path(store, hash))
            yield Item(path, place=place, stamp=hash, **labels_of(said), split=split, domain=domain, group=group)

    def total(self, workspace: Workspace) -> int:
        """The rows of its manifest."""
        return len(self._manifest(workspace))

    def _manifest(self, workspace: Workspace) -> pd.DataFrame:
        """The version's manifest, None where a cell is empty.

        Raises:
            DataError: the store does not have it.
            ConfigurationError: it has other tasks than are said.
        """
        from tasks.ingest.versioning import read_manifest, read_targets

        name = f"{self.version.removesuffix('.dir')}.dir"
        there = [(target.name, target.kind) for target in read_targets(name, workspace)]
        if there != [(target.name, target.kind) for target in self.targets()]:
            raise ConfigurationError(f"version {self.version}: {_as_keys(there)}")
        found = read_manifest(name, workspace).astype(object)
        return found.where(found.notna(), None)


def _label(cell: Any) -> Label | None:
    if cell is None or isinstance(cell, float):
        return cell
    return (cell,) if isinstance(cell, str) else tuple(cell)


def _as_keys(tasks: list[tuple[str, Kind]]) -> str:
    """What has to be written for a version of these tasks."""
    if tasks[0][0] == LABEL:
        return f"multi_label has to be {tasks[0][1] == 'labels'}, and tasks left out"
    return f"tasks has to be {{{', '.join(f'{name}: {kind}' for name, kind in tasks)}}}"
