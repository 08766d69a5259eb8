"""An extraction that is killed, shared or joined by others ends with the same features, none computed twice."""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import replace
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tasks.errors import HeadstartError, WeightsError
from tasks.extract import engine
from tasks.extract.store import FeatureStore, keys_of
from tasks.extract.upkeep import verify
from tasks.extract.work import Work, fill, fill_on, shard_size
from tasks.preprocess.recipe import Recipe

CPU = torch.device("cpu")
COUNT, SHARD = 480, 32

# Children that are forked from a process which has imported everything and computed nothing.
CHILDREN = get_context("forkserver")
CHILDREN.set_forkserver_preload(["tasks.extract.work"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A content-addressed folder of images, and the file of their keys."""
    folder = tmp_path_factory.mktemp("images")
    hashes = []
    for number in range(COUNT):
        path = folder / "new.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        (folder / digest[:2]).mkdir(exist_ok=True)
        path.rename(folder / digest[:2] / digest[2:])
        hashes.append(digest)
    np.save(folder / "keys.npy", keys_of(hashes))
    return folder, folder / "keys.npy"


def work_in(store: Path, images: tuple[Path, Path]) -> Work:
    FeatureStore.open(store, {"backbone": "resnet_32px"})
    return Work(
        backbone="resnet_32px", weights="builtin", path=Path("none"), layers=("flatten",), pool="avg",
        recipe=Recipe(32), precision="float32", batch_size=8, compile="never", decode="exact", store=store,
        images=images[0], keys=images[1], shard=SHARD,
    )  # fmt: skip


def features(work: Work) -> np.ndarray:
    return FeatureStore(work.store).read(work.read_keys())


def rows(store: Path) -> int:
    """Rows of all files: more than images, if one was computed twice."""
    return sum(pa.ipc.open_file(str(path)).read_all().num_rows for path in store.glob("part-*.arrow"))


def is_whole(work: Work) -> bool:
    health = verify(work.store)
    assert (health.damage, health.remarks) == ((), ())
    return rows(work.store) == FeatureStore(work.store).count == COUNT


@pytest.fixture(scope="module")
def undisturbed(images: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, float]:
    """The features of a run that nothing happens to, and its seconds once it has begun."""
    work = work_in(tmp_path_factory.mktemp("undisturbed") / "store", images)
    started = time.monotonic()
    child = begin(work)
    child.join()
    assert child.exitcode == 0 and is_whole(work)
    return features(work), time.monotonic() - started


def begin(work: Work, *arguments: Any) -> BaseProcess:
    child = CHILDREN.Process(target=fill, args=(work, CPU, *arguments))
    child.start()
    return child


@pytest.mark.parametrize("compile", ["never", "always"])
def test_a_space_says_whether_its_features_are_of_a_compiled_pass(
    compile: Literal["never", "always"], images: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "compiled", lambda backbone, _: lambda views: backbone(views))
    work = replace(work_in(tmp_path / "store", images), compile=compile)
    fill(work, CPU, cores=2)
    assert FeatureStore(work.store).compiled == (compile == "always") and is_whole(work)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment_the_next_run_ends_with_the_same_features(
    seed: int, undisturbed: tuple[np.ndarray, float], images: tuple[Path, Path], tmp_path: Path
) -> None:
    """Four kills each, twenty in all."""
    wanted, seconds = undisturbed
    work = work_in(tmp_path / "store", images)
    moments = random.Random(seed)
    for _ in range(4):
        child = begin(work)
        time.sleep(moments.uniform(0.1, 0.7) * seconds)
        child.kill()
        child.join()
    child = begin(work)
    child.join()
    assert child.exitcode == 0
    assert is_whole(work)
    np.testing.assert_array_equal(features(work), wanted)
    FeatureStore.open(work.store, {})
    assert {path.name.split("-")[0] for path in work.store.iterdir()} <= {"part", "space.json", ".lock"}


@pytest.mark.slow
def test_two_runs_at_once_share_the_work_and_compute_nothing_twice(
    undisturbed: tuple[np.ndarray, float], images: tuple[Path, Path], tmp_path: Path
) -> None:
    work = work_in(tmp_path / "store", images)
    both = [begin(work), begin(work)]
    for child in both:
        child.join()
        assert child.exitcode == 0
    assert is_whole(work)
    np.testing.assert_array_equal(features(work), undisturbed[0])


@pytest.mark.slow
def test_a_run_does_what_a_killed_one_beside_it_had_in_hand(
    undisturbed: tuple[np.ndarray, float], images: tuple[Path, Path], tmp_path: Path
) -> None:
    work = work_in(tmp_path / "store", images)
    both = [begin(work), begin(work)]
    time.sleep(0.4 * undisturbed[1])
    both[0].kill()
    for child in both:
        child.join()
    assert both[1].exitcode == 0
    assert is_whole(work)
    np.testing.assert_array_equal(features(work), undisturbed[0])


@pytest.mark.slow
def test_a_process_for_each_device_shares_the_work(
    undisturbed: tuple[np.ndarray, float], images: tuple[Path, Path], tmp_path: Path
) -> None:
    work = work_in(tmp_path / "store", images)
    fill_on([CPU, CPU], work)
    assert is_whole(work)
    np.testing.assert_array_equal(features(work), undisturbed[0])


@pytest.mark.slow
def test_devices_that_all_fail_are_told_with_what_is_left(
    images: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = replace(work_in(tmp_path / "store", images), backbone="resnet18")
    with pytest.raises(HeadstartError, match=r"before 480 of 480 images were done \(exit codes cpu: 1\)"):
        fill_on([CPU], work)


@pytest.mark.slow
def test_processes_end_with_the_run_that_began_them(
    images: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", end)
    with pytest.raises(KeyboardInterrupt):
        fill_on([CPU, CPU], work_in(tmp_path / "store", images))
    assert not active_children()


def test_weights_that_are_others_than_the_space_was_named_by_are_refused(
    images: tuple[Path, Path], tmp_path: Path
) -> None:
    work = work_in(tmp_path / "store", images)
    with pytest.raises(WeightsError, match="builtin changed during the extraction: run it again"):
        fill(replace(work, digest="0" * 64), CPU)
    assert not rows(work.store)


def test_only_a_part_of_the_work_is_done_where_a_part_is_asked_for(images: tuple[Path, Path], tmp_path: Path) -> None:
    work = work_in(tmp_path / "store", images)
    assert fill(work, CPU, slice(100, 180)) == 80
    assert fill(work, CPU, slice(90, 190)) == 20
    assert FeatureStore(work.store).count == 100


def test_shards_of_wide_features_hold_fewer_images() -> None:
    assert shard_size(1280) == 4096
    assert shard_size(100_000) < 4096 and shard_size(10**9) == 1
