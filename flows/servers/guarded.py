"""Prefect's and MLflow's servers behind the guard, each as a process: ``python -m flows.servers.guarded prefect``.

The socket is opened by who starts the process and inherited, so that its port cannot be lost to another program in
between. Importing this module imports neither Prefect nor MLflow.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ServerError
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
SOCKET = "HEADSTART_SOCKET"
PASSWORD = "HEADSTART_PAGE_AUTH"
NEXT_PORTS = 10
ROOM = 2**20


def command(which: str) -> list[str]:
    """Command line, after the interpreter, of the server named ``prefect`` or ``mlflow``."""
    # -P: a folder called flows where the process begins is not taken for ours.
    return ["-P", "-m", f"{__package__}.guarded", which]


def listen(preferred: int) -> socket.socket:
    """Open a socket on loopback: at the preferred port, else at one of the next, else at any.

    Raises:
        ServerError: none is free.
    """
    for port in (*range(preferred, min(preferred + NEXT_PORTS, 2**16)), 0):
        opened = socket.socket()
        try:
            # Without this, the port of a server that just stopped counts as taken for a minute.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((HOST, port))
            opened.listen()
            return opened
        except OSError:
            opened.close()
    raise ServerError(f"no port of {HOST} is free for a server: close some network programs")


def start(
    which: str, opened: socket.socket, folder: Path, environment: dict[str, str], log: Path, outlives: bool
) -> subprocess.Popen[bytes]:
    """Start a server in a folder; it takes over the socket, and what it says is appended to `log`.

    One that outlives this process has a session of its own, so that closing a terminal does not end it.
    """
    with opened, log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *command(which)], cwd=folder, env=environment | {SOCKET: str(opened.fileno())},
            start_new_session=outlives, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            pass_fds=[opened.fileno()],
        )  # fmt: skip


def last_words(log: Path, since: int) -> str:
    """The error that a server's log ends with, where it said any after `since` bytes."""
    with log.open("rb") as file:
        file.seek(since)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\w*\b[):]", line)]
    # Nothing can be said to a full disk.
    silence = "the disk is full" if shutil.disk_usage(log.parent).free < ROOM else "it ended without a word"
    return (errors or lines or [silence])[-1][:300]


def prefect_app() -> ASGIApp:
    """Prefect's server as ``prefect server start`` makes it, behind the guard. Prefect asks for the secret itself."""
    from prefect.server.api.server import create_app

    from flows.servers.guard import PREFECT_LOGIN, Guard

    return Guard(create_app(final=True), PREFECT_LOGIN)


def mlflow_app() -> ASGIApp:
    """MLflow's server as ``mlflow server`` makes it, behind the guard; artifacts are shown, not taken in."""
    from mlflow.server import handlers
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

    from flows.servers.guard import MLFLOW_LOGIN, Guard

    workspace, password = Workspace.find(), os.environ.pop(PASSWORD)
    store, artifacts = workspace.tracking_uri, workspace.artifacts.as_uri()
    os.environ |= {BACKEND_STORE_URI_ENV_VAR: store, ARTIFACT_ROOT_ENV_VAR: artifacts}
    handlers.initialize_backend_stores(store, store, artifacts)
    from mlflow.server.fastapi_app import app

    return Guard(app, MLFLOW_LOGIN, password)


def main(which: str) -> None:
    """Serve until a signal ends it."""
    import uvicorn

    opened = socket.socket(fileno=int(os.environ.pop(SOCKET)))
    app = {"prefect": prefect_app, "mlflow": mlflow_app}[which]()
    uvicorn.Server(uvicorn.Config(app, log_level="warning", proxy_headers=False)).run([opened])


if __name__ == "__main__":
    main(sys.argv[1])
