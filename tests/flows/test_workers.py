"""Features computed by a Dask cluster of real processes: the same ones, whatever happens to a worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.extract.store import FeatureStore

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Slow enough to be caught at work: the whole network, at twice the size that it was made for.
SLOW = ["-s", "extract.layer=null", "-s", "preprocess.size=64", "-s", "extract.precision=fp32"]


@dataclass
class Cluster:
    """A scheduler and workers, each a process of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    contact = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)],
        **quiet,  # type: ignore[call-overload]
    )
    while not contact.is_file():
        time.sleep(0.1)
    import json

    found = Cluster(json.loads(contact.read_text())["address"], scheduler)
    for _ in range(3):
        command = [*dask, "worker", found.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        found.workers.append(subprocess.Popen(command, **quiet))  # type: ignore[call-overload]
    yield found
    for process in (*found.workers, scheduler):
        process.kill()
        process.wait()


def run(root: Path, *arguments: str) -> subprocess.Popen[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=kept | {"HEADSTART_WORKSPACE": str(root), "COLUMNS": "120"},
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, ""), out + err
    return out


def features(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys in order, and their features."""
    [folder] = (root / ".headstart" / "features").iterdir()
    hashes = pd.read_csv(root / "data" / "manifest.csv")["hash"].tolist()
    return np.array(hashes), FeatureStore(folder).read(hashes)


@pytest.mark.long
def test_a_lost_workers_shard_is_done_by_the_others_and_the_features_are_the_same(
    cluster: Cluster, tmp_path: Path
) -> None:
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    config = [str(ROOT / "configs" / "digits.yaml"), *SLOW]
    for root in (alone, spread):
        root.mkdir()
    on_cluster = ["-s", "extract.workers.runner=dask", "-s", f"extract.workers.address={cluster.address}"]
    try:
        finished(run(alone, "run", *config, "--quiet"))
        running = run(spread, "run", *config, *on_cluster, "-s", "extract.workers.shard=200")
        deadline = time.monotonic() + 120
        while not list(spread.glob(".headstart/features/*/part-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running.poll() is None, "the run ended before a worker could be killed"
        cluster.workers[0].kill()
        assert "1,797 new, 0 reused" in finished(running)
    finally:
        for root in (alone, spread):
            finished(run(root, "ui", "--stop"))
    (hashes, wanted), (others, found) = features(alone), features(spread)
    assert (hashes == others).all()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_runner_without_its_package_is_told_with_what_to_install(tmp_path: Path) -> None:
    try:
        told = run(tmp_path, "run", str(ROOT / "configs" / "digits.yaml"), "-s", "extract.workers.runner=ray")
        out, err = told.communicate(timeout=240)
        assert told.returncode == 2, out + err
        assert "pip install 'headstart[ray]'" in err and len(err.splitlines()) == 1
    finally:
        finished(run(tmp_path, "ui", "--stop"))
