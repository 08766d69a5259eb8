"""Backbones ranked on a sample: what is shown and kept, what goes wrong with one, and what would go wrong with all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows import ranking
from tasks.errors import StorageError, WeightsError
from tasks.evaluate.transferability.ranking import rate
from tasks.workspace import Workspace
from tests.flows.homes import DIGITS, Home

Rank = Callable[..., tuple[pd.DataFrame, list[str]]]


@pytest.fixture
def tried() -> list[str]:
    """The backbones that were tried."""
    return []


@pytest.fixture
def rank(tried: list[str], monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> Rank:
    """Ranks the backbones a and b, some of which fail; the table, and the files that are kept with the run."""
    kept: list[str] = []
    rows = pd.DataFrame({"hash": [f"{number}" for number in range(30)], "group": None})
    records = SimpleNamespace(counts={"train": 30}, version="v", fingerprint="f", read_manifest=lambda: rows)
    client = SimpleNamespace(log_artifacts=lambda _, folder: kept.extend(path.name for path in Path(folder).iterdir()))
    run = SimpleNamespace(id="r", client=client, set_tags=lambda **_: None)
    for name, value in {"ingest": records, "draw_sample": records, "preprocess": None}.items():
        monkeypatch.setattr(ranking, name, lambda *_, value=value: value)
    monkeypatch.setattr(ranking, "leased", lambda *_: nullcontext())
    monkeypatch.setattr(ranking, "tracked", lambda *_: nullcontext(run))
    monkeypatch.setattr(ranking, "_named", lambda config: config)
    several = {name: SimpleNamespace(preprocess=None, extract=name) for name in ("a", "b")}
    monkeypatch.setattr(ranking, "by_name", lambda configs: several)
    features = np.random.default_rng(0).normal(size=(30, 4))
    rated = lambda name, *_: rate(name, features, np.arange(30) % 2, 1.0)  # noqa: E731
    monkeypatch.setattr(ranking, "rate_backbone", rated)

    def ranked(**failing: Exception) -> tuple[pd.DataFrame, list[str]]:
        def extract(name: str, *_: Any) -> None:
            tried.append(name)
            if name in failing:
                raise failing[name]

        monkeypatch.setattr(ranking, "extract", extract)
        table = ranking.rank.fn([SimpleNamespace(ingest=None, name="birds")])
        return table, sorted(kept)

    return ranked


@pytest.mark.parametrize("failing", ["a", "b"])
@pytest.mark.parametrize(
    "error", [WeightsError("too small"), RuntimeError("out of memory")], ids=["foreseen", "unforeseen"]
)
def test_a_backbone_that_does_not_suit_is_left_out(
    rank: Rank, tried: list[str], failing: str, error: Exception
) -> None:
    table, kept = rank(**{failing: error})
    assert tried == ["a", "b"]
    assert set(table["backbone"]) == {"a", "b"} - {failing} and kept == ["ranking.csv", "ranking.png"]


def test_where_none_suits_the_first_ones_reason_is_told(rank: Rank, tried: list[str]) -> None:
    with pytest.raises(WeightsError, match="too small"):
        rank(a=WeightsError("too small"), b=RuntimeError("out of memory"))
    assert tried == ["a", "b"]


def test_a_full_disk_which_the_next_one_would_meet_too_ends_a_ranking(rank: Rank, tried: list[str]) -> None:
    with pytest.raises(StorageError, match="the disk is full"):
        rank(a=StorageError("the disk is full"))
    assert tried == ["a"]


@pytest.mark.slow
def test_a_ranking_is_shown_written_and_kept_as_a_run_of_its_own(tmp_path: Path) -> None:
    home, output = Home(tmp_path / "home"), tmp_path / "ranked.csv"
    home.root.mkdir()
    names = [f"resnet_32px:blocks.{block}" for block in range(2)]
    try:
        done = home.headstart("rank", DIGITS, "-b", ",".join(names), "--images", "100", "-o", str(output))
        assert done.returncode == 0 and done.stderr == "", done.stderr
        shown = [line.split() for line in done.stdout.splitlines()]
        assert all(any(name in line for line in shown) for name in names)
        table = pd.read_csv(output)
        assert set(table["backbone"]) == {*names} and table["probe"].between(0.3, 1).all()
        assert table["probe"].is_monotonic_decreasing and table["ties"].iloc[0]
        experiment = home.client.get_experiment_by_name("digits.rank")
        assert experiment is not None and home.client.get_experiment_by_name("digits") is None
        [run] = home.client.search_runs([experiment.experiment_id])
        kept = {each.path for each in home.client.list_artifacts(run.info.run_id)}
        assert run.info.status == "FINISHED" and {"ranking.csv", "ranking.png"} <= kept
        kept_table = pd.read_csv(home.client.download_artifacts(run.info.run_id, "ranking.csv"))
        assert kept_table.equals(table)
        assert not home.client.search_registered_models()
    finally:
        home.headstart("ui", "--stop")
