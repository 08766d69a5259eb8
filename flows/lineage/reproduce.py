"""`headstart reproduce`: a model made again in a fresh folder, from what its run kept, and held against the first."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from rich.table import Table

import flows
from flows.console import out, plain_table
from flows.lineage.likeness import Likeness, likeness
from flows.lineage.origin import CODE, ENVIRONMENT, THREADS
from flows.lineage.restoring import (
    Environment,
    restore_code,
    restore_config,
    restore_data,
    restore_environment,
    restore_weights,
)
from flows.lineage.subject import Subject, find_subject
from tasks.errors import ConfigurationError, HeadstartError, RegistryError
from tasks.progress import tell
from tasks.register.store import look_into
from tasks.workspace import Workspace, sqlite_url


def reproduce(workspace: Workspace, which: str, into: Path | None, environment: Environment) -> Likeness:
    """Make a model again; everything is put into a folder of its own, and stays there.

    Args:
        into: that folder, empty or not there yet; by default one below the system's temporary folder.

    Raises:
        RegistryError: there is no such version, or its run does not keep enough.
        HeadstartError: something that it was made from is not to be had, or the run does not end well.
    """
    then = find_subject(look_into(workspace), which)
    if then.run is None or not then.config:
        raise RegistryError(f"the run of {then} is gone, and with it the configuration")
    folder = _fresh(into)
    tell(f"reproduce\t{then} in {folder}")
    kept: dict[str, Any] = json.loads(then.text(ENVIRONMENT) or "{}")
    python = restore_environment(then, environment, folder / "environment")
    home = Workspace(folder / "workspace")
    home.root.mkdir()
    code = restore_code(then, kept.get("code", {}), folder / "code")
    weights = restore_weights(then, workspace)
    source = restore_data(then, workspace, home)
    config = restore_config(then, source, weights, workspace, folder / "config.yaml")
    tell(f"reproduce\trestored code, dataset {source['version'][:12]}, backbone, configuration; running")
    _run_again(python, code, home, config, kept.get("variables", {}), folder / "run.log")
    return likeness(then, _last_run(home))


def show(found: Likeness) -> None:
    """Print both tables of figures, whether predictions are identical and, where not, what is different."""
    out.print(_figures_table(found))
    for split, each in found.predictions.items():
        out.print(f"predictions of {split}: {each}", soft_wrap=True)
    if not found.predictions:
        out.print("predictions: the first run kept none to compare with")
    out.print(f"model: {'the same to the last bit' if found.is_same_model else 'other parameters'}")
    if found.differences and not found.is_identical:
        out.print("what is different:")
    if not found.is_identical:
        for line in found.differences or ["nothing that a run keeps: code, data, libraries and machine are the same"]:
            out.print(f"  {line}", soft_wrap=True)


def _figures_table(found: Likeness) -> Table:
    table = plain_table("figure", "then", "now", "difference", numbers=("then", "now", "difference"))
    for name, (before, after) in found.figures.items():
        apart = "" if before is None or after is None else "0" if before == after else f"{after - before:+.2g}"
        table.add_row(name, *("" if value is None else f"{value:.6f}" for value in (before, after)), apart)
    return table


def _fresh(into: Path | None) -> Path:
    if into is None:
        return Path(tempfile.mkdtemp(prefix="headstart-reproduce-"))
    folder = into.resolve()  # Git compares names of folders as they are written
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not empty: a reproduction takes a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run_again(
    python: str, code: Path, home: Workspace, config: Path, variables: dict[str, str], log: Path
) -> None:  # fmt: skip
    """Run the restored configuration with the restored code, as a process that knows of nothing else."""
    foreign = ("HEADSTART_", "MLFLOW_", "PREFECT_", *THREADS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment = kept | variables | {"HEADSTART_WORKSPACE": str(home.root)}
    module = "flows.cli"
    if code == CODE:
        module = f"{flows.__name__}.cli"  # of a wheel below its package
    environment["PYTHONPATH"] = str(code.parent if module.startswith("headstart.") else code)
    command = [python, "-P", "-m", module]
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                [*command, "run", str(config)], cwd=home.root, env=environment, stdout=file, stderr=subprocess.STDOUT
            )
        finally:
            subprocess.run([*command, "ui", "--stop", "--force"], cwd=home.root, env=environment, capture_output=True)
    if done.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise HeadstartError(f"the run ended with {done.returncode} ({lines[-1] if lines else 'no word'}): {log}")


def _last_run(home: Workspace) -> Subject:
    client = MlflowClient(sqlite_url(home.mlruns / "mlflow.db"))
    experiments = [each.experiment_id for each in client.search_experiments()]
    [run] = client.search_runs(experiments, "tags.code.version != ''", max_results=1, order_by=["start_time DESC"])
    return Subject(client, None, run)
