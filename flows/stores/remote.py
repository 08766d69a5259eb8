"""A team's MLflow store, named by `MLFLOW_TRACKING_URI`: whether it answers, before MLflow tries for minutes."""

from __future__ import annotations

import os
import re
import time
import warnings
from importlib.metadata import entry_points
from typing import Any

from tasks.errors import ConfigurationError, ServerError
from tasks.workspace import shown, sqlite_file

ASK_SECONDS = 10
"""How long an answer may take; a server of two busy cores has needed three."""

RESTART_SECONDS = 20
"""How long a run that is under way waits for a server to come back."""

_NOBODY_BEHIND = (502, 503, 504)
_SERVERS = ("http://", "https://")
_DATABASES = ("postgresql", "mysql", "mssql")
_DATABRICKS = ("databricks", "databricks-uc", "uc")


def check_known(uri: str, variable: str) -> None:
    """Do nothing where MLflow has stores of an address's kind, by itself or by a package that adds to it.

    Args:
        variable: the one that names the store.

    Raises:
        ConfigurationError: it has none, as where ``http://`` was forgotten.
    """
    kind = uri.partition("://")[0].partition("+")[0].lower()
    is_known = (
        is_server(uri)
        or ("://" in uri and kind in _DATABASES)
        or kind in _DATABRICKS
        or (sqlite_file(uri) is not None)
        or (_is_folder(uri) and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"))
        or kind in entry_points(group="mlflow.tracking_store").names
    )
    if not is_known:
        raise ConfigurationError(_unknown(uri, variable))


def _unknown(uri: str, variable: str) -> str:
    """One line about an address that is none."""
    server = f"http://{uri}" if re.fullmatch(r"[\w.-]+:\d+(/\S*)?", uri) else "http://HOST:PORT"
    why = ", for MLflow keeps nothing in plain folders any more" if _is_folder(uri) else ""
    return (
        f"{variable} is {shown(uri)!r}, which is no store that is known{why}: write {server}, sqlite:///FILE or "
        "postgresql://USER:PASSWORD@HOST/DATABASE"
    )


def _is_folder(uri: str) -> bool:
    return uri.startswith("file:") or ":" not in uri


def check_answer(uri: str, patience: float = 0) -> None:
    """Do nothing where a server or database answers, whatever it says, or where the store is a file.

    Args:
        patience: seconds in which it may come back.

    Raises:
        ServerError: there is no answer.
        ConfigurationError: the database's driver is not installed, or its address is none.
    """
    deadline = time.monotonic() + patience
    while silence := _silence(uri):
        if time.monotonic() > deadline:
            raise ServerError(gone(uri, silence))
        time.sleep(1)


def gone(uri: str, why: str) -> str:
    """One line about a store that does not answer."""
    what = "MLflow server" if is_server(uri) else "database"
    return (
        f"no {what} answers at {shown(uri)} ({why}), which MLFLOW_TRACKING_URI names: start it, or unset "
        "MLFLOW_TRACKING_URI to keep runs and models in the workspace"
    )


def is_server(uri: str) -> bool:
    """Whether the store is reached over HTTP."""
    return uri.lower().startswith(_SERVERS)


def is_database(uri: str) -> bool:
    """Whether the store is a database that a server holds, as PostgreSQL's."""
    return uri.startswith(("postgres", "mysql", "mssql"))


def _silence(uri: str) -> str | None:
    """Why a store does not answer; None where it does."""
    if is_server(uri):
        return _silence_of_server(uri)
    return _silence_of_database(uri) if is_database(uri) else None


def _silence_of_server(uri: str) -> str | None:
    import requests  # by which MLflow asks: it goes through the same proxies

    try:
        with warnings.catch_warnings(action="ignore"):
            # What it says counts for nothing here, and neither does who signed it: MLflow looks at that.
            status = requests.get(
                f"{uri.rstrip('/')}/health", timeout=ASK_SECONDS, verify=False, allow_redirects=False,
                cert=os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
            ).status_code  # fmt: skip
    except requests.Timeout:
        return f"no answer within {ASK_SECONDS} s"
    except (requests.RequestException, OSError) as error:
        return last_words(shown(" ".join(str(error).split())) or type(error).__name__)
    return f"status {status}" if status in _NOBODY_BEHIND else None


def last_words(told: str) -> str:
    """What an error of the network ends with: what comes before is whom it concerns."""
    found = re.search(r"\[Errno -?\d+\] [\w ]+|[Tt]imed? ?out[\w .=()]*|Remote end closed[\w ]*", told)
    return found[0].strip() if found else told[:200]


def _silence_of_database(uri: str) -> str | None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
    from sqlalchemy.pool import NullPool

    limit: dict[str, Any] = {} if uri.startswith("mssql") else {"connect_timeout": ASK_SECONDS}
    try:
        with create_engine(uri, poolclass=NullPool, connect_args=limit).connect():
            return None
    except OperationalError as error:
        return " ".join(str(error.orig).split())
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationError(
            f"{shown(uri)}, which MLFLOW_TRACKING_URI names, is a database whose driver is not installed ({error}); "
            "PostgreSQL's is psycopg2-binary: install it with pip"
        ) from error
    except (ArgumentError, ValueError) as error:  # SQLAlchemy's for what it cannot read, and a port's that is none
        raise ConfigurationError(_unknown(uri, "MLFLOW_TRACKING_URI")) from error
