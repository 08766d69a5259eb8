"""Doubtful labels: the list of a pipeline's last evaluation for a person, and what that person made of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from flows.config import PipelineConfig, read_config
from tasks.errors import ConfigurationError, RegistryError
from tasks.ingest.corrections import read_corrections, write_corrections
from tasks.ingest.relabel import read_review
from tasks.ingest.remotes import fetch_version
from tasks.ingest.versioning import read_manifest
from tasks.register.store import connect
from tasks.workspace import Workspace, write_whole

SUSPECTS = "tables/suspects.csv"
COLUMNS = ["label", "suggested", "why", "score", "was", "split", "path", "hash"]
"""Of a list; ``label`` is the one to write in."""


def write_review(name: str, output: Path, workspace: Workspace) -> tuple[int, int]:
    """Write the labels that the last evaluation of a pipeline doubts; a list that is there stays.

    Returns:
        How many are listed, and how many there are; of none, nothing is written.

    Raises:
        RegistryError: no run of the pipeline has ended well, or its tables are gone.
        ConfigurationError: there is such a file already.
    """
    if output.exists():
        raise ConfigurationError(f"{output} is there already, perhaps edited: name another one with -o, or remove it")
    client = connect(workspace)
    run = _last_run(client, name)
    count = int(run.data.metrics.get("suspects", 0))
    if not count:
        return 0, 0
    table = pd.read_csv(_artifact(client, run, "evaluation", SUSPECTS, workspace), dtype=str, keep_default_na=False)
    write_whole(output, table.assign(was=table["label"])[COLUMNS].to_csv(index=False, lineterminator="\n"))
    return len(table), count


def apply_review(file: Path, version: str, workspace: Workspace, new_classes: bool) -> tuple[Path | None, int]:
    """Keep what was written into a list of a version's doubtful labels.

    Returns:
        The file of corrections, None where nothing is new, and how many are.

    Raises:
        DataError: a row cannot be applied; nothing has been changed.
    """
    fetch_version(version, workspace, None, images=False)
    before = read_corrections(workspace)
    after = read_review(file, read_manifest(version, workspace), before, new_classes)
    changed = before.items() ^ after.items()
    contents = {content for content, _ in changed}
    return (write_corrections(workspace, after), len(contents)) if contents else (None, 0)


def configuration_of(version: str, workspace: Workspace) -> PipelineConfig | None:
    """The configuration of the newest run of a dataset version; None where no run has had it."""
    client = connect(workspace)
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(
        experiments, f"tags.`data.version` = '{version}'", order_by=["attributes.start_time DESC"], max_results=1
    )
    if not found:
        return None
    return read_config(_artifact(client, found[0], "config", "config.yaml", workspace), [], PipelineConfig)


def _last_run(client: MlflowClient, name: str) -> Run:
    experiments = {each.name: each.experiment_id for each in client.search_experiments()}
    there = ", ".join(sorted(set(experiments) - {"Default"})) or "none yet"
    if name not in experiments:
        raise RegistryError(f"there is no pipeline {name!r} among those that were run: {there}")
    runs = client.search_runs(
        [experiments[name]], "attributes.status = 'FINISHED' and tags.evaluation != ''", max_results=1,
        order_by=["attributes.start_time DESC"],
    )  # fmt: skip
    if not runs:
        raise RegistryError(f"no run of {name} has ended well yet: `headstart run CONFIG` evaluates one")
    return runs[0]


def _artifact(client: MlflowClient, run: Run, kind: str, path: str, workspace: Workspace) -> Path:
    keeper = run.data.tags.get(f"{kind}.files", run.info.run_id)
    (folder := workspace.cache / "reviews" / keeper).mkdir(parents=True, exist_ok=True)
    try:
        return Path(client.download_artifacts(keeper, path, str(folder)))
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"run {run.info.run_id[:8]} ({run.info.run_name}) has no {path} any more: run its configuration again"
        ) from error
