"""Killed at any moment, however often, an ingestion ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ingest.pictures import png, tarred

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
KILLS, KILLS_EACH = 20, 5
"""Kills that hit a running ingestion, and how many of them a workspace bears before it is left in peace."""

SERVER = """
import json, os, sys, time
from pathlib import Path
import dvc.repo.init, loky.process_executor, matplotlib.backends.backend_agg, matplotlib.figure
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.workspace import Workspace

while line := sys.stdin.readline():
    root, source = json.loads(line)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        dataset = ingest_images(IngestConfig.model_validate({"source": source}), Workspace(Path(root)))
        Path(root, "ended.json").write_text(json.dumps([dataset.version, dataset.fingerprint, str(dataset.report)]))
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - start
    sys.stdin.readline()  # until then, nobody else can have its number
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seconds, flush=True)
"""
"""A process that has imported everything, and ingests in a fork of itself for every line that it reads; another line
asks how that ended."""


class Runs:
    """Ingestions in processes of their own; ``log`` is what they complain of."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("w") as complaints:
            self.server = subprocess.Popen(
                [sys.executable, "-c", SERVER], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=complaints,
            )  # fmt: skip

    def begin(self, root: Path, source: dict[str, str]) -> int:
        """Start an ingestion; returns its process, which leads a group of its own."""
        return int(self._ask(json.dumps([str(root), source]))[0])

    def end(self) -> tuple[int, float]:
        """Wait for its end; returns its exit code, negative for a signal, and how long it lasted."""
        code, seconds = self._ask("")
        return int(code), float(seconds)

    def _ask(self, line: str) -> list[str]:
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(f"{line}\n")
        self.server.stdin.flush()
        return self.server.stdout.readline().split()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    started = Runs(tmp_path_factory.mktemp("runs") / "log")
    yield started
    assert started.server.stdin is not None
    started.server.stdin.close()
    started.server.wait()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """A folder and an archive of 600 images, and of files that are none, copies and contradictions."""
    root = tmp_path_factory.mktemp("sources")
    files = {f"photos/{'abc'[number % 3]}/{number}.png": png(f"killed {number}", 16) for number in range(600)}
    files |= {f"photos/a/copy {number}.png": png(f"killed {number * 3}", 16) for number in range(10)}
    files |= {f"photos/b/contradiction {number}.png": png(f"killed {number * 3}", 16) for number in range(20, 25)}
    files |= {"photos/a/cut.png": png("cut")[:99], "photos/a/empty.png": b"", "photos/b/text.png": b"text"}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "photos.tar").write_bytes(tarred(dict(files)))
    return [{"folder": str(root / "photos")}, {"archive": str(root / "photos.tar")}]


def outcome(root: Path) -> dict[str, Any]:
    """All that an ingestion leaves, except for what may differ from run to run."""
    store = root / ".dvc/cache/files/md5"
    version, fingerprint, report = json.loads((root / "ended.json").read_text())
    (root / "ended.json").unlink()
    settled = ("checks.json", "checks.csv", "quarantine.csv", "near_duplicates.csv", "manifest.parquet")
    cache = [path.relative_to(root).as_posix() for path in (root / ".headstart").rglob("*")]
    return {
        "version": version,
        "fingerprint": fingerprint,
        "report": {name: (Path(report) / name).read_bytes() for name in settled},
        "data": {path.relative_to(root): path.read_bytes() for path in (root / "data").rglob("*") if path.is_file()},
        "data.dvc": (root / "data.dvc").read_bytes(),
        "root": sorted(path.name for path in root.iterdir()),
        "cache": sorted(path for path in cache if ".db-" not in path),
        "config": (root / ".dvc" / "config").read_bytes(),
        "store": {f"{path.parent.name}{path.name}": path.read_bytes() for path in store.glob("??/*")},
    }


def survivors(group: int) -> list[psutil.Process]:
    """Processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            pass
    return found


def kill(process: int, workers: bool) -> None:
    """Kill a run with all its workers, or alone, in which case they must notice."""
    (os.killpg if workers else os.kill)(process, signal.SIGKILL)


def forget(root: Path) -> None:
    """Delete what may be deleted at any time, so that the next run has something to do again."""
    (root / "ended.json").unlink()
    (root / "data.dvc").unlink()
    for folder in ("data", ".headstart/datasets"):
        shutil.rmtree(root / folder)


def test_killed_ingestions_end_as_an_undisturbed_one(runs: Runs, sources: list[dict[str, str]], tmp_path: Path) -> None:
    undisturbed, duration = [], []
    for number, source in enumerate(sources):
        runs.begin(tmp_path / f"undisturbed {number}", source)
        code, seconds = runs.end()
        assert code == 0, runs.log.read_text()
        duration.append(seconds)
        undisturbed.append(outcome(tmp_path / f"undisturbed {number}"))
    assert len(undisturbed[0]["data"]) == 596
    chance, groups = random.Random(0), []
    for number in range(KILLS // KILLS_EACH):
        root, kind, hits = tmp_path / f"killed {number}", number % len(sources), 0
        seconds = duration[kind]
        while hits < KILLS_EACH:
            groups.append(runs.begin(root, sources[kind]))
            time.sleep(chance.uniform(0, seconds))
            kill(groups[-1], workers=chance.random() < 0.5)
            code, lasted = runs.end()
            assert code in (0, -signal.SIGKILL), runs.log.read_text()
            hits += code != 0
            if code == 0:  # what the killed ones have examined is known, and the moment came too late
                seconds = lasted
                forget(root)
        runs.begin(root, sources[kind])
        assert runs.end()[0] == 0, runs.log.read_text()
        found = outcome(root)
        for what, expected in undisturbed[kind].items():
            assert found[what] == expected, what
    deadline = time.monotonic() + 20
    while any(survivors(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not [process for group in groups for process in survivors(group)]
