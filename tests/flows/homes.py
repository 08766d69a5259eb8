"""A workspace that commands run in as processes of their own, apart from the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from mlflow import MlflowClient

from flows.servers.environment import prefect_home
from tests.flows.asking import ask
from tests.flows.stores import free_port

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs" / "digits.yaml")


@dataclass
class Home:
    """The workspace's folder, and what runs there."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "HEADSTART_"))
        }
        return kept | {"HEADSTART_WORKSPACE": str(self.root), "COLUMNS": "120"}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.root}/mlruns/mlflow.db")

    def serve_at_a_port_of_its_own(self) -> None:
        """Away from the usual ones: when a server dies there, that of a test beside this one takes its port."""
        home = prefect_home(self.root)
        home.mkdir(parents=True)
        (home / "port").write_text(str(free_port()))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def headstart(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def flow_runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = ask(self.root, "/flow_runs/filter", {"sort": "START_TIME_ASC"})
        return runs


def eventually(holds: Callable[[], Any], seconds: float = 20) -> bool:
    """Whether something comes to hold in time."""
    deadline = time.monotonic() + seconds
    while not (result := holds()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(result)


def is_gone(pid: int) -> bool:
    """Whether a process works no more, and holds no port; it may still be listed, for a parent that has not asked how
    it ended. Of one that was killed, some threads may live a little longer."""
    try:
        process = psutil.Process(pid)
        return bool(process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True
