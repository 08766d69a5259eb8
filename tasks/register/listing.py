"""What lists show of registered models' versions.

MLflow takes seconds to import, a hundred versions a hundredth of one to read. So those of a workspace's own store, a
SQLite file, are read without it: the tables below, which it has had since it has had aliases.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.register.rows import no_prompt
from tasks.register.tags import HELD_OUT, PREFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.register.client import Model

PATIENCE = 60.0
"""Seconds that another process may hold the store."""

FIGURES = ("test/accuracy", "val/accuracy")
"""Metrics of the run that stand in for the held-out figure of versions of old, which do not say it."""

# A version that was deleted stays as a row of a stage of its own.
VERSIONS = f"""
SELECT name, version, coalesce(run_id, ''),
    (SELECT json_group_array(alias) FROM registered_model_aliases AS a
        WHERE a.name = v.name AND a.version = v.version AND a.workspace = v.workspace),
    (SELECT json_group_object(key, value) FROM model_version_tags AS t
        WHERE t.name = v.name AND t.version = v.version AND t.workspace = v.workspace),
    (SELECT json_group_object(key, value) FROM latest_metrics WHERE run_uuid = run_id AND key IN (?, ?))
FROM model_versions AS v
WHERE workspace = 'default' AND current_stage <> 'Deleted_Internal' AND substr(name, 1, ?) <> ?
    AND {no_prompt("v")}
ORDER BY name, version DESC
"""


@dataclass(frozen=True)
class Listed:
    """A version, by what its tags say."""

    name: str
    number: int
    aliases: tuple[str, ...]
    run: str
    tags: Mapping[str, str]
    held_out: str


def read_versions(store: Path) -> list[Listed]:
    """All versions in MLflow's SQLite file, by model, the newest first.

    Raises:
        sqlite3.Error: the file cannot be read, or has other tables.
    """
    wanted = (*FIGURES, len(PREFIX), PREFIX)
    with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as database:
        return [
            _listed(name, version, json.loads(aliases), run, json.loads(tags), json.loads(metrics))
            for name, version, run, aliases, tags, metrics in database.execute(VERSIONS, wanted)
        ]


def ask_versions(client: MlflowClient, models: list[Model]) -> Iterator[Listed]:
    """The same of some models, by MLflow."""
    from tasks.register.registry import aliases_of, all_versions

    for model in models:
        aliases = aliases_of(model)
        for number, version in reversed(all_versions(client, model.name).items()):
            metrics = {} if HELD_OUT in version.tags else _metrics(client, version.run_id)
            yield _listed(model.name, number, aliases.get(number, []), version.run_id or "", version.tags, metrics)


def _listed(
    name: str, number: int, aliases: list[str], run: str, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> Listed:  # fmt: skip
    known = [f"{metrics[key]:.4f} ({key.partition('/')[0]})" for key in FIGURES if key in metrics]
    return Listed(name, number, tuple(sorted(aliases)), run, tags, tags.get(HELD_OUT) or "".join(known[:1]))


def _metrics(client: MlflowClient, run: str | None) -> Mapping[str, float]:
    from mlflow.exceptions import MlflowException

    try:
        metrics: Mapping[str, float] = client.get_run(run or "").data.metrics
    except MlflowException:  # the run was deleted
        return {}
    return metrics
