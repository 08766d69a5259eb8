"""MLflow's page on loopback, and how a person gets into it and Prefect's."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from flows.servers.access import LOGIN, MARKS, credentials, secret_of
from flows.servers.environment import prefect_home
from flows.servers.guarded import HOST, PASSWORD, last_words, listen, start
from flows.stores.remote import is_server
from tasks.errors import ServerError
from tasks.workspace import Workspace, shown

START_SECONDS = 180.0


@dataclass(frozen=True)
class Page:
    """A server's page. `secret` opens it; None: it is not a server of ours."""

    name: str
    address: str
    secret: str | None
    begin: str = ""
    """Where to go from there, behind the page's own ``#``."""

    @property
    def link(self) -> str:
        """What opens the page in a browser, the secret where no server sees it."""
        if self.secret:
            return f"{self.address}{LOGIN}#{self.secret}" + (f"/{self.begin}" if self.begin else "")
        return f"{self.address}/#/{self.begin}" if self.begin else self.address


def prefect_page(workspace: Workspace, url: str) -> Page:
    """The page of the Prefect server at an address that `ensure_server` returned."""
    own = url == os.environ.get(MARKS["PREFECT_API_URL"])
    return Page("Prefect", url.removesuffix("/api"), secret_of(prefect_home(workspace.root)) if own else None)


@contextmanager
def mlflow_page(workspace: Workspace, port: int = 5000) -> Iterator[Page]:
    """Run an MLflow server of the workspace until the block ends; where the user has one, its page is given.

    Args:
        port: preferred; where it is taken, one of the next.

    Raises:
        ServerError: it does not start.
    """
    from flows.runs.views import page_of  # MLflow takes seconds to import
    from tasks.register.store import connect

    if is_server(workspace.tracking_uri):
        yield Page("MLflow", shown(workspace.tracking_uri), None)
        return
    begin = page_of(connect(workspace))
    log = prefect_home(workspace.root).parent / "mlflow-server.log"
    said_before = log.stat().st_size if log.is_file() else 0
    opened = listen(port)
    address = f"http://{HOST}:{opened.getsockname()[1]}"
    secret = secret_of(prefect_home(workspace.root))
    environment = os.environ | {PASSWORD: credentials(secret)}
    # The folder is where a relative address of the store begins.
    with start("mlflow", opened, workspace.root, environment, log, outlives=False) as process:
        try:
            _wait(process, address, log, said_before)
            yield Page("MLflow", address, secret, begin)
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path, said_before: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", timeout=2, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    words = last_words(log, said_before) if process.poll() is not None else f"no answer within {START_SECONDS:.0f} s"
    raise ServerError(f"the MLflow server did not start ({words}); {log} holds all that it said")
