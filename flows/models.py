"""Registered models as tables."""

from __future__ import annotations

from datetime import datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from rich.table import Table

from flows.console import plain_table
from tasks.register.approval import waiting
from tasks.register.gate import VERDICT
from tasks.register.merits import SCORE
from tasks.register.registry import DATA, HELD_OUT, aliases_of, all_models, all_versions, get_model
from tasks.register.store import connect
from tasks.workspace import Workspace

COLUMNS = ("model", "version", "alias", "val", "held-out", "data", "backbone", "run")


def versions_table(workspace: Workspace, name: str | None = None) -> Table:
    """All versions of one or all registered models, newest first.

    Raises:
        RegistryError: there is no such model.
    """
    client = connect(workspace)
    found = [get_model(client, name)] if name else all_models(client)
    table = plain_table(*COLUMNS, numbers=("version",))
    for model in found:
        aliases = aliases_of(model)
        for number, version in reversed(all_versions(client, model.name).items()):
            table.add_row(*_cells(client, version, ", ".join(aliases.get(number, []))))
    return table


def pending_table(workspace: Workspace, name: str | None = None) -> Table:
    """Versions that wait for a person, and why."""
    client = connect(workspace)
    table = plain_table("model", "version", "made", "verdict", numbers=("version",))
    for version in waiting(client, get_model(client, name).name if name else None):
        made = datetime.fromtimestamp(version.creation_timestamp / 1000).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(version.name, str(version.version), made, version.tags.get(VERDICT, ""))
    return table


def _cells(client: MlflowClient, version: ModelVersion, alias: str) -> list[str]:
    tags = version.tags
    score = f"{float(tags[SCORE]):.4f}" if SCORE in tags else ""
    return [
        version.name, str(version.version), alias, score, tags.get(HELD_OUT) or _held_out(client, version),
        tags.get(DATA, "")[:12], tags.get("backbone", ""), (version.run_id or "")[:8],
    ]  # fmt: skip


def _held_out(client: MlflowClient, version: ModelVersion) -> str:
    """The figure as the run has it, for versions of old; their run may have been deleted."""
    try:
        metrics = client.get_run(version.run_id or "").data.metrics
    except MlflowException:
        return ""
    split = "test" if "test/accuracy" in metrics else "val"
    return f"{metrics[f'{split}/accuracy']:.4f} ({split})" if f"{split}/accuracy" in metrics else ""
