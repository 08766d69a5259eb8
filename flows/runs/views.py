"""What MLflow's own pages say and show first: an experiment's description and columns, and a run's description."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from mlflow import MlflowClient

from flows.runs.summary import Outcome, one_line, summary_rows
from flows.servers.guarded import HOST
from flows.stores.remote import is_server
from tasks.records import PAGE, Evaluation
from tasks.register.store import keeper_of

NOTE = "mlflow.note.content"
"""Tag of the description of an experiment or a run, in Markdown."""

PORT = 5000
"""Where `headstart ui` opens MLflow's pages, unless it is taken."""

REPORT = "report"
"""Tag of a run's report."""

VIEW = "headstart"
"""Name of the view that `headstart ui` opens."""
SAVED = f"mlflow.sharedViewState.{VIEW}"
"""Tag of an experiment: MLflow's pages keep a view there that somebody has shared, as JSON."""

FIRST = ("accuracy", "average_precision_macro", "f1_macro", "exact_match", "mae", "r2")
"""Figures that are columns, those that there are."""
FACTS = (
    "params.`train.method`", "params.`extract.backbone`", "tags.`model.version`", "tags.`model.alias`",
    "tags.`data.version`",
)  # fmt: skip

EXPERIMENT = """Runs of the pipeline `{name}`. The newest run's `report.html` says all of it on one page
(`headstart report {name}`); versions and aliases of the model are under Model registry (`headstart models {name}`).

Files of a run: `data/` what ingestion found, `figures/` and `tables/` the evaluation, `comparison/` against the
champion, `config.yaml` the whole configuration; parameters are what differs from the defaults."""


def introduce(client: MlflowClient, experiment_id: str, name: str, known: Iterable[str]) -> None:
    """Describe an experiment, unless somebody has.

    Args:
        known: tags that it has.
    """
    if NOTE not in known:
        client.set_experiment_tag(experiment_id, NOTE, EXPERIMENT.format(name=name))


def choose_columns(client: MlflowClient, experiment_id: str, evaluation: Evaluation) -> None:
    """Have the experiment's page show the figures that runs are judged by, and what they were made with."""
    splits = sorted({name.partition("/")[0] for name in evaluation.metrics})
    figures = [f"{split}/{figure}" for figure in FIRST for split in splits]
    columns = [f"metrics.`{name}`" for name in figures if name in evaluation.metrics]
    view = json.dumps({"selectedColumns": ["attributes.`Created`", *columns, *FACTS]})
    if client.get_experiment(experiment_id).tags.get(SAVED) != view:
        client.set_experiment_tag(experiment_id, SAVED, view)


def page_of(client: MlflowClient) -> str:
    """Where MLflow's pages are to begin: at the runs of the experiment that was used last, in its view."""
    used = client.search_experiments(order_by=["last_update_time DESC"], max_results=20)
    chosen = next((each for each in used if SAVED in each.tags), None)
    return f"experiments/{chosen.experiment_id}/runs?viewStateShareKey={VIEW}" if chosen else "experiments"


def describe_run(client: MlflowClient, outcome: Outcome) -> None:
    """Leave the summary where those who open the run find it, before what has been noted there."""
    cells = ((what, value.replace("|", "\\|").replace("\n", "<br>")) for what, value in summary_rows(outcome))
    table = "\n".join(["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in cells)])
    before = client.get_run(outcome.run_id).data.tags.get(NOTE)
    client.set_tag(outcome.run_id, NOTE, "\n\n".join(filter(None, (f"**{one_line(outcome)}**", table, before))))


def link_to_report(client: MlflowClient, run_id: str, uri: str) -> str:
    """Address of a run's report on MLflow's pages: the team's, or those that `headstart ui` opens. Whoever sees
    Prefect's page may follow it, so it names no user and password."""
    run = client.get_run(run_id)
    pages = _for_anybody(uri).rstrip("/") if is_server(uri) else f"http://{HOST}:{PORT}"
    keeper = keeper_of(client, run, REPORT).info.run_id
    return f"{pages}/#/experiments/{run.info.experiment_id}/runs/{keeper}/artifacts/{PAGE}"


def _for_anybody(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
