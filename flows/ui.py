"""Prefect's and MLflow's pages side by side, on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from flows.server import HOST
from tasks.errors import ServerError
from tasks.workspace import Workspace

START_SECONDS = 90.0


@contextmanager
def mlflow_server(workspace: Workspace, port: int = 5000) -> Iterator[str]:
    """Run an MLflow server of the workspace and yield its address; it ends with the block.

    Args:
        port: preferred; where it is taken, a free one.

    Raises:
        ServerError: it does not start.
    """
    address = f"http://{HOST}:{_free_port(port)}"
    log = workspace.mlruns / "mlflow-server.log"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", address.rpartition(":")[2],
        "--backend-store-uri", workspace.tracking_uri, "--workers", "1",
        "--default-artifact-root", (workspace.mlruns / "artifacts").as_uri(),
    ]  # fmt: skip
    with log.open("ab") as file, subprocess.Popen(command, cwd=workspace.root, stdout=file, stderr=file) as process:
        try:
            _wait(process, address, log)
            yield address
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], address: str, log: object) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", timeout=2).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise ServerError(f"the MLflow server did not start; the end of {log} tells why")


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise ServerError("no free port on loopback")
