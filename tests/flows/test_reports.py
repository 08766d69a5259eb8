"""Runs looked up where MLflow keeps them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.store.entities import PagedList

from flows.reports import _newest
from flows.subject import PARENT, every_run, find_subject
from tasks.errors import RegistryError


class Store:
    """A hundred runs, ten a page, of which the newest is one inside another."""

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
            runs[0].data.tags[PARENT] = "01a"
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
