"""Who may give orders to the servers of a workspace: those who know its secret, and pages of the servers' own.

Loopback is no fence: every user and every page in a browser of this machine reaches it. The secret lies in
``mlruns/prefect/secret``, which only its owner can read. It is handed on through the environment, never on a command
line, and reaches a browser behind the ``#`` of a link, a part that browsers send to no server.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from filelock import FileLock

from tasks.errors import ServerError
from tasks.workspace import write_whole

USER = "headstart"
NAMES = ("127.0.0.1", "localhost", "[::1]")
LOGIN = "/headstart"

# Each variable by which Prefect's clients find a server, and the mark that holds the same value where headstart chose
# it: so what the user exported is known, and a value inherited from a process of another workspace is not used.
MARKS = {"PREFECT_API_URL": "HEADSTART_SERVER_URL", "PREFECT_API_AUTH_STRING": "HEADSTART_SERVER_AUTH"}

_WHOLE = re.compile(r"[\w-]{43}", re.ASCII)


def secret_of(home: Path) -> str:
    """Return the secret of a workspace; made when it is first asked for. `home` is its ``mlruns/prefect``.

    Raises:
        ServerError: the file cannot be read or written.
    """
    path = home / "secret"
    try:
        if known := _read(path):
            return known
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / "secret.lock"):
            return _read(path) or _make(path)
    except OSError as error:
        raise ServerError(
            f"{path} cannot be used ({error.strerror}): it opens this workspace's servers to the user whom it belongs "
            "to. Run as that user, or name a workspace of your own in HEADSTART_WORKSPACE"
        ) from error


def _read(path: Path) -> str | None:
    if not path.is_file():
        return None
    text = path.read_text(encoding="ascii", errors="replace")
    return text if _WHOLE.fullmatch(text) else None


def _make(path: Path) -> str:
    write_whole(path.with_name(".gitignore"), "*\n")
    secret = secrets.token_urlsafe(32)
    write_whole(path, secret, 0o600)
    return secret


def credentials(secret: str) -> str:
    """User and password as HTTP's basic authentication joins them."""
    return f"{USER}:{secret}"


def own_hosts(port: int) -> list[str]:
    """What a request to a server on this port of this machine says in ``Host``."""
    return [f"{name}:{port}" for name in NAMES] + (list(NAMES) if port == 80 else [])


def own_origins(port: int) -> list[str]:
    """What a browser says in ``Origin`` for pages of that server."""
    return [f"http://{host}" for host in own_hosts(port)]


def choose(url: str, secret: str) -> None:
    """Let this process and its children talk to a server of ours."""
    for name, value in {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": credentials(secret)}.items():
        os.environ[name] = os.environ[MARKS[name]] = value
    os.environ["PREFECT_CLIENT_CSRF_SUPPORT_ENABLED"] = "true"


def is_chosen(url: str) -> bool:
    """Whether an address is that of a server of ours which this process, or a parent of it, was told to talk to."""
    return bool(url) and url == os.environ.get(MARKS["PREFECT_API_URL"])


def chosen_secret(url: str) -> str | None:
    """The secret that the server at an address takes, where it is one that `choose` named; None: it is another's."""
    given = os.environ.get(MARKS["PREFECT_API_AUTH_STRING"], "")
    return given.removeprefix(credentials("")) or None if is_chosen(url) else None


def forget_chosen() -> None:
    """Drop what `choose` set, here or in a parent of this process; what the user exported stays."""
    for name, mark in MARKS.items():
        value = os.environ.pop(mark, None)
        if value is not None and os.environ.get(name) == value:
            del os.environ[name]


def server_settings(port: int, secret: str) -> dict[str, str]:
    """Prefect's settings for a server of ours, under the names that go before their synonyms."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": credentials(secret),
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(own_origins(port)),
    }
