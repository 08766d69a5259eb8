"""What has to be settled in a process before Prefect and MLflow are imported."""

from __future__ import annotations

import logging
import os
import warnings

from flows.server import prepare_environment
from tasks.workspace import Workspace

QUIET_AND_PRIVATE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_ENV_MANAGER_CONDA_WARNING": "true",
    "DVC_NO_ANALYTICS": "1",
    # For the processes of scheduled runs; this one sends its warnings to the log.
    "PYTHONWARNINGS": "ignore",
    # Git is asked for the code version once, where a run is recorded.
    "GIT_PYTHON_REFRESH": "quiet",
    # A cluster begun for a run complains of its own end.
    "DASK_LOGGING__DISTRIBUTED": "critical",
    # The compiler announces on stderr which accelerators it did not find.
    "TORCH_LOGS": "-all",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def settle(workspace: Workspace) -> None:
    """Name the workspace for this process and its children, and send what libraries say to
    ``mlruns/headstart.log`` instead of the terminal.

    Raises:
        ConfigurationError: the workspace cannot be written.
    """
    workspace.check_writable()
    os.environ["HEADSTART_WORKSPACE"] = str(workspace.root)
    os.environ["MLFLOW_TRACKING_URI"] = workspace.tracking_uri
    os.environ["PREFECT_LOCAL_STORAGE_PATH"] = str(workspace.cache / "results")
    for name, value in QUIET_AND_PRIVATE.items():
        os.environ.setdefault(name, value)
    prepare_environment(workspace.root)
    send_chatter_to(workspace.mlruns / "headstart.log")


def send_chatter_to(log: os.PathLike[str]) -> None:
    """Route the root logger and Python's warnings to a file."""
    handler = logging.FileHandler(log, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
