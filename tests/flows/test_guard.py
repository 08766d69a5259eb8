"""Requests as foreign pages, other users and rebound names send them, to the real servers of a workspace."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from flows import console
from flows.runs.ui import Page, mlflow_page, prefect_page
from flows.servers.environment import settle
from flows.servers.server import ensure_server, stop_server
from tasks.workspace import Workspace
from tests.flows.asking import ask, client, credentials

FOREIGN = "http://evil.example"
# What a page may send without asking the server first (https://fetch.spec.whatwg.org/#simple-header), and JSON.
BODIES = {
    "json": {"json": {"name": "x"}},
    "text": {"content": json.dumps({"name": "x"}), "headers": {"Content-Type": "text/plain"}},
    "form": {"data": {"name": "x"}},
}
# Each is refused even to one who knows the secret.
FOREIGNERS = {
    "foreign origin": {"Origin": FOREIGN},
    "no origin that is told": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://127.0.0.1:1"},
    "own name over https": {"Origin": "https://{own}"},
    "foreign host": {"Host": "evil.example"},
    "foreign host with our port": {"Host": "evil.example:{port}"},
    "name that begins as ours": {"Host": "127.0.0.1.evil.example:{port}"},
    "our host at another port": {"Host": "localhost:1"},
    "picture in a foreign page": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "frame in a foreign page": {
        "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe",
    },
}  # fmt: skip


pytestmark = pytest.mark.slow
"""Both servers are started, which takes half a minute."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Page, Page]]:
    """A workspace with both servers: its Prefect's page and its MLflow's."""
    workspace, before = Workspace(tmp_path_factory.mktemp("guarded workspace")), dict(os.environ)
    for name in before:
        if name.startswith(("PREFECT_", "HEADSTART_", "MLFLOW_TRACKING")):
            del os.environ[name]
    try:
        settle(workspace)
        url = ensure_server(workspace.root)
        with mlflow_page(workspace, 0) as mlflow:
            yield workspace, prefect_page(workspace, url), mlflow
    finally:
        stop_server(workspace.root)
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def deployment(pages: tuple[Workspace, Page, Page]) -> str:
    """Path of the request that would make a served pipeline run."""
    root = pages[0].root
    flow = ask(root, "/flows/", {"name": "served"})
    made = ask(root, "/deployments/", {"name": "nightly", "flow_id": flow["id"]})
    return f"/deployments/{made['id']}/create_flow_run"


def headers_of(case: str, page: Page) -> dict[str, str]:
    own = page.address.removeprefix("http://")
    return {name: value.format(own=own, port=own.split(":")[1]) for name, value in FOREIGNERS[case].items()}


def runs(root: Path) -> int:
    return len(ask(root, "/flow_runs/filter", {}))


def refused(response: httpx.Response) -> bool:
    return response.status_code in (401, 403) and response.headers.get("access-control-allow-origin") != FOREIGN


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("knows", ["nothing", "a wrong secret", "the secret"])
def test_a_foreign_page_cannot_make_a_served_pipeline_run(
    pages: tuple[Workspace, Page, Page], deployment: str, body: str, knows: str
) -> None:
    workspace, prefect, _ = pages
    known = {"nothing": None, "a wrong secret": ("headstart", "guess"), "the secret": credentials(workspace.root)}
    about: dict[str, Any] = dict(BODIES[body])
    about["headers"] = about.get("headers", {}) | {"Origin": FOREIGN}
    assert refused(httpx.post(f"{prefect.address}/api{deployment}", auth=known[knows], **about))
    assert runs(workspace.root) == 0


@pytest.mark.parametrize("case", FOREIGNERS)
def test_prefect_refuses_whoever_is_not_from_here_even_with_the_secret(
    pages: tuple[Workspace, Page, Page], deployment: str, case: str
) -> None:
    workspace, prefect, _ = pages
    with client(workspace.root) as asking:
        answer = asking.post(deployment, json={}, headers=headers_of(case, prefect))
        assert answer.status_code == 403 and "this machine's programs" in answer.text
        assert asking.get("/flows/filter", headers=headers_of(case, prefect)).status_code == 403
    assert runs(workspace.root) == 0


@pytest.mark.parametrize("given", [None, ("headstart", "guess"), ("headstart", ""), ("", "")])
def test_programs_without_the_secret_reach_nothing_but_health(
    pages: tuple[Workspace, Page, Page], deployment: str, given: tuple[str, str] | None
) -> None:
    workspace, prefect, mlflow = pages
    for path in (deployment, "/flow_runs/filter", "/admin/database/clear", "/admin/settings"):
        assert refused(httpx.post(f"{prefect.address}/api{path}", json={}, auth=given)), path
    assert httpx.get(f"{prefect.address}/api/admin/settings", auth=given).status_code == 401
    assert httpx.get(f"{prefect.address}/api/health").is_success
    for path in ("/", "/api/2.0/mlflow/experiments/get?experiment_id=0", "/static-files/x", "/version"):
        assert httpx.get(mlflow.address + path, auth=given).status_code == 401, path
    assert httpx.get(f"{mlflow.address}/health").is_success
    assert runs(workspace.root) == 0


def test_the_secret_alone_is_not_enough_to_change_prefect_without_a_token(
    pages: tuple[Workspace, Page, Page], deployment: str
) -> None:
    workspace, prefect, _ = pages
    answer = httpx.post(f"{prefect.address}/api{deployment}", json={}, auth=credentials(workspace.root))
    assert answer.status_code == 403 and "CSRF" in answer.text
    assert runs(workspace.root) == 0


