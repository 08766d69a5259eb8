"""Doubtful labels: the list of a pipeline's last evaluation for a person, and what that person made of it."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from flows.config import PipelineConfig, read_config
from flows.lineage.subject import every_run
from flows.stores.shared import beside_another
from tasks.encoding import write_rows
from tasks.errors import ConfigurationError, RegistryError
from tasks.ingest.contradictions import COLUMNS as COPIES
from tasks.ingest.contradictions import CONTRADICTIONS, as_suspects, read_contradictions
from tasks.ingest.corrections import read_corrections, write_corrections
from tasks.ingest.relabel import read_review
from tasks.ingest.remotes import fetch_version
from tasks.ingest.versioning import read_manifest
from tasks.register.store import keeper_of, look_into
from tasks.workspace import Workspace, shown_store, write_whole

SUSPECTS = "tables/suspects.csv"
COLUMNS = ["label", "suggested", "why", "score", "was", "split", "path", "hash"]
"""Of a list; ``label`` is the one to write in."""


def write_review(name: str, output: Path, workspace: Workspace) -> tuple[int, int]:
    """Write the labels that the last run of a pipeline doubts, copies that contradict each other first; a list that is
    there stays.

    Returns:
        How many are listed, and how many there are; of none, nothing is written.

    Raises:
        RegistryError: no run of the pipeline has ended well, or its tables are gone.
        ConfigurationError: there is such a file already.
    """
    if output.exists():
        raise ConfigurationError(f"{output} is there already, perhaps edited: name another one with -o, or remove it")
    client = look_into(workspace)
    run = _last_run(client, name, workspace)
    doubted = int(run.data.metrics.get("suspects", 0))
    tables = [as_suspects(_contradictions(client, run, workspace)).astype({"score": str})]
    if doubted:
        file = _artifact(client, run, "evaluation", SUSPECTS, workspace)
        tables.append(pd.read_csv(file, dtype=str, keep_default_na=False, lineterminator="\n"))
    table = pd.concat(tables, ignore_index=True).drop_duplicates(["path", "label"])
    if len(table):
        text = io.StringIO()
        write_rows(text, [COLUMNS, *table.assign(was=table["label"])[COLUMNS].to_numpy().tolist()])
        write_whole(output, text.getvalue())
    return len(table), len(table) + doubted - len(tables[-1]) if doubted else len(table)


def apply_review(file: Path, version: str, workspace: Workspace, new_classes: bool) -> tuple[Path | None, int]:
    """Keep what was written into a list of a version's doubtful labels.

    Returns:
        The file of corrections, None where nothing is new, and how many are.

    Raises:
        DataError: a row cannot be applied; nothing has been changed.
    """
    fetch_version(version, workspace, None, images=False)
    before = read_corrections(workspace)
    run = _newest_run(look_into(workspace), version)
    copies = None if run is None else _contradictions(look_into(workspace), run, workspace)
    after = read_review(file, read_manifest(version, workspace), before, new_classes, copies)
    changed = before.items() ^ after.items()
    contents = {content for (content, _), _ in changed}
    return (write_corrections(workspace, after), len(contents)) if contents else (None, 0)


def configuration_of(version: str, workspace: Workspace) -> PipelineConfig | None:
    """The configuration of the newest run of a dataset version; None where no run has had it."""
    client = look_into(workspace)
    run = _newest_run(client, version)
    if run is None:
        return None
    return read_config(_artifact(client, run, "config", "config.yaml", workspace), [], PipelineConfig)


def _newest_run(client: MlflowClient, version: str) -> Run | None:
    # A ranking is of a version, too, and keeps no dataset's files.
    return next(every_run(client, f"tags.`data.version` = '{version}' and tags.dataset != ''"), None)


def _last_run(client: MlflowClient, name: str, workspace: Workspace) -> Run:
    experiments = {each.name: each.experiment_id for each in client.search_experiments()}
    there = ", ".join(sorted(set(experiments) - {"Default"})) or f"none yet in {shown_store(client.tracking_uri)}"
    if (mine := experiments.get(beside_another(name, workspace), experiments.get(name))) is None:
        raise RegistryError(f"there is no pipeline {name!r} among those that were run: {there}")
    runs = client.search_runs(
        [mine], "attributes.status = 'FINISHED' and tags.evaluation != ''", max_results=1,
        order_by=["attributes.start_time DESC"],
    )  # fmt: skip
    if not runs:
        raise RegistryError(f"no run of {name} has ended well yet: `headstart run CONFIG` evaluates one")
    return runs[0]


def _contradictions(client: MlflowClient, run: Run, workspace: Workspace) -> pd.DataFrame:
    """Copies under different labels, as the run's ingestion found them; none where an earlier headstart made it."""
    keeper, path = keeper_of(client, run, "dataset").info.run_id, f"data/{CONTRADICTIONS}"
    if path not in {each.path for each in client.list_artifacts(keeper, "data")}:
        return pd.DataFrame(columns=COPIES)
    return read_contradictions(_artifact(client, run, "dataset", path, workspace).parent)


def _artifact(client: MlflowClient, run: Run, kind: str, path: str, workspace: Workspace) -> Path:
    keeper = keeper_of(client, run, kind).info.run_id
    (folder := workspace.cache / "reviews" / keeper).mkdir(parents=True, exist_ok=True)
    try:
        return Path(client.download_artifacts(keeper, path, str(folder)))
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"run {run.info.run_id[:8]} ({run.info.run_name}) has no {path} any more: run its configuration again"
        ) from error
