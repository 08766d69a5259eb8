"""``data.dvc``, which names the version that ``data/`` holds: read, written, and never taken from the user.

DVC lets a ``.dvc`` file carry notes under ``meta``. Headstart notes there which version it named, so that a file which
names another one, because ``dvc add`` has been at it since, is told from its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.ignored import leave_out
from tasks.ingest.repository import opened
from tasks.ingest.versioning import Version, is_made_here
from tasks.workspace import Workspace, keep_beside

MARK = "headstart"
"""Key under ``meta`` whose value is the version that headstart wrote into the file."""

ANNOTATIONS = ("desc", "type", "labels", "meta", "remote", "push")
"""What users may write beside an output in a ``.dvc`` file, and DVC keeps."""

ELSEWHERE = "give headstart another workspace (HEADSTART_WORKSPACE=FOLDER)"


def current_version(workspace: Workspace) -> str | None:
    """The version of ``data/`` that ``data.dvc`` names; None where there is no such file, or it is about others."""
    out = _out_of_data(_read(workspace))
    return out["md5"] if out else None


def pointer_to(name: str, workspace: Workspace) -> str:
    """``data.dvc`` as it names a version: the file that is there, or, where that names another one by now, as little as
    DVC needs."""
    with suppress(OSError):
        content = workspace.dvc_file.read_bytes()
        if (_out_of_data(_understood(content)) or {}).get("md5") == name:
            return content.decode()
    told = {"outs": [{"md5": name, "hash": "md5", "path": "data"}], "meta": {MARK: name}}
    return yaml.safe_dump(told, sort_keys=False)


def unreadable(workspace: Workspace) -> str | None:
    """What is wrong with a ``data.dvc`` that nobody can read, and how to mend it; None where all is well."""
    file = workspace.dvc_file
    if not file.is_file() or _read(workspace):
        return None
    content = file.read_bytes()
    if b"<<<<<<<" in content:
        why, mend = "holds the marks of a merge", "take one of both with `git checkout --ours data.dvc` or `--theirs`"
    else:
        why, mend = "is no YAML" if content.strip() else "is empty", "restore it with `git checkout data.dvc`"
    return f"{file} {why}: {mend}"


def _read(workspace: Workspace) -> dict[str, Any]:
    """``data.dvc``, empty where there is none or it cannot be understood."""
    try:
        return _understood(workspace.dvc_file.read_bytes())
    except OSError:
        return {}


def _understood(content: bytes) -> dict[str, Any]:
    try:
        told = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return told if isinstance(told, dict) else {}


def _out_of_data(told: dict[str, Any]) -> dict[str, Any] | None:
    """The one output of a file, if it is the folder ``data``."""
    match told.get("outs"):
        case [{"path": "data", "md5": str(name)} as out] if name.endswith(".dir"):
            return out
    return None


def _is_ours(told: dict[str, Any], workspace: Workspace) -> bool:
    out = _out_of_data(told)
    if out is None or not {"deps", "cmd", "wdir"}.isdisjoint(told):  # imported, or made by a command
        return False
    meta = told.get("meta")
    return (isinstance(meta, dict) and meta.get(MARK) == out["md5"]) or is_made_here(out["md5"], workspace)


def claim(workspace: Workspace, replace: bool = False) -> Path | None:
    """See to it, before any long work, that ``data/`` and ``data.dvc`` may hold headstart's dataset.

    Args:
        replace: move a ``data.dvc`` of the user's out of the way.

    Returns:
        Where the user's ``data.dvc`` is kept, if it was moved.

    Raises:
        ConfigurationError: ``data.dvc``, or something in ``data/`` that DVC versions, is the user's.
        DataError: ``data`` is no folder.
    """
    if not workspace.data.is_dir() and os.path.lexists(workspace.data):
        what = "a link to a folder that is not there" if workspace.data.is_symlink() else "no folder"
        raise DataError(f"{workspace.data} is {what}, but headstart keeps its dataset there: move it, or {ELSEWHERE}")
    kept = None
    if os.path.lexists(workspace.dvc_file):
        if _is_ours(_read(workspace), workspace):
            return None
        if not replace and (why := unreadable(workspace)):
            raise ConfigurationError(f"{why}, or put the dataset in its place with --replace, which keeps it")
        if not replace:
            raise ConfigurationError(
                f"{workspace.dvc_file} is not as headstart wrote it, so it is yours and stays: {ELSEWHERE}, or put the "
                "dataset in its place with --replace, which keeps your file as data.dvc.replaced; if an earlier "
                "headstart made it, `headstart data pull` shows that"
            )
    if other := _versioned_otherwise(workspace):
        raise ConfigurationError(
            f"{other[1]} versions {other[0]} already, and DVC does not version a folder inside of another; headstart "
            f"keeps its dataset in {workspace.data}: {ELSEWHERE}"
        )
    if replace and os.path.lexists(workspace.dvc_file):
        kept = keep_beside(workspace.dvc_file, "replaced")
    return kept


def _versioned_otherwise(workspace: Workspace) -> tuple[str, str] | None:
    """An output of DVC's that lies in ``data/`` or holds it, and the file that says so."""
    if not (workspace.root / ".dvc").is_dir():
        return None
    from dvc.repo.index import Index

    try:
        with opened(workspace) as repo:
            index = Index.from_repo(repo, onerror=lambda *_: None)
            outs = [(Path(out.fs_path), out.stage.path) for out in index.outs if out.protocol == "local"]
    except Exception:  # DVC's files are the user's, broken or not: it has many ways to say that one is
        return None
    for path, file in outs:
        overlaps = path.is_relative_to(workspace.data) or workspace.data.is_relative_to(path)
        if overlaps and Path(file) != workspace.dvc_file:
            return str(path), file
    return None


def write_pointer(version: Version, workspace: Workspace) -> None:
    """Make ``data.dvc`` name a version, whole or not at all. One that names it already and is not ours stays.

    Raises:
        ConfigurationError: the file that is there is the user's; see `claim`.
    """
    before = _read(workspace)
    if current_version(workspace) == version.name and not _is_ours(before, workspace):
        return
    claim(workspace)
    kept = {key: value for key, value in (_out_of_data(before) or {}).items() if key in ANNOTATIONS}
    out = {"md5": version.name, "size": version.size, "nfiles": version.files, "hash": "md5", "path": "data", **kept}
    notes = {"desc": before["desc"]} if "desc" in before else {}
    meta = before.get("meta") if isinstance(before.get("meta"), dict) else {}
    told = {"outs": [out], **notes, "meta": {**(meta or {}), MARK: version.name}}
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True)
    leave_out(workspace)
    temporary = workspace.root / ".data.dvc.tmp"
    temporary.unlink(missing_ok=True)  # of a killed check-out
    if not workspace.dvc_file.is_file() or workspace.dvc_file.read_text() != text:
        temporary.write_text(text)
        os.replace(temporary, workspace.dvc_file)
