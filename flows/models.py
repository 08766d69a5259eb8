"""Registered models as tables."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from rich.table import Table

from tasks.register.registry import DATA, get_model, history
from tasks.workspace import Workspace


def versions_table(workspace: Workspace, name: str | None = None) -> Table:
    """All versions of one or all registered models, newest first.

    Raises:
        RegistryError: there is no such model.
    """
    client = MlflowClient(workspace.tracking_uri)
    found = [get_model(client, name)] if name else client.search_registered_models()
    table = Table(
        "model",
        "version",
        "alias",
        "val accuracy",
        "held-out accuracy",
        "data version",
        "backbone",
        "run",
        box=None,
        pad_edge=False,
    )
    for model in found:
        aliases = {str(version): alias for alias, version in model.aliases.items()}
        versions = client.search_model_versions(f"name='{model.name}'")
        for version in sorted(versions, key=lambda version: -int(version.version)):
            table.add_row(*_cells(client, version, aliases.get(str(version.version), "")))
    return table


def history_table(workspace: Workspace, name: str) -> Table:
    """Who made which version champion, when and why."""
    table = Table("when", "who", "move", "why", box=None, pad_edge=False, title="champion", title_justify="left")
    for move in history(MlflowClient(workspace.tracking_uri), name):
        step = f"{move.previous or '–'} → {move.version} ({move.action})"
        table.add_row(move.when[:19].replace("T", " "), move.who, step, move.why)
    return table


def _cells(client: MlflowClient, version: ModelVersion, alias: str) -> list[str]:
    metrics = client.get_run(version.run_id).data.metrics if version.run_id else {}
    choose, report = ("val", "test") if "test/accuracy" in metrics else (None, "val")
    validation = metrics[f"{choose}/accuracy"] if choose else float(version.tags.get("score", "nan"))
    held_out = f"{metrics[f'{report}/accuracy']:.4f} ({report})" if f"{report}/accuracy" in metrics else ""
    backbone = version.tags.get("backbone", "").split("/")
    return [
        version.name, str(version.version), alias, f"{validation:.4f}", held_out, version.tags.get(DATA, "")[:12],
        backbone[0], (version.run_id or "")[:8],
    ]  # fmt: skip
