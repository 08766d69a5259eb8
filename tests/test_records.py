"""Records as they are kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.records import Candidate, FeatureSet, Preprocessed
from tasks.workspace import Workspace


def test_a_record_names_its_files_from_the_workspace_it_is_read_in(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "workspace2" / "curves.parquet"
    candidate = Candidate(
        fingerprint="c", method="linear", head=workspace.cache / "head", curves=outside, chosen={}, score=1.0
    )
    features = FeatureSet(
        fingerprint="f", store=workspace.cache / "a", variants=(workspace.cache / "b",), backbone="resnet_32px",
        weights="builtin", digest="d", layers=("avgpool",), pool="avg", width=1, precision="float32", device="cpu",
        new=1, reused=0, seconds=1.0,
    )  # fmt: skip
    kept = candidate.model_dump_json(), features.model_dump_json()
    assert "workspace/" not in kept[1] and candidate.model_dump()["head"] == workspace.cache / "head"
    assert Candidate.model_validate_json(kept[0]) == candidate

    monkeypatch.setenv("HEADSTART_WORKSPACE", str(moved := tmp_path / "moved"))
    there, its_features = Candidate.model_validate_json(kept[0]), FeatureSet.model_validate_json(kept[1])
    assert (there.head, there.curves, there.backbone) == (moved / ".headstart" / "head", outside, None)
    assert (its_features.store, its_features.variants) == (moved / ".headstart" / "a", (moved / ".headstart" / "b",))


def test_by_one_view_nothing_changes_but_the_views(tmp_path: Path) -> None:
    seen = Preprocessed(
        fingerprint="a", size=32, fit="pad", views="ten", augmented=2, preview=tmp_path, mean=(0, 0, 0), std=(1, 1, 1)
    )
    once = seen.by_one_view
    assert once.views == "one" and once.fingerprint != seen.fingerprint and once.by_one_view is once
    changed = {"views": "ten", "fingerprint": "a"}
    assert once.model_copy(update=changed) == seen
