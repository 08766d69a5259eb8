"""The local Prefect server of a workspace: find it, start it, stop it, and hand it what a run recorded.

Prefect reads its settings and sets up logging while it is imported. A process that runs flows therefore
calls `ensure_server`, then imports Prefect, runs its flow and ends with `deliver_events`. Importing this
module does not import Prefect.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from tasks.errors import ServerError

HOST = "127.0.0.1"
PREFERRED_PORT = 4200
COMMAND = ["-m", "prefect", "server", "start"]
START_SECONDS = 90.0
STOP_SECONDS = 15.0
ANSWER_SECONDS = 5.0

# Tells the address that this module chose from a PREFECT_API_URL that the user exported.
CHOSEN_URL = "HEADSTART_SERVER_URL"

LOGGING_FILE = "headstart-logging.json"

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    # A proxy for the internet does not know the way to this machine.
    "NO_PROXY": "localhost,127.0.0.1",
}

_LINE = "%(asctime)s.%(msecs)03d | %(levelname)-7s | "
_TO_FILE = {"handlers": ["file"], "propagate": False}
_TO_BOTH = {"handlers": ["file", "api"], "propagate": False}
FORMATTER = {
    "()": "prefect.logging.formatters.PrefectFormatter",
    "format": _LINE + "%(name)s - %(message)s",
    "flow_run_fmt": _LINE + "Flow run %(flow_run_name)r - %(message)s",
    "task_run_fmt": _LINE + "Task run %(task_run_name)r - %(message)s",
    "datefmt": "%Y-%m-%d %H:%M:%S",
}
LOGGERS = {
    "prefect": {"level": "${PREFECT_LOGGING_LEVEL}", **_TO_FILE},
    "prefect._internal": {"level": "${PREFECT_INTERNAL_LOGGING_LEVEL}"},
    "prefect.extra": {"level": "${PREFECT_LOGGING_LEVEL}", **_TO_BOTH},
    "prefect.flow_runs": _TO_BOTH,
    "prefect.task_runs": _TO_BOTH,
    # Prefect's queues warn under these names, outside its own hierarchy, when they close with items left.
    "EventsWorker": _TO_FILE,
    "APILogWorker": _TO_FILE,
}


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


def prepare_environment(workspace: Path) -> None:
    """Set in `os.environ` what Prefect reads when it is first imported; afterwards this has no effect.

    Prefect then keeps its files in `mlruns/prefect/` of the workspace, reports nothing to its makers and
    prints nothing; its log goes to `mlruns/headstart.log` and to the server. Variables that the user exported
    win, except for PREFECT_HOME and PREFECT_PROFILE, because two workspaces must not share a database.
    """
    home = _home(workspace)
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    # The profile was defined in another home, and Prefect complains about one that it cannot find.
    os.environ.pop("PREFECT_PROFILE", None)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _log_to_file(home)


def ensure_server(workspace: Path) -> str:
    """Return the address of the REST API that records runs, and start the workspace's server if it has none.

    A PREFECT_API_URL that the user exported is checked and used. Otherwise the server of the workspace is
    found again or started, which takes about 10 seconds; it outlives this process and the terminal. Calls
    `prepare_environment` and sets PREFECT_API_URL; child processes inherit both.

    Raises:
        ServerError: the user's server does not answer, or the local one does not start.
    """
    prepare_environment(workspace)
    configured = os.environ.get("PREFECT_API_URL")
    if configured and configured != os.environ.get(CHOSEN_URL):
        if not _answers(configured):
            raise ServerError(
                f"No Prefect server answers at {configured}, which PREFECT_API_URL names: start that server, "
                "or unset PREFECT_API_URL to let headstart run its own."
            )
        return configured
    home = _home(workspace)
    with _locked(home):
        url = _running(home).url
    os.environ["PREFECT_API_URL"] = os.environ[CHOSEN_URL] = url
    return url


def stop_server(workspace: Path) -> bool:
    """Stop the workspace's own server and all that it started; tell whether one was running.

    Raises:
        ServerError: another process does not finish starting or stopping the server.
    """
    home = _home(workspace)
    if not home.is_dir():
        return False
    with _locked(home):
        stopped = _terminate(home)
        server = _read(home)
        (home / "server.json").unlink(missing_ok=True)
    if server and server.url == os.environ.get(CHOSEN_URL):
        del os.environ[CHOSEN_URL]
        os.environ.pop("PREFECT_API_URL", None)
    return stopped


def server_status(workspace: Path) -> Server | None:
    """Return the workspace's own server if it runs and answers; change nothing."""
    home = _home(workspace)
    server = _read(home)
    return server if server and _serves(server.pid, home) and _answers(server.url) else None


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


