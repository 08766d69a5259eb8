"""The local Prefect server of a workspace: find it, start it, stop it, and hand it what a run recorded.

Prefect reads its settings and sets up logging while it is imported. A process that runs flows therefore
calls `ensure_server`, then imports Prefect, runs its flow and ends with `deliver_events`. Importing this
module does not import Prefect.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

import flows
from flows.servers import access
from flows.servers.environment import prefect_home, prepare_environment
from flows.servers.guarded import HOST, command, last_words, listen, start
from flows.stores.databases import prefect_database
from tasks.errors import ConfigurationError, ServerError
from tasks.workspace import shown, sqlite_url, write_whole

PREFERRED_PORT = 4200
COMMAND = command("prefect")
# As earlier versions started it: from another module, and before that without a secret.
MOVED = ["-P", "-m", f"{flows.__name__}.guarded", "prefect"]
OPEN_TO_ALL = ["-m", "prefect", "server", "start"]
SERVING = (COMMAND, MOVED)
OURS = (*SERVING, OPEN_TO_ALL)
# A fresh database takes 12 s on two quiet cores; one that lives may need long on busy ones.
START_SECONDS = 180.0
HANG_SECONDS = 10.0
STOP_SECONDS = 15.0
ANSWER_SECONDS = 5.0

# Any of these says that the user chose the server's database.
DATABASE = (
    "SERVER_DATABASE_CONNECTION_URL",
    "API_DATABASE_CONNECTION_URL",
    "SERVER_DATABASE_DRIVER",
    "SERVER_DATABASE_NAME",
)


@dataclass(frozen=True)
class Server:
    """A local Prefect server: process id, address of its REST API, start in seconds since the epoch."""

    pid: int
    url: str
    started: float

    @property
    def dashboard(self) -> str:
        """The address to open in a browser."""
        return self.url.removesuffix("/api")


def ensure_server(workspace: Path) -> str:
    """Return the address of the REST API that records runs, and start the workspace's server if it has none.

    A PREFECT_API_URL that the user exported is checked and used. Otherwise the server of the workspace is
    found again or started, which takes about 10 seconds; it outlives this process and the terminal. Calls
    `prepare_environment` and sets PREFECT_API_URL; child processes inherit both.

    Raises:
        ServerError: the user's server does not answer, or the local one does not start.
        ConfigurationError: what the user exported is no address.
    """
    prepare_environment(workspace)
    access.forget_chosen()
    exported, home = os.environ.get("PREFECT_API_URL"), prefect_home(workspace)
    if exported and not exported.lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            f"PREFECT_API_URL is {shown(exported)!r}, which is no address of a server: write http://HOST:PORT/api, or "
            "unset it to let headstart run its own"
        )
    if exported and not is_own(exported, workspace):
        if not answers(exported):
            raise ServerError(
                f"No Prefect server answers at {shown(exported)}, which PREFECT_API_URL names: start that server, "
                "or unset PREFECT_API_URL to let headstart run its own."
            )
        return exported
    try:
        with _locked(home):
            secret = access.secret_of(home)
            url = _running(home, secret).url
    except OSError as error:
        raise ServerError(
            f"{home} cannot be written ({error.strerror}), where the Prefect server keeps its files: make room or mend "
            "its permissions, or name another workspace in HEADSTART_WORKSPACE"
        ) from error
    access.choose(url, secret)
    if "prefect.context" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
    return url


def stop_server(workspace: Path) -> bool:
    """Stop the workspace's own server and all that it started; tell whether one was running.

    Raises:
        ServerError: another process does not finish starting or stopping the server.
    """
    home = prefect_home(workspace)
    if not home.is_dir():
        return False
    with _locked(home):
        stopped = _terminate(home)
        server = _read(home)
        (home / "server.json").unlink(missing_ok=True)
    if server and server.url == os.environ.get("PREFECT_API_URL"):
        access.forget_chosen()
    return stopped


def server_status(workspace: Path) -> Server | None:
    """Return the workspace's own server if it runs and answers; change nothing."""
    home = prefect_home(workspace)
    server = _read(home)
    return server if server and _serves(server.pid, home) and answers(server.url) else None


def deliver_events(timeout: float = 30.0) -> bool:
    """Send the events and log lines that still wait in this process; tell whether all left in time.

    The server learns of task runs from events only, so a lost one is a task missing from the run's graph.
    Call this after a flow, when no task runs any more: what another thread emits while the queues close may
    be lost. The queues open again for the next flow. `timeout` is in seconds.
    """
    if "prefect.events.worker" not in sys.modules:
        return True
    # Where an event loop runs, Prefect returns a coroutine instead of waiting; a new thread has no loop.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_drain, timeout).result()


def _drain(timeout: float) -> bool:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    deadline = time.monotonic() + timeout
    for worker in (EventsWorker, APILogWorker):
        outcome = worker.drain_all(timeout=max(0.0, deadline - time.monotonic()))
        if isinstance(outcome, tuple) and outcome[1]:
            return False
    return True


def is_own(address: str, workspace: Path) -> bool:
    """Whether an address is that of the workspace's own server, which takes the secret."""
    server = server_status(workspace)
    if server is None:
        return False
    own, given = httpx.URL(server.url), httpx.URL(address.rstrip("/"))
    return given.path == own.path and given.netloc.decode() in access.own_hosts(own.port or 80)


