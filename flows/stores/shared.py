"""An MLflow store that several people and workspaces share: who may write it, and where files of its runs lie.

MLflow's own answers are the folder that a command was given in, or that of whoever was first.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flows.stores.remote import is_database
from tasks.register.store import share
from tasks.workspace import Workspace, sqlite_file

NAMED = "HEADSTART_ARTIFACTS"
"""Variable that names a folder or bucket which all reach who share a store; it is looked at when an experiment is
begun, and MLflow remembers it."""


def is_shared(workspace: Workspace) -> bool:
    """Whether the store is another than the workspace's own file."""
    return workspace.own_store is None


def place_of_artifacts(workspace: Workspace, experiment: str) -> str | None:
    """Address of the folder for files of an experiment; None: a server decides.

    ``HEADSTART_ARTIFACTS`` says it for all stores but a server's. Else it lies beside a shared SQLite file, and in the
    workspace for its own file and for databases: nobody knows what else those who share one have in common.
    """
    file, named = sqlite_file(workspace.tracking_uri), os.environ.get(NAMED)
    if file is None and not is_database(workspace.tracking_uri):
        return None
    if named and "://" in named:
        return f"{named.rstrip('/')}/{experiment}"
    if named:
        return _shared_folder(Path(named).expanduser().absolute(), experiment)
    if file and is_shared(workspace):
        return _shared_folder(file.parent / "artifacts", experiment)
    return (workspace.artifacts / experiment).as_uri()


def is_of_another(location: str, workspace: Workspace) -> bool:
    """Whether an experiment's files lie in another workspace, or where a command happened to be given: in a ``mlruns``
    that is not this workspace's."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file") or not is_shared(workspace):
        return False
    folder = Path(url2pathname(parts.path))
    return "mlruns" in folder.parts[-3:] and not folder.is_relative_to(workspace.mlruns)


def beside_another(name: str, workspace: Workspace) -> str:
    """What an experiment is called where another workspace has the name already."""
    return f"{name} in {workspace.root}"


def _shared_folder(base: Path, experiment: str) -> str:
    # MLflow makes folders of models below the last one.
    for folder in (base, base / experiment, base / experiment / "models"):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            share(folder, folder.parent)
    return (base / experiment).as_uri()