def _home(workspace: Path) -> Path:
    return workspace.resolve() / "mlruns" / "prefect"


def _log_to_file(home: Path) -> None:
    configured = os.environ.get("PREFECT_LOGGING_CONFIG_PATH", LOGGING_FILE)
    # A child inherits the variable from a parent that may work for another workspace.
    if Path(configured).name != LOGGING_FILE or "PREFECT_LOGGING_SETTINGS_PATH" in os.environ:
        return
    # Prefect replaces ${NAME} in this file by its settings, so a dollar sign in a path has to be doubled.
    filename = str(home.parent / "headstart.log").replace("$", "$$")
    file = {"class": "logging.FileHandler", "filename": filename, "encoding": "utf-8", "formatter": "line"}
    configuration = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": FORMATTER},
        "handlers": {"file": file, "api": {"class": "prefect.logging.handlers.APILogHandler"}},
        "loggers": LOGGERS,
    }
    _write(home / LOGGING_FILE, json.dumps(configuration, ensure_ascii=False, indent=2))
    os.environ["PREFECT_LOGGING_CONFIG_PATH"] = str(home / LOGGING_FILE)


def _answers(url: str) -> bool:
    try:
        response = httpx.get(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    # A server that asks for credentials is there; whether they are right is between Prefect and the server.
    return response.is_success or response.status_code in {401, 403}


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    path = home / "server.lock"
    try:
        with FileLock(path, timeout=4 * START_SECONDS):
            yield
    except Timeout as error:
        raise ServerError(
            f"Another process holds {path} and does not finish starting the Prefect server: end that process "
            "and run the command again."
        ) from error


def _running(home: Path) -> Server:
    # The recorded server may still be coming up. The second launch is for a port that was lost to another
    # program between choosing it and binding it.
    for candidate in (_read, _launched, _launched):
        server = candidate(home)
        if server and _becomes_ready(server, home):
            return server
        # A server that hangs, or that lost its record, would write to the database of the next one.
        _terminate(home)
    raise ServerError(
        f"The Prefect server ended early or did not answer within {START_SECONDS:.0f} s: read the end of "
        f"{home / 'server.log'}, mend what it names and run the command again."
    )


def _launched(home: Path) -> Server:
    port = _free_port()
    with (home / "server.log").open("ab") as log:
        # The home as working folder keeps a project's .env and prefect.toml away from the server.
        process = subprocess.Popen(
            [sys.executable, *COMMAND],
            cwd=home,
            env=_server_environment(home, port),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(process.pid, f"http://{HOST}:{port}/api", time.time())
    _write(home / "server.json", json.dumps(asdict(server)))
    return server


def _server_environment(home: Path, port: int) -> dict[str, str]:
    clients = {"PREFECT_API_URL", "PREFECT_LOGGING_CONFIG_PATH", "PREFECT_LOGGING_SETTINGS_PATH", CHOSEN_URL}
    inherited = {name: value for name, value in os.environ.items() if name not in clients}
    # Settings, not command line options, because the dashboard derives the address of the API from them.
    address = {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(port)}
    return inherited | address | {"PREFECT_HOME": str(home)}


def _becomes_ready(server: Server, home: Path) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and _serves(server.pid, home):
        # The port may have gone to another program meanwhile, even to another workspace's server.
        if _listens(server) and _answers(server.url):
            return True
        time.sleep(0.2)
    return False


def _serves(pid: int, home: Path) -> bool:
    # Process ids are used again, and a copied workspace brings the record of a server that is not its own.
    try:
        process = psutil.Process(pid)
        return bool(process.cmdline()[1:] == COMMAND and process.environ().get("PREFECT_HOME") == str(home))
    except (psutil.Error, OSError, ValueError):
        return False


def _listens(server: Server) -> bool:
    port = httpx.URL(server.url).port
    with suppress(psutil.Error):
        connections = psutil.Process(server.pid).net_connections("tcp")
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
    return False


def _terminate(home: Path) -> bool:
    servers = [process for process in psutil.process_iter() if _serves(process.pid, home)]
    family = list(servers)
    for server in servers:
        with suppress(psutil.Error):
            family += server.children(recursive=True)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in family:
            with suppress(psutil.Error):
                end(process)
        _, family = psutil.wait_procs(family, timeout=STOP_SECONDS)
    return bool(servers)


def _free_port() -> int:
    for port in (PREFERRED_PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            # Without this, the port of a server that just stopped counts as taken for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise ServerError(f"No port of {HOST} is free for the Prefect server: close some network programs.")


def _read(home: Path) -> Server | None:
    try:
        record = json.loads((home / "server.json").read_text(encoding="utf-8"))
        return Server(int(record["pid"]), str(record["url"]), float(record["started"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
