"""What is left on MLflow's and Prefect's pages for those who look there."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from flows.runs.views import link_to_report
from tests.register.conftest import client, empty_store  # noqa: F401


@pytest.mark.parametrize(
    ("store", "pages"),
    [
        ("https://ben:s3cr%40t@mlflow.example:8443/team/", "https://mlflow.example:8443/team"),
        ("http://ben@mlflow.example", "http://mlflow.example"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("sqlite:///mlruns/mlflow.db", "http://127.0.0.1:5000"),
        ("postgresql://ben:s3cret@host/db", "http://127.0.0.1:5000"),
    ],
)
def test_the_link_to_a_report_hands_nobodys_password_on(store: str, pages: str, client: MlflowClient) -> None:  # noqa: F811
    run = client.create_run(client.create_experiment("birds")).info
    link = link_to_report(client, run.run_id, store)
    assert link == f"{pages}/#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/report.html"
