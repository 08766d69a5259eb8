"""Runs looked up where MLflow keeps them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.store.entities import PagedList

from flows.commands.reports import PAGE, _newest, find_report
from flows.config import PipelineConfig, read_config
from flows.lineage.subject import PARENT, TRIAL, every_run, find_subject
from flows.runs.tracking import tracked
from tasks.errors import RegistryError
from tasks.records import Report
from tasks.register.store import keeper_of
from tasks.workspace import Workspace
from tests.flows.homes import ROOT


class Store:
    """A hundred runs, ten a page, of which the newest is one inside another."""

    tracking_uri = "http://team:5000"

    def __init__(self, experiments: int = 1) -> None:
        self.experiments, self.asked = experiments, 0

    def search_experiments(self) -> list[Any]:
        return [SimpleNamespace(experiment_id=f"{number}") for number in range(self.experiments)]

    def search_registered_models(self, page_token: str | None = None) -> PagedList:
        return PagedList([], None)

    def search_runs(self, experiments: list[str], such: str, order_by: list[str], page_token: str | None) -> PagedList:
        assert order_by == ["attributes.start_time DESC"]
        self.asked += 1
        start = int(page_token or 0)
        numbers = range(start, start + 10)
        runs = [
            SimpleNamespace(info=SimpleNamespace(run_id=f"{n:02}a"), data=SimpleNamespace(tags={})) for n in numbers
        ]
        if not start:
            runs[0].data.tags |= {PARENT: "01a", TRIAL: "complete"}
        return PagedList(runs, f"{start + 10}" if start < 90 else None)


def test_the_newest_run_is_found_on_the_first_page() -> None:
    store = Store()
    assert _newest(store).info.run_id == "01a" and store.asked == 1  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="no run has ended well yet"):
        _newest(Store(experiments=0))  # type: ignore[arg-type]


def test_a_run_is_looked_for_on_all_pages() -> None:
    store = Store()
    assert len(list(every_run(store))) == 100 and store.asked == 10  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="and 9 runs begin with it"):
        find_subject(store, "0")  # type: ignore[arg-type]


def test_of_runs_that_made_the_same_each_names_the_one_that_keeps_its_files(workspace: Workspace) -> None:
    """However many, whatever else was run meanwhile, and anew once that one is deleted."""
    config = read_config(ROOT / "configs" / "digits.yaml", [], PipelineConfig)
    (page := workspace.root / PAGE).write_text("a page")
    runs = []
    for number in range(6):
        with tracked(config, workspace, f"run-{number}") as run:
            run.log(Report(fingerprint="x", page=page))
        runs.append(run.id)
        with tracked(config, workspace, "a ranking") as ranked:
            ranked.set_tags(data_version="v")
        assert find_report(workspace, None).read_text() == "a page"
        if number == 3:
            run.client.delete_run(runs[0])
    tags = [run.client.get_run(each).data.tags for each in runs]
    assert [each.get("report.files") for each in tags] == [None, *[runs[0]] * 3, None, runs[4]]
    run.client.set_tag(runs[4], "report.files", runs[0])  # as earlier headstarts wrote: a run that names another one
    assert keeper_of(run.client, run.client.get_run(runs[5]), "report").info.run_id == runs[0]
