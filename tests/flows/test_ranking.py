"""Backbones ranked on a sample: what goes wrong with one, and what would go wrong with all."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from flows import ranking
from tasks.errors import StorageError, WeightsError
from tasks.workspace import Workspace


def test_a_full_disk_ends_a_ranking_and_a_backbone_that_does_not_suit_is_left_out(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    tried: list[str] = []

    def fail(error: Exception) -> Any:
        return lambda section, *_: tried.append(section) or (_ for _ in ()).throw(error)

    records = SimpleNamespace(counts={"train": 3})
    for name, value in {"ingest": records, "draw_sample": records, "preprocess": None}.items():
        monkeypatch.setattr(ranking, name, lambda *_, value=value: value)
    for name in ("leased", "tracked"):
        monkeypatch.setattr(ranking, name, lambda *_: nullcontext())
    monkeypatch.setattr(ranking.Workspace, "find", lambda: workspace)
    monkeypatch.setattr(ranking, "_named", lambda config: config)
    config = SimpleNamespace(ingest=None)
    several = {name: SimpleNamespace(preprocess=None, extract=name) for name in ("a", "b")}
    monkeypatch.setattr(ranking, "by_name", lambda configs: several)
    monkeypatch.setattr(ranking, "extract", fail(StorageError("the disk is full")))
    with pytest.raises(StorageError):
        ranking.rank.fn([config])
    assert tried == ["a"]
    for error in (WeightsError("too small"), RuntimeError("out of memory")):
        tried.clear()
        monkeypatch.setattr(ranking, "extract", fail(error))
        with pytest.raises(type(error)):
            ranking.rank.fn([config])
        assert tried == ["a", "b"]
