"""Killed at any moment, however often, an ingestion ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
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

ROOT = Path(__file__).parents[2]
KILLS, KILLS_EACH = 20, 5
"""Kills that hit a running ingestion, and how many of them a workspace bears before it is left in peace."""

SERVER = """
import json, os, sys
from pathlib import Path
import dvc.repo, loky, matplotlib.figure
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.workspace import Workspace

for line in sys.stdin:
    root, source = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        dataset = ingest_images(IngestConfig.model_validate({"source": source}), Workspace(Path(root)))
        Path(root, "ended.json").write_text(json.dumps([dataset.version, dataset.fingerprint, str(dataset.report)]))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""A process that has imported everything, and ingests in a fork of itself for every line that it reads."""


class Runs:
    """Ingestions in processes of their own."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, root: Path, source: dict[str, str]) -> int:
        """Start an ingestion; returns its process, which leads a session of its own."""
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps([str(root), source]) + "\n")
        self.server.stdin.flush()
        return self._number()

    def end(self) -> int:
        """Wait for its end; returns its exit code, negative for a signal."""
        return self._number()

    def _number(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    started = Runs()
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
        "store": {path: path.read_bytes() for path in (root / ".dvc/cache/files/md5").glob("??/*")}.values(),
    }


def survivors(session: int) -> list[psutil.Process]:
    """Processes of a session that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            pass
    return found


def kill(process: int, group: bool) -> None:
    """Kill a run with all its workers, or alone, in which case they must notice."""
    try:
        (os.killpg if group else os.kill)(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_killed_ingestions_end_as_an_undisturbed_one(runs: Runs, sources: list[dict[str, str]], tmp_path: Path) -> None:
    undisturbed, duration = [], []
    for number, source in enumerate(sources):
        start = time.monotonic()
        runs.begin(tmp_path / f"undisturbed {number}", source)
        assert runs.end() == 0
        duration.append(time.monotonic() - start)
        undisturbed.append(outcome(tmp_path / f"undisturbed {number}"))
    assert len(undisturbed[0]["data"]) == 596
    chance, sessions = random.Random(0), []
    for number in range(KILLS // KILLS_EACH):
        root, kind = tmp_path / f"killed {number}", number % len(sources)
        hit = 0
        for _ in range(8 * KILLS_EACH):
            process = runs.begin(root, sources[kind])
            time.sleep(chance.uniform(0, duration[kind]))
            kill(process, group=chance.random() < 0.5)
            hit += runs.end() == -signal.SIGKILL
            sessions.append(process)
            if hit == KILLS_EACH:
                break
        assert hit == KILLS_EACH
        runs.begin(root, sources[kind])
        assert runs.end() == 0
        found = outcome(root)
        for what, expected in undisturbed[kind].items():
            assert found[what] == expected, what
    deadline = time.monotonic() + 20
    while any(survivors(session) for session in sessions) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not [process for session in sessions for process in survivors(session)]