def answers(url: str, secret: str | None = None) -> bool:
    """Whether a server answers there; given a secret of ours, or where this process was told to talk to it with one,
    whether it is the one that takes it: another workspace's may have got the port meanwhile."""
    secret = secret or access.chosen_secret(url)
    # A server of ours is asked directly: a proxy is not to learn the secret.
    about: dict[str, Any] = {"auth": (access.USER, secret), "trust_env": False} if secret else {}
    path = "admin/version" if secret else "health"
    try:
        response = httpx.get(f"{url.rstrip('/')}/{path}", timeout=ANSWER_SECONDS, **about)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    # A server of the user's that asks for credentials is there; whether they are right is between Prefect and it.
    return response.is_success or (not secret and response.status_code in {401, 403})


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    path = home / "server.lock"
    try:
        with FileLock(path, timeout=2 * START_SECONDS):
            yield
    except Timeout as error:
        raise ServerError(
            f"Another process holds {path} and does not finish starting the Prefect server: end that process "
            "and run the command again."
        ) from error


def _running(home: Path, secret: str) -> Server:
    recorded = _read(home)
    if recorded and _becomes_ready(recorded, home, secret):
        return recorded
    # A server that hangs, that lost its record or does not take the secret would write to the next one's database.
    _terminate(home)
    log, chosen = home / "server.log", any(f"PREFECT_{name}" in os.environ for name in DATABASE)
    if not chosen:
        prefect_database(home).check()
    said_before = log.stat().st_size if log.is_file() else 0
    launched = _launched(home, secret, log)
    if _becomes_ready(launched, home, secret):
        return launched
    hangs = _serves(launched.pid, home)
    _terminate(home)
    words = f"no answer within {START_SECONDS:.0f} s" if hangs else last_words(log, said_before)
    if not chosen and ("malformed" in words or "not a database" in words):
        raise ServerError(prefect_database(home).damaged(words))
    raise ServerError(
        f"the Prefect server did not start ({words}): mend that and run the command again; {log} holds all that it said"
    )


def _launched(home: Path, secret: str, log: Path) -> Server:
    opened = listen(_port_before(home))
    port = opened.getsockname()[1]
    write_whole(home / "port", str(port))
    process = start("prefect", opened, home, _server_environment(home, port, secret), log, outlives=True)
    _until_known(process, home)
    server = Server(process.pid, f"http://{HOST}:{port}/api", time.time())
    write_whole(home / "server.json", json.dumps(asdict(server)))
    return server


def _until_known(process: subprocess.Popen[bytes], home: Path) -> None:
    """Wait until a new process is told from others: on a busy machine it may have no command line yet."""
    deadline = time.monotonic() + HANG_SECONDS
    while process.poll() is None and not _serves(process.pid, home) and time.monotonic() < deadline:
        time.sleep(0.01)


def _port_before(home: Path) -> int:
    """The port that the workspace's server had: runs and open pages know it by that."""
    try:
        port = int((home / "port").read_text())
    except (OSError, ValueError):
        return PREFERRED_PORT
    return port if 0 < port < 2**16 else PREFERRED_PORT


def _server_environment(home: Path, port: int, secret: str) -> dict[str, str]:
    clients = {"PREFECT_LOGGING_CONFIG_PATH", "PREFECT_LOGGING_SETTINGS_PATH", *access.MARKS, *access.MARKS.values()}
    inherited = {name: value for name, value in os.environ.items() if name not in clients}
    # The dashboard derives the address of the API from these.
    address = {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(port)}
    if not any(f"PREFECT_{name}" in inherited for name in DATABASE):
        url = sqlite_url(home / "prefect.db", "sqlite+aiosqlite")
        address["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = url
    return inherited | address | access.server_settings(port, secret) | {"PREFECT_HOME": str(home)}


def _becomes_ready(server: Server, home: Path, secret: str) -> bool:
    # One that is up for long either answers at once or hangs.
    coming_up = max(HANG_SECONDS, START_SECONDS - max(0.0, time.time() - server.started))
    deadline = time.monotonic() + coming_up
    while time.monotonic() < deadline and _serves(server.pid, home):
        # The port may have gone to another program meanwhile, even to another workspace's server.
        if _listens(server) and answers(server.url, secret):
            return True
        time.sleep(0.2)
    return False


def _serves(pid: int, home: Path, commands: Sequence[list[str]] = SERVING) -> bool:
    # Process ids are used again, and a copied workspace brings the record of a server that is not its own.
    try:
        process = psutil.Process(pid)
        return bool(process.cmdline()[1:] in commands and process.environ().get("PREFECT_HOME") == str(home))
    except (psutil.Error, OSError, ValueError):
        return False


def _listens(server: Server) -> bool:
    port = httpx.URL(server.url).port
    with suppress(psutil.Error):
        connections = psutil.Process(server.pid).net_connections("tcp")
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
    return False


def _stays_behind(home: Path) -> list[psutil.Process]:
    """The server that ran here when the workspace was moved: its folder went along, its addresses did not.

    That of a workspace which was copied works in the other folder.
    """
    with suppress(psutil.Error, OSError):
        if server := _read(home):
            process = psutil.Process(server.pid)
            folder = Path(process.cwd())
            if process.cmdline()[1:] in OURS and (folder == home or not folder.exists()):
                return [process]
    return []


def _terminate(home: Path) -> bool:
    servers = [process for process in psutil.process_iter() if _serves(process.pid, home, OURS)]
    servers += [process for process in _stays_behind(home) if process not in servers]
    family = list(servers)
    for server in servers:
        with suppress(psutil.Error):
            family += server.children(recursive=True)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in family:
            with suppress(psutil.Error):
                end(process)
                process.resume()  # one that was stopped hears nothing
        _, family = psutil.wait_procs(family, timeout=STOP_SECONDS)
    return bool(servers)


def _read(home: Path) -> Server | None:
    try:
        record = json.loads((home / "server.json").read_text(encoding="utf-8"))
        return Server(int(record["pid"]), str(record["url"]), float(record["started"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
