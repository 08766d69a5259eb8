"""Versions of the dataset: which there are, who used them, and what a name means."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlflow import MlflowClient

from flows.lineage.subject import every_run
from tasks.errors import DataError, RegistryError
from tasks.ingest.pointer import current_version, unreadable
from tasks.ingest.versioning import local_versions
from tasks.register.client import refusals
from tasks.register.registry import CHAMPION, every, get_version, looked_in, parted
from tasks.register.store import look_into
from tasks.register.tags import DATA
from tasks.workspace import Workspace, shown_store

VERSION = re.compile(r"[0-9a-f]{4,32}(\.dir)?")


@dataclass
class Known:
    """A version of the dataset and what is known of it.

    Attributes:
        name: ends in ``.dir``.
        first: when a run used it first, in seconds since the epoch; None where no run did.
        runs: MLflow runs, the newest first.
        models: ``NAME@NUMBER`` of the models that were fitted to it.
        here: whether this workspace's store has it, all of it.
    """

    name: str
    source: str = ""
    first: float | None = None
    images: int | None = None
    runs: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    here: bool = False

    @property
    def day(self) -> str:
        """When it was used first, in words."""
        return datetime.fromtimestamp(self.first, UTC).strftime("%Y-%m-%d %H:%M") if self.first else ""


def known_versions(workspace: Workspace) -> list[Known]:
    """Every version that a run, a model, ``data.dvc`` or the store names, the newest first."""
    known: dict[str, Known] = {}
    client = look_into(workspace)
    for run in every_run(client, "tags.`data.version` != ''"):
        version = known.setdefault(run.data.tags["data.version"], Known(run.data.tags["data.version"]))
        version.source = version.source or run.data.tags.get("data.source", "")
        version.first = min(filter(None, [version.first, run.info.start_time / 1000]))
        version.runs.append(run.info.run_id)
        counts = {key: value for key, value in run.data.metrics.items() if key.startswith("images/")}
        counts.pop("images/quarantined", None)
        version.images = int(sum(counts.values())) or version.images
    for name, models in _models(client).items():
        known.setdefault(name, Known(name)).models += models
    local = local_versions(workspace)
    for name in filter(None, [*local, current_version(workspace)]):
        known.setdefault(name, Known(name))
    for version in known.values():
        files, version.here = local.get(version.name, (None, False))
        if version.images is None and files:
            version.images = files - 1  # the manifest
    return sorted(known.values(), key=lambda version: -(version.first or 0))


def places(workspace: Workspace) -> str:
    """Where versions are looked for, for a message."""
    root, store = str(workspace.root), shown_store(workspace.tracking_uri)
    return root if workspace.own_store else f"{root} and {store}"


def _models(client: MlflowClient) -> dict[str, list[str]]:
    found = defaultdict(list)
    for version in every(lambda **page: client.search_model_versions(**page)):
        if name := version.tags.get(DATA):
            found[name].append(f"{version.name}@{version.version}")
    return found


def resolve(named: str, workspace: Workspace) -> str:
    """The version that a user means.

    Args:
        named: ``current`` (what ``data.dvc`` names), a version or its first four digits or more, an MLflow run or the
            beginning of its id, or a model: NAME (its champion), NAME@ALIAS or NAME@NUMBER.

    Raises:
        DataError: nothing of that name has a version, or several have.
    """
    if named == "current":
        if version := current_version(workspace):
            return version
        raise DataError(
            unreadable(workspace)
            or f"there is no version of a dataset in {workspace.dvc_file} yet: "
            "`headstart run CONFIG` or `headstart data ingest CONFIG`"
        )
    if version := _of_model(named, workspace):
        return version
    if VERSION.fullmatch(named):
        if found := _beginning_with(named, workspace):
            return found
        if len(named.removesuffix(".dir")) == 32:
            return f"{named.removesuffix('.dir')}.dir"  # the remote may know it
    raise DataError(
        f"no dataset version, run or model is called {named!r} in {places(workspace)}; `headstart data list` shows "
        "those that are known there"
    )


def _of_model(named: str, workspace: Workspace) -> str | None:
    name, which = parted(named)
    client = look_into(workspace)
    try:
        client.get_registered_model(name)
    except refusals():
        if which:
            place = looked_in(client.tracking_uri)
            raise RegistryError(
                f"there is no registered model {name!r} in {place}; `headstart models` lists them"
            ) from None
        return None
    version = get_version(client, name, which or CHAMPION)
    if DATA not in version.tags:
        raise RegistryError(f"model {name!r} version {version.version} was not made by headstart: it names no dataset")
    return version.tags[DATA]


def _beginning_with(text: str, workspace: Workspace) -> str | None:
    known = known_versions(workspace)
    found = {version.name for version in known if version.name.startswith(text)}
    found |= {version.name for version in known for run in version.runs if run.startswith(text)}
    if len(found) > 1:
        raise DataError(f"{text} begins {len(found)} versions or runs: {', '.join(sorted(found))}; give more digits")
    return found.pop() if found else None
