"""What a user means by a version of a model or a run: where it comes from is asked, or it is to be made again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from tasks.errors import RegistryError
from tasks.register.client import Version, refusals
from tasks.register.registry import (
    CHAMPION,
    all_models,
    all_versions,
    every,
    get_model,
    get_version,
    looked_in,
    parted,
)

PARENT = "mlflow.parentRunId"
"""Tag of a run inside another: a trial, or one of those that a budget was spent on."""
TRIAL = "trial.state"
"""Tag of a trial, which has registered nothing."""


@dataclass(frozen=True)
class Subject:
    """A version, the run that registered it, or both."""

    client: MlflowClient
    version: Version | None
    run: Run | None

    def __str__(self) -> str:
        if self.version:
            return f"{self.version.name} version {self.version.version}"
        return f"run {self.run.info.run_id[:8]}" if self.run else "nothing"

    @property
    def tags(self) -> dict[str, str]:
        """Of the run."""
        return dict(self.run.data.tags) if self.run else {}

    @property
    def metrics(self) -> dict[str, float]:
        """Of the run."""
        return dict(self.run.data.metrics) if self.run else {}

    def text(self, artifact: str) -> str | None:
        """A text that the run keeps; None where it has none of that name."""
        content = self.content(artifact)
        return None if content is None else content.decode()

    def content(self, artifact: str, kept_by: str | None = None) -> bytes | None:
        """A file that the run keeps, or another one in its place; None where it has none of that name."""
        from mlflow.artifacts import download_artifacts

        if self.run is None:
            return None
        run, store = kept_by or self.run.info.run_id, self.client.tracking_uri
        try:
            # MLflow's own copy of what lies elsewhere would stay.
            with TemporaryDirectory() as folder:
                path = download_artifacts(run_id=run, artifact_path=artifact, dst_path=folder, tracking_uri=store)
                return Path(path).read_bytes()
        except (MlflowException, OSError):
            return None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, all of its keys; empty where it is not kept."""
        return yaml.safe_load(self.text("config.yaml") or "{}") or {}


def find_subject(client: MlflowClient, which: str) -> Subject:
    """Look up what a user means.

    Args:
        which: NAME@VERSION, NAME@ALIAS, NAME/VERSION, NAME (the champion, else the last version), or a run's id or its
            beginning.

    Raises:
        RegistryError: there is no such version or run, or several runs begin so.
    """
    name, wanted = parted(which)
    models = [model.name for model in all_models(client)]
    if wanted or name in models:
        version = get_version(client, name, wanted or _usual(client, name))
        return Subject(client, version, _run(client, version.run_id))
    run = _by_id(client, which, models)
    return Subject(client, _registered(client, run), run)


def every_run(client: MlflowClient, such: str = "") -> Iterator[Run]:
    """The runs of all experiments, the newest first; pages of them are read as they are needed.

    Args:
        such: MLflow's filter.
    """
    experiments = [each.experiment_id for each in client.search_experiments()]
    order = ["attributes.start_time DESC"]
    if experiments:
        yield from every(lambda **page: client.search_runs(experiments, such, order_by=order, **page))


def _usual(client: MlflowClient, name: str) -> str:
    if champion := get_model(client, name).aliases.get(CHAMPION):
        return str(champion)
    if not (numbers := list(all_versions(client, name))):
        raise RegistryError(f"model {name!r} has no version")
    return str(numbers[-1])


def _run(client: MlflowClient, run_id: str | None) -> Run | None:
    try:
        return client.get_run(run_id) if run_id else None
    except refusals():
        return None  # deleted for good


def _by_id(client: MlflowClient, beginning: str, models: list[str]) -> Run:
    if len(beginning) == 32 and (run := _run(client, beginning)):
        return run
    found = [run for run in every_run(client) if run.info.run_id.startswith(beginning) and TRIAL not in run.data.tags]
    if len(found) == 1:
        return found[0]
    how_many = f"{len(found)} runs begin" if found else "no run begins"
    there = ", ".join(models) or f"none yet in {looked_in(client.tracking_uri)}"
    raise RegistryError(f"{beginning!r}: there is no registered model of that name ({there}), and {how_many} with it")


def _registered(client: MlflowClient, run: Run) -> Version | None:
    """The version that a run registered, or found."""
    name, number = run.data.tags.get("model.name"), run.data.tags.get("model.version")
    try:
        return client.get_model_version(name, number) if name and number else None
    except MlflowException:
        return None
