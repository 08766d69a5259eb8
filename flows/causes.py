"""What MLflow, SQLAlchemy, DVC, a bucket or the system raise, as one line to whoever can mend it.

This is the border: inside, each part raises a `HeadstartError` for what it knows itself, and lets pass what comes from
below. Libraries wrap each other's exceptions, so the whole chain of causes is looked at. What no line is known for is
a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.servers.access import is_chosen
from flows.stores.remote import gone, is_database, is_server, last_words
from tasks.errors import ConfigurationError, DataError, HeadstartError, RegistryError, ServerError, StorageError
from tasks.workspace import Workspace, shown

ROOM = 8 * 2**20
"""Bytes below which a disk counts as full: more than a run gives back when it fails."""

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_IN_WORDS = ("database or disk is full", "No space left on device", "Disk quota exceeded")
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def explained(workspace: Workspace) -> Iterator[None]:
    """Turn what the block raises into a line, where one is known; the traceback goes to the log.

    Raises:
        HeadstartError: in place of the exception that it explains.
    """
    try:
        yield
    except Exception as error:
        told = explain(error, workspace)
        if told is None or told is error:
            raise
        logging.getLogger("headstart").error("%s", told, exc_info=error)
        raise told from error


def explain(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    """What an exception means to the user; None where it is a bug.

    What is a line already stays, but for the registry's: it says that nothing could be changed, not why.
    """
    if isinstance(error, HeadstartError):
        below = error.__cause__ if isinstance(error, RegistryError) else None
        return (explain(below, workspace) if below else None) or error
    chain = list(_chain(error))
    for recognise in CAUSES:
        for each in chain:
            if told := recognise(each, workspace):
                return told
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from, the innermost first: that says what happened."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return reversed(found)


def _is_of(error: BaseException, *names: str) -> bool:
    """Whether an exception's class or one that it derives from is named so, without importing it."""
    return any(f"{kind.__module__}.{kind.__qualname__}" in names for kind in type(error).__mro__)


def _line(error: BaseException, most: int = 300) -> str:
    """What an exception says, on one line, without passwords in addresses."""
    told = " ".join(str(error).split()) or type(error).__name__
    told = re.sub(r"(://[^/\s:@]*:)[^@\s/]+@", r"\1***@", told)
    return told if len(told) <= most else f"{told[:most]}…"


def _full_disk(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    said = isinstance(error, OSError) and error.errno in FULL
    if said or any(words in str(error) for words in FULL_IN_WORDS) or _is_full(workspace):
        where = error.filename if isinstance(error, OSError) and error.filename else workspace.root
        return StorageError(
            f"the disk of {where} is full: make room and run the command again, which goes on where this one was, or "
            "name another workspace in HEADSTART_WORKSPACE"
        )
    return None


def _is_full(workspace: Workspace) -> bool:
    places = (workspace.root, workspace.mlruns, workspace.cache)
    return any(shutil.disk_usage(place).free < ROOM for place in places if place.is_dir())


def _forbidden(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename:
        why = (error.strerror or "not allowed").lower()
        return StorageError(
            f"{_text(error.filename)} cannot be used ({why}): mend its owner or permissions, or those of its folder"
        )
    if "attempt to write a readonly database" in str(error):
        return StorageError(
            f"{_store(workspace)} cannot be written by this user: mend the permissions of the file and its folder"
        )
    if "unable to open database file" in str(error):
        return StorageError(f"{_store(workspace)} cannot be opened: mend the permissions of the file and its folder")
    return None


def _locked(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    if "database is locked" in str(error):
        from tasks.register.store import BUSY_SECONDS

        return StorageError(
            f"{_store(workspace)} was held by another process for more than {BUSY_SECONDS} s: wait until that one is "
            "done, or end it, and run the command again"
        )
    return None


def _other_schema(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    if "Detected out-of-date database schema" in str(error) or "Can't locate revision identified by" in str(error):
        return StorageError(
            f"{_store(workspace)} was made by another version of MLflow than the installed one: install that version, "
            "or, where it is older, back the database up and bring it up to date with `mlflow db upgrade "
            "$MLFLOW_TRACKING_URI`"
        )
    return None


def _gone(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    uri = workspace.tracking_uri
    lost = _is_of(
        error, "requests.exceptions.ConnectionError", "requests.exceptions.Timeout", "urllib3.exceptions.HTTPError"
    )
    if lost and is_server(uri):
        return ServerError(gone(uri, _reason(error)))
    if is_database(uri) and _is_of(error, "sqlalchemy.exc.OperationalError", "sqlalchemy.exc.InterfaceError"):
        return ServerError(gone(uri, _reason(getattr(error, "orig", error))))
    return None


def _prefect_gone(error: BaseException, _workspace: Workspace) -> HeadstartError | None:
    api = os.environ.get("PREFECT_API_URL", "")
    if _is_of(error, "httpx.ConnectError", "httpx.ReadError", "httpx.RemoteProtocolError"):
        return ServerError(f"the Prefect server at {api} went away ({_reason(error)}): run the command again")
    if _is_of(error, "prefect.exceptions.PrefectHTTPStatusError") and "401" in str(error) and is_chosen(api):
        return ServerError(f"the Prefect server at {api} went away, and another has its port: run the command again")
    return None


def _reason(error: BaseException) -> str:
    return last_words(_line(error, 1000))


def _refused(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    code = getattr(error, "error_code", None)
    if _is_of(error, "mlflow.exceptions.MlflowException") and (
        code in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
        or re.search(r"error code (401|403|407)|\b(401|403) Client Error", str(error))
    ):
        return RegistryError(
            f"{shown(workspace.tracking_uri)} lets nobody in, or not for this ({_line(error)}): see to "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    return None


def _failing_server(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    refused = re.search(r"error code (5\d\d)|\b(5\d\d) (Server )?Error|too many 5\d\d", str(error), re.IGNORECASE)
    ours = _is_of(error, "mlflow.exceptions.MlflowException", "requests.exceptions.RequestException")
    if ours and is_server(workspace.tracking_uri) and refused:
        return ServerError(
            f"the MLflow server at {shown(workspace.tracking_uri)} fails ({_line(error)}): its log says why"
        )
    return None


def _bucket(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    if _is_of(error, "botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError"):
        return StorageError(f"the bucket that holds runs and models does not take or give files: {_line(error)}")
    if isinstance(error, ModuleNotFoundError) and error.name in ("boto3", "botocore"):
        return ConfigurationError(
            "runs and models lie in a bucket, and boto3 is not installed: pip install 'headstart[s3]'"
        )
    return None


def _dvc(error: BaseException, workspace: Workspace) -> HeadstartError | None:
    if _is_of(error, "dvc.config.ConfigError"):
        return ConfigurationError(
            f"{workspace.root / '.dvc' / 'config'} cannot be read ({_line(error)}): mend it by hand, or restore it "
            "with `git checkout`; a merge may have left its marks there"
        )
    if _is_of(error, "dvc.exceptions.DvcException", "scmrepo.exceptions.SCMError"):
        return DataError(f"DVC: {_line(error)}")
    return None


def _store(workspace: Workspace) -> str:
    return str(workspace.own_store or shown(workspace.tracking_uri).removeprefix("sqlite:///"))


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


Cause = Callable[[BaseException, Workspace], HeadstartError | None]

CAUSES: tuple[Cause, ...] = (
    _full_disk, _locked, _forbidden, _other_schema, _refused, _failing_server, _gone, _bucket, _dvc, _prefect_gone,
)  # fmt: skip
"""What may be behind an exception; the first that fits is told."""