def test_preflights_of_foreign_pages_are_not_granted(pages: tuple[Workspace, Page, Page]) -> None:
    _, prefect, mlflow = pages
    wanted = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    for address in (f"{prefect.address}/api/flow_runs/filter", f"{mlflow.address}/api/2.0/mlflow/experiments/create"):
        answer = httpx.options(address, headers=wanted)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("case", FOREIGNERS)
@pytest.mark.parametrize("body", BODIES)
def test_mlflow_refuses_whoever_is_not_from_here_even_with_the_secret(
    pages: tuple[Workspace, Page, Page], case: str, body: str
) -> None:
    workspace, _, mlflow = pages
    with httpx.Client(base_url=mlflow.address, auth=credentials(workspace.root)) as asking:
        for path in ("/api/2.0/mlflow/experiments/create", "/ajax-api/2.0/mlflow/experiments/create", "/graphql"):
            about: dict[str, Any] = dict(BODIES[body])
            about["headers"] = about.get("headers", {}) | headers_of(case, mlflow)
            assert asking.post(path, **about).status_code == 403
        found = asking.get("/api/2.0/mlflow/experiments/search", params={"max_results": 9}).json()["experiments"]
    assert [each["name"] for each in found] == ["Default"]


def test_own_pages_and_programs_with_the_secret_are_served(
    pages: tuple[Workspace, Page, Page], deployment: str
) -> None:
    workspace, prefect, mlflow = pages
    port = prefect.address.rpartition(":")[2]
    with client(workspace.root) as asking:
        for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
            own = {"Host": f"{name}:{port}", "Origin": f"http://{name.lower()}:{port}", "Sec-Fetch-Site": "same-origin"}
            assert asking.post("/flow_runs/filter", json={}, headers=own).is_success, name
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    page = httpx.get(f"{prefect.address}/dashboard", headers=link | {"Accept": "text/html"})
    assert page.is_success and "connect-src 'self'" in page.headers["content-security-policy"]
    assert httpx.get(mlflow.address, auth=credentials(workspace.root)).is_success
    # Last, because the others count runs.
    made = ask(workspace.root, deployment, {})
    assert ask(workspace.root, "/flow_runs/filter", {})[0]["id"] == made["id"]
    with client(workspace.root) as asking:
        assert asking.delete(f"/flow_runs/{made['id']}").is_success


@pytest.mark.parametrize(
    ("headers", "said", "outcome"),
    [
        ({}, "secret", "welcome"),
        ({}, "guess", "closed"),
        ({}, None, "closed"),
        ({"Origin": FOREIGN}, "secret", "refused"),
        ({"Origin": "null"}, "secret", "refused"),
        ({"Host": "evil.example"}, "secret", "refused"),
    ],
)
@pytest.mark.parametrize("path", ["/api/events/in", "/api/events/out", "/api/logs/out"])
def test_websockets_take_the_secret_and_no_foreign_page(
    pages: tuple[Workspace, Page, Page], path: str, headers: dict[str, str], said: str | None, outcome: str
) -> None:
    workspace, prefect, _ = pages
    host, port = prefect.address.removeprefix("http://").split(":")
    token = f"headstart:{credentials(workspace.root)[1]}" if said == "secret" else said
    there = socket.create_connection((host, int(port)), timeout=20)
    named, origin = f"ws://{headers.get('Host', host)}:{port}{path}", headers.get("Origin")
    happened = "welcome"
    try:
        with connect(named, sock=there, origin=origin, subprotocols=["prefect"]) as talk:  # type: ignore[arg-type,list-item]
            talk.send(json.dumps({"type": "auth", "token": token}))
            assert json.loads(talk.recv(timeout=20)) == {"type": "auth_success"}
    except InvalidStatus as error:
        assert error.response.status_code == 403
        happened = "refused"
    except ConnectionClosed:
        happened = "closed"
    assert happened == outcome


def test_a_link_carries_the_secret_where_no_server_sees_it(pages: tuple[Workspace, Page, Page]) -> None:
    workspace, *both = pages
    _, secret = credentials(workspace.root)
    for page in both:
        link = httpx.URL(page.link)
        assert link.fragment.partition("/")[0] == secret and secret not in str(link.copy_with(fragment=None))
        answer = httpx.get(page.link)
        assert answer.is_success and "location.hash" in answer.text and secret not in answer.text
        assert answer.headers["cache-control"] == "no-store"
    stored = [path for path in workspace.mlruns.rglob("*") if path.is_file() and path.name != "secret"]
    assert stored and not [path for path in stored if secret.encode() in path.read_bytes()]


def test_only_a_terminal_is_shown_the_links(
    pages: tuple[Workspace, Page, Page], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, *both = pages
    _, secret = credentials(workspace.root)
    console.show_pages(both, workspace)
    written = capsys.readouterr().out
    assert secret not in written and all(page.address in written for page in both)
    assert str(workspace.mlruns / "prefect" / "secret") in written
    monkeypatch.setattr(console, "out", Console(force_terminal=True, highlight=False))
    console.show_pages(both, workspace)
    written = capsys.readouterr().out
    assert all(page.link in written for page in both)


def test_the_page_of_the_users_own_mlflow_is_given_without_the_secret(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    with mlflow_page(workspace) as page:
        assert page.link == page.address == "https://mlflow.example"
    assert not workspace.mlruns.exists()
