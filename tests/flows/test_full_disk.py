"""A disk that others fill while a run is under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.disks import small_disk

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["ingest", "extract", "train", "evaluate"])
def test_a_full_disk_is_one_line_and_a_failed_run_whatever_comes_next(tmp_path: Path, stage: str) -> None:
    config = tmp_path / "digits.yaml"
    config.write_text(
        "name: d\ningest: {source: {embedded: digits}}\nextract: {backbone: resnet_32px}\n"
        "evaluate: {robustness: 0, explain: 0}\n"
    )
    (disk := tmp_path / "disk").mkdir()
    script = f'mount -t tmpfs -o size=200m tmpfs "{disk}" && exec "{sys.executable}" -m tests.flows.filling "$@"'
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "HEADSTART_"))
    }
    done = subprocess.run(
        [*small_disk(), "sh", "-c", script, "sh", str(disk), stage, str(config)],
        cwd=ROOT, env=kept, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["code"] == 2
    assert len(result["told"]) == 1 and "the disk" in result["told"][0] and "full" in result["told"][0], result
    assert result["runs"] == ["FAILED"]
