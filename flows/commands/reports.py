"""Reports of runs, looked up where MLflow keeps them."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from flows.console import nothing_in
from flows.lineage.subject import PARENT, every_run, find_subject
from flows.runs.views import REPORT
from tasks.errors import ConfigurationError, RegistryError
from tasks.records import PAGE
from tasks.register.gate import VERDICT
from tasks.register.registry import aliases_of, get_model, get_version
from tasks.register.store import keeper_of, look_into
from tasks.register.tags import DATA
from tasks.report.versions import Version, versions_page
from tasks.workspace import Workspace, shown_store, write_whole


def find_report(workspace: Workspace, which: str | None) -> Path:
    """The report of a run, of the champion or another version of a model, or of the run that came last.

    Args:
        which: the beginning of a run's id, ``NAME``, ``NAME@ALIAS`` or ``NAME@VERSION``.

    Raises:
        RegistryError: there is no such run, model or version, or no report of it.
    """
    client = look_into(workspace)
    run = _run(client, which)
    try:
        keeper = keeper_of(client, run, REPORT).info.run_id
        (folder := workspace.cache / "reports" / keeper).mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(keeper, PAGE, str(folder)))
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"run {run.info.run_id[:8]} ({run.info.run_name}, {run.info.status.lower()}) has no report: runs write one "
            "when they end well; run its configuration again"
        ) from error


def open_page(path: Path) -> bool:
    """Show a page in the reader's browser, where a screen is in reach; returns whether it was."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and webbrowser.open(path.as_uri())


def _run(client: MlflowClient, which: str | None) -> Run:
    if which is None:
        return _newest(client)
    subject = find_subject(client, which)
    if subject.run is None:
        raise RegistryError(f"the run of {subject} was deleted, and its report with it")
    return subject.run


def _newest(client: MlflowClient) -> Run:
    ended_well = every_run(client, f"attributes.status = 'FINISHED' and tags.{REPORT} != ''")
    found = next((run for run in ended_well if PARENT not in run.data.tags), None)
    if found is None:
        place = shown_store(client.tracking_uri)
        raise RegistryError(nothing_in(place, "no run has ended well", "`headstart run CONFIG` writes a report"))
    return found


def compare_versions(workspace: Workspace, name: str, numbers: Sequence[str]) -> Path:
    """A page that holds versions of a model against each other, in the order of their numbers.

    Raises:
        ConfigurationError: fewer than two, or no numbers.
        RegistryError: there is no such model or version, or a run is gone.
    """
    if not name or len(set(numbers)) < 2 or not all(number.isdigit() for number in numbers):
        raise ConfigurationError("which versions of which model? As in `headstart report photos --versions 3 5 7`")
    client = look_into(workspace)
    chosen = [_version(client, name, number) for number in sorted(set(map(int, numbers)))]
    page = workspace.cache / "reports" / f"{name}-{'-'.join(str(version.number) for version in chosen)}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, versions_page(name, chosen))
    return page


def _version(client: MlflowClient, name: str, number: int) -> Version:
    found = get_version(client, name, number)
    try:
        run = client.get_run(found.run_id or "")
    except MlflowException as error:
        raise RegistryError(f"the run of {name} version {number} was deleted, and its figures with it") from error
    report_on = "test" if any(key.startswith("test/") for key in run.data.metrics) else "val"
    when = datetime.fromtimestamp(found.creation_timestamp / 1000).astimezone()
    known = aliases_of(get_model(client, name)).get(number, [])
    facts = {
        "alias": ", ".join(known) or "–", "registered": when.strftime("%d %B %Y, %H:%M"),
        "gate": found.tags.get(VERDICT, ""), "data": found.tags.get(DATA, ""),
        "backbone": found.tags.get("backbone", ""), "method": found.tags.get("method", ""), "run": run.info.run_id,
    }  # fmt: skip
    metrics, predictions = run.data.metrics, _predictions(client, run, report_on)
    return Version(number, facts, _intervals(metrics), report_on, predictions, f"{report_on}/groups" in metrics)


def _intervals(metrics: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
    return {
        name: (value, metrics[f"{name}_low"], metrics[f"{name}_high"])
        for name, value in sorted(metrics.items())
        if f"{name}_low" in metrics and not name.startswith("gain/")
    }


def _predictions(client: MlflowClient, run: Run, split: str) -> pd.DataFrame | None:
    keeper = keeper_of(client, run, "evaluation").info.run_id
    try:
        with TemporaryDirectory() as folder:  # MLflow's own copy of what lies elsewhere would stay
            return pd.read_parquet(client.download_artifacts(keeper, f"tables/{split}_predictions.parquet", folder))
    except (MlflowException, OSError):
        return None


def keep(page: Path, output: Path) -> Path:
    """Copy a page to where the user wants it."""
    write_whole(output, page.read_bytes())
    return output
