"""Registered models as tables. Of a workspace's own store, all of them are listed without importing MLflow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from flows.console import plain_table
from tasks.register.listing import Listed, ask_versions, read_versions
from tasks.register.store import look_into, open_registry, own_registry
from tasks.register.tags import DATA, SCORE, number_of
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("model", "no.", "alias", "val", "held-out", "data", "backbone", "run")


def versions_table(workspace: Workspace, name: str | None = None) -> Table:
    """All versions of one or all registered models, newest first.

    Raises:
        RegistryError: there is no such model.
    """
    table = plain_table(*COLUMNS, numbers=("no.",), whole=("data", "run"))
    for version in _versions(workspace, name):
        table.add_row(*_cells(version))
    return table


def pending_table(workspace: Workspace, name: str | None = None) -> Table:
    """Versions that wait for a person, and why."""
    from tasks.register.approval import waiting
    from tasks.register.gate import VERDICT
    from tasks.register.registry import get_model

    client = open_registry(workspace)
    table = plain_table("model", "version", "made", "verdict", numbers=("version",))
    for version in waiting(client, get_model(client, name).name if name else None):
        made = datetime.fromtimestamp(version.creation_timestamp / 1000).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(version.name, str(version.version), made, version.tags.get(VERDICT, ""))
    return table


def _versions(workspace: Workspace, name: str | None) -> Iterable[Listed]:
    if name:
        from tasks.register.registry import get_model

        get_model(open_registry(workspace), name)
    if store := own_registry(workspace):
        with suppress(sqlite3.Error):  # MLflow knows what its other versions wrote, and says what it does not
            return [version for version in read_versions(store) if name in (None, version.name)]
    from tasks.register.registry import all_models, get_model

    client = look_into(workspace)
    return ask_versions(client, [get_model(client, name)] if name else all_models(client))


def _cells(version: Listed) -> list[str]:
    tags = version.tags
    figure = number_of(tags, SCORE)
    score = tags.get(SCORE, "") if figure is None else f"{figure:.4f}"
    return [
        version.name, str(version.number), ", ".join(version.aliases), score, version.held_out,
        tags.get(DATA, "")[:8], tags.get("backbone", "").replace("/builtin", ""), version.run[:8],
    ]  # fmt: skip
