"""Asking a workspace's Prefect server, as its own clients do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from flows.servers.access import USER


def address(root: Path) -> str:
    """The REST API of the server that runs for a workspace."""
    return str(json.loads((root / "mlruns/prefect/server.json").read_text())["url"])


def credentials(root: Path) -> tuple[str, str]:
    """User and password of a workspace's servers."""
    return USER, (root / "mlruns/prefect/secret").read_text()


@contextmanager
def client(root: Path) -> Iterator[httpx.Client]:
    """A client with the workspace's secret and a token against forged requests."""
    with httpx.Client(base_url=address(root), auth=credentials(root), timeout=30) as asking:
        token = asking.get("/csrf-token", params={"client": "tests"}).raise_for_status().json()["token"]
        asking.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"})
        yield asking


def post(asking: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    """POST a body, again while the server says that it is busy, as Prefect's own clients do."""
    for _ in range(5):
        if (answer := asking.post(path, json=body)).status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(1)
    return answer


def ask(root: Path, path: str, body: dict[str, Any]) -> Any:
    """POST a body to a path of the API; the answer's JSON."""
    with client(root) as asking:
        return post(asking, path, body).raise_for_status().json()
