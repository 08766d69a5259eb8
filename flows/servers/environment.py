"""What has to be settled in a process before Prefect and MLflow are imported."""

from __future__ import annotations

import getpass
import json
import logging
import os
import warnings
from pathlib import Path

from flows.stores.shared import NAMED
from tasks.workspace import Workspace, absolute_url, write_whole

QUIET_AND_PRIVATE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # It would write to the terminal; so its words go where those of others go.
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Where a team's server shows the run.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_ENV_MANAGER_CONDA_WARNING": "true",
    "DVC_NO_ANALYTICS": "1",
    # For the processes of scheduled runs; this one sends its warnings to the log.
    "PYTHONWARNINGS": "ignore",
    # Git is asked for the code version once, where a run is recorded.
    "GIT_PYTHON_REFRESH": "quiet",
    # A server that is gone is told within half a minute; MLflow would try for five.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # A cluster begun for a run complains of its own end.
    "DASK_LOGGING__DISTRIBUTED": "critical",
    # The compiler announces on stderr which accelerators it did not find.
    "TORCH_LOGS": "-all",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}

LOGGING_FILE = "headstart-logging.json"

PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # The newer page calls Amplitude whatever the settings above say.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
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


class _Log(logging.FileHandler):
    """A file that is begun with the first word; while its folder is not there, words go nowhere."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream or os.path.isdir(os.path.dirname(self.baseFilename)):
            super().emit(record)


def settle(workspace: Workspace, reads: bool = False) -> None:
    """Name the workspace for this process and its children, and send what libraries say to
    ``mlruns/headstart.log`` instead of the terminal.

    Args:
        reads: nothing is to be left in the workspace, so that it need not be writable.

    Raises:
        ConfigurationError: the workspace cannot be written.
    """
    if not reads:
        workspace.check_writable()
    os.environ["HEADSTART_WORKSPACE"] = str(workspace.root)
    os.environ["MLFLOW_TRACKING_URI"] = absolute_url(workspace.tracking_uri)
    _name_from_the_root()
    os.environ["PREFECT_LOCAL_STORAGE_PATH"] = str(workspace.cache / "results")
    for name, value in QUIET_AND_PRIVATE.items():
        os.environ.setdefault(name, value)
    _name_the_user()
    prepare_environment(workspace.root, reads)
    send_chatter_to(prefect_home(workspace.root).parent / "headstart.log")


def send_chatter_to(log: os.PathLike[str]) -> None:
    """Route the root logger and Python's warnings to a file."""
    handler = _Log(log, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is not worth a traceback a line
    warnings.simplefilter("default")


def prepare_environment(workspace: Path, reads: bool = False) -> None:
    """Set in `os.environ` what Prefect reads when it is first imported; afterwards this has no effect.

    Prefect then keeps its files in `mlruns/prefect/` of the workspace, reports nothing to its makers and
    prints nothing; its log goes to `mlruns/headstart.log` and to the server. Variables that the user exported
    win, except for PREFECT_HOME and PREFECT_PROFILE, because two workspaces must not share a database.

    Args:
        reads: where that folder is not there, it is not made.
    """
    _strip_addresses()
    home = prefect_home(workspace)
    if not reads:
        home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    # The profile was defined in another home, and Prefect complains about one that it cannot find.
    os.environ.pop("PREFECT_PROFILE", None)
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
    _settle_proxies()
    if home.is_dir():
        _log_to_file(home)


def prefect_home(workspace: Path) -> Path:
    """Where a workspace's Prefect keeps its files: beside those of the user where the workspace may only be read."""
    there = Workspace(workspace.resolve())
    return (there.mlruns if there.is_writable else there.cache) / "prefect"


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
    write_whole(home / LOGGING_FILE, json.dumps(configuration, ensure_ascii=False, indent=2))
    os.environ["PREFECT_LOGGING_CONFIG_PATH"] = str(home / LOGGING_FILE)


def _strip_addresses() -> None:
    """Leave out the spaces and the last slash that come along where an address is copied; what is nothing else is
    none."""
    for name in ("PREFECT_API_URL", "MLFLOW_REGISTRY_URI"):
        if (named := os.environ.get(name)) is not None:
            os.environ[name] = named.strip() if name != "PREFECT_API_URL" else named.strip().rstrip("/")


def _name_from_the_root() -> None:
    """Name what a team shares such that children, which work in other folders, find the same."""
    if registry := os.environ.get("MLFLOW_REGISTRY_URI"):
        os.environ["MLFLOW_REGISTRY_URI"] = absolute_url(registry)
    if (artifacts := os.environ.get(NAMED)) and "://" not in artifacts:
        os.environ[NAMED] = str(Path(artifacts).expanduser().absolute())


def _name_the_user() -> None:
    """A container's user may have a number only; DVC, PyTorch and others ask Python for a name, and fail without."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        from tasks.machine import user_name  # which takes half a second to import

        os.environ["LOGNAME"] = user_name()


def _settle_proxies() -> None:
    # GNOME and KDE write socks://, of which neither httpx nor requests knows which of its versions is meant.
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        for written in (name, name.lower()):
            if os.environ.get(written, "").startswith("socks://"):
                os.environ[written] = f"socks5{os.environ[written].removeprefix('socks')}"
    # A proxy for the internet does not know the way to this machine, and is not to learn the secret.
    for name in ("NO_PROXY", "no_proxy"):
        named = [each.strip() for each in os.environ.get(name, "").split(",") if each.strip()]
        if "*" not in named and (named or name == "NO_PROXY"):
            os.environ[name] = ",".join(dict.fromkeys([*named, "localhost", "127.0.0.1"]))
