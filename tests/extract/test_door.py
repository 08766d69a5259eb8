"""The feature store is brought up to date with a dataset: what is there is never computed again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.errors import DataError, WeightsError
from tasks.extract import space, work
from tasks.extract.check import weights_state
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.engine import Engine
from tasks.extract.store import FeatureStore
from tasks.extract.weights import build_network
from tasks.fingerprint import fingerprint
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.target import one_task
from tasks.workspace import Workspace

CONFIG = ExtractConfig(precision="fp32", device="cpu", batch_size=4)
RECIPE = Preprocessed(
    fingerprint="recipe", size=32, fit="crop", preview=Path("preview.png"), mean=(0, 0, 0), std=(1, 1, 1)
)


def dataset(workspace: Workspace, count: int, labels: str = "ab", split: str = "train") -> Dataset:
    """A dataset of numbered images, stored by content as DVC does."""
    images, rows = workspace.root / "images", []
    for number in range(count):
        path = images / "new.png"
        images.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)).save(path)
        hash = hashlib.md5(path.read_bytes()).hexdigest()
        (images / hash[:2]).mkdir(exist_ok=True)
        path.rename(images / hash[:2] / hash[2:])
        rows.append({"path": f"{number}.png", "label": labels[number % len(labels)], "split": split, "hash": hash})
    name = fingerprint(rows)
    manifest = workspace.root / f"{name}.parquet"
    pd.DataFrame(rows).to_parquet(manifest)
    (workspace.root / "near_duplicates.csv").write_text("first,first_split,second,second_split,bits\n")
    return Dataset(
        fingerprint=name, source="test", version=name, manifest=manifest, report=workspace.root, images=images,
        targets=one_task(tuple(labels)), counts={}, choose_on="val", report_on="test", quarantined=0,
    )  # fmt: skip


def extracted(workspace: Workspace, images: Dataset, config: ExtractConfig = CONFIG) -> FeatureSet:
    return extract_features(config, images, RECIPE, workspace)


def matrix(features: FeatureSet, images: Dataset) -> np.ndarray:
    return FeatureStore(features.store).read(images.read_manifest()["hash"].tolist())


def test_second_extraction_computes_nothing(workspace: Workspace) -> None:
    images = dataset(workspace, 10)
    first = extracted(workspace, images)
    second = extracted(workspace, images)
    assert (first.new, first.reused, first.width) == (10, 0, 512)
    assert (second.new, second.reused) == (0, 10)
    assert second.fingerprint == first.fingerprint
    assert len(list(first.store.glob("part-*"))) == 1


def test_one_new_image_is_one_computed(workspace: Workspace) -> None:
    first = extracted(workspace, dataset(workspace, 10))
    more = dataset(workspace, 11)
    second = extracted(workspace, more)
    assert (second.new, second.reused) == (1, 10)
    assert second.fingerprint != first.fingerprint
    assert matrix(second, more).shape == (11, 512)


def test_new_labels_and_splits_compute_nothing(workspace: Workspace) -> None:
    extracted(workspace, dataset(workspace, 10))
    for other in (dataset(workspace, 10, labels="xyz"), dataset(workspace, 10, split="test")):
        assert extracted(workspace, other).new == 0


def test_equal_images_are_computed_once(workspace: Workspace) -> None:
    images = dataset(workspace, 6)
    twice = pd.concat([images.read_manifest()] * 2)
    twice.to_parquet(images.manifest)
    assert extracted(workspace, images).new == 6
    assert matrix(extracted(workspace, images), images).shape == (12, 512)


def test_features_of_a_stored_image_do_not_depend_on_when_it_came(workspace: Workspace, tmp_path: Path) -> None:
    extracted(workspace, dataset(workspace, 5))
    grown = dataset(workspace, 12)
    other = Workspace(tmp_path / "other")
    np.testing.assert_allclose(
        matrix(extracted(workspace, grown), grown), matrix(extracted(other, grown), grown), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"layer": "expand"},
        {"layer": ["expand", "flatten"]},
        {"pool": "flatten"},
        {"precision": "bf16"},
        {"weights": "random"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_other_features_lie_in_a_space_of_their_own(workspace: Workspace, changed: dict[str, str]) -> None:
    images = dataset(workspace, 3)
    first = extracted(workspace, images)
    second = extracted(workspace, images, CONFIG.model_copy(update=changed))
    assert first.store != second.store
    assert (second.new, second.reused) == (3, 0)


def test_batch_size_belongs_to_no_space(workspace: Workspace) -> None:
    images = dataset(workspace, 3)
    first = extracted(workspace, images)
    assert extracted(workspace, images, CONFIG.model_copy(update={"batch_size": 2})).store == first.store


def test_interrupted_extraction_goes_on_where_it_was(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    images = dataset(workspace, 20)
    monkeypatch.setattr(work, "MOST", 8)
    run = Engine.run

    def killed_in_the_second_shard(self, images, total):  # type: ignore[no-untyped-def]
        done = 0
        for features in run(self, images, total):
            yield features
            done += len(features)
            if done > 8:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "run", killed_in_the_second_shard)
        with pytest.raises(KeyboardInterrupt):
            extracted(workspace, images)
    resumed = extracted(workspace, images)
    assert (resumed.reused, resumed.new) == (8, 12)

    uninterrupted = extracted(Workspace(workspace.root / "other"), images)
    np.testing.assert_array_equal(matrix(resumed, images), matrix(uninterrupted, images))


def test_precision_is_decided_once_and_not_again_when_images_are_added(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"precision": "auto"})
    monkeypatch.setattr(space, "choose_precision", lambda asked, device: torch.bfloat16)
    first = extracted(workspace, dataset(workspace, 10), config)
    assert first.precision == "bfloat16"
    monkeypatch.setattr(space, "noise", lambda *_: pytest.fail("checked twice"))
    second = extracted(workspace, dataset(workspace, 12), config)
    assert (second.store, second.new) == (first.store, 2)


def test_precision_that_loses_what_tells_images_apart_is_not_taken(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "choose_precision", lambda asked, device: torch.bfloat16)
    monkeypatch.setattr(space, "noise", lambda *_: 0.5)
    features = extracted(workspace, dataset(workspace, 5), CONFIG.model_copy(update={"precision": "auto"}))
    assert features.precision == "float32"


def test_pool_is_neither_wanted_nor_counted(workspace: Workspace) -> None:
    images = dataset(workspace, 6)
    rows = images.read_manifest()
    rows.loc[[0, 3], "split"] = "pool"
    rows.to_parquet(images.manifest)
    features = extracted(workspace, images)
    assert (features.new, features.reused) == (4, 0)


def test_image_that_has_gone_from_the_store_is_a_data_error(workspace: Workspace) -> None:
    images = dataset(workspace, 3)
    images.image(images.read_manifest()["hash"][1]).unlink()
    with pytest.raises(DataError):
        extracted(workspace, images)


def test_weights_file_is_found_relative_to_the_workspace_and_its_change_is_seen(workspace: Workspace) -> None:
    config = CONFIG.model_copy(update={"weights": "own.pth"})
    path = workspace.root / "own.pth"
    images = dataset(workspace, 3)
    with pytest.raises(WeightsError, match=r"own.pth does not exist"):
        extracted(workspace, images, config)
    states, stores = [weights_state(config, workspace)], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(build_network("resnet_32px", 2).state_dict(), path)
        os.utime(path, (seed, seed))
        states.append(weights_state(config, workspace))
        stores.append(extracted(workspace, images, config).store)
    assert len(set(map(tuple, states))) == 3
    assert stores[0] != stores[1]
