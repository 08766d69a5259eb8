"""The secret of a workspace: who can read it, who is told, and whose servers never hear of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from flows.servers import access
from flows.servers.environment import prepare_environment
from flows.servers.server import answers, ensure_server
from tasks.errors import ServerError
from tests.flows.hearing import Heard, heard

ROOT = Path(__file__).parents[2]
MAKE = "import sys, pathlib; from flows.servers.access import secret_of; print(secret_of(pathlib.Path(sys.argv[1])))"
# What a program does that a run starts: it asks the Prefect server that its environment names.
CHILD = """
import sys, pathlib
from flows.servers.server import answers, ensure_server
ensure_server(pathlib.Path(sys.argv[1]))
from prefect import get_client
get_client(sync_client=True).request("GET", "/hello")
"""


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(("PREFECT_", "HEADSTART_")) or name.lower() == "no_proxy":
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def server() -> Iterator[Heard]:
    """A server of the user's, which is not ours."""
    with heard() as server:
        yield server


def test_a_secret_is_made_once_for_its_owner_only_whoever_asks_first(tmp_path: Path) -> None:
    home = tmp_path / "mlruns" / "prefect"
    command = [sys.executable, "-c", MAKE, str(home)]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: subprocess.run(command, cwd=ROOT, capture_output=True, text=True), range(4)))
    [secret] = {each.stdout.strip() for each in made}
    assert len(secret) == 43 and access.secret_of(home) == (home / "secret").read_text() == secret
    assert (home / "secret").stat().st_mode & 0o777 == 0o600
    assert access.secret_of(tmp_path / "another") != secret


def test_git_does_not_see_the_secret(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    access.secret_of(tmp_path / "mlruns" / "prefect")
    seen = subprocess.run(["git", "status", "--short", "-uall"], cwd=tmp_path, capture_output=True, text=True)
    assert seen.stdout == ""


@pytest.mark.parametrize("broken", [b"", b"short", b"\xff" * 43, b"a" * 42 + b"\n", b"x" * 44])
def test_a_damaged_secret_is_made_anew(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "secret").write_bytes(broken)
    secret = access.secret_of(tmp_path)
    assert len(secret) == 43 and secret.encode() != broken
    assert (tmp_path / "secret").read_text() == secret
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(ServerError, match=r"secret cannot be used .*HEADSTART_WORKSPACE"):
        access.secret_of(tmp_path)


def test_the_users_server_never_hears_the_secret_of_a_parents_workspace(server: Heard, tmp_path: Path) -> None:
    access.choose("http://127.0.0.1:1/api", access.secret_of(tmp_path / "parent"))
    os.environ["PREFECT_API_URL"] = server.url
    assert ensure_server(tmp_path / "child") == os.environ["PREFECT_API_URL"] == server.url
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "child")], cwd=ROOT, capture_output=True)
    assert "/api/hello" in server.paths and server.authorizations == {None}


def test_the_users_own_credentials_for_their_server_stay(server: Heard, tmp_path: Path) -> None:
    os.environ |= {"PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": "me:mine"}
    ensure_server(tmp_path)
    assert os.environ["PREFECT_API_AUTH_STRING"] == "me:mine"
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, capture_output=True)
    assert "Basic bWU6bWluZQ==" in server.authorizations


def test_what_was_chosen_is_forgotten_and_what_was_exported_is_not() -> None:
    access.choose("http://127.0.0.1:1/api", "a")
    os.environ["PREFECT_API_AUTH_STRING"] = "me:mine"
    access.forget_chosen()
    assert "PREFECT_API_URL" not in os.environ and os.environ["PREFECT_API_AUTH_STRING"] == "me:mine"
    assert not [name for name in os.environ if name.startswith("HEADSTART_SERVER")]


@pytest.mark.parametrize(
    ("exported", "settled"),
    [
        ({}, {"NO_PROXY": "localhost,127.0.0.1"}),
        ({"NO_PROXY": "corp.example"}, {"NO_PROXY": "corp.example,localhost,127.0.0.1"}),
        ({"no_proxy": "a, localhost"}, {"no_proxy": "a,localhost,127.0.0.1"}),
        ({"NO_PROXY": "*"}, {"NO_PROXY": "*"}),
        ({"ALL_PROXY": "socks://127.0.0.1:9/"}, {"ALL_PROXY": "socks5://127.0.0.1:9/"}),
        ({"https_proxy": "socks5h://127.0.0.1:9"}, {"https_proxy": "socks5h://127.0.0.1:9"}),
    ],
)
def test_no_proxy_stands_between_this_machine_and_itself(
    tmp_path: Path, exported: dict[str, str], settled: dict[str, str]
) -> None:
    os.environ |= exported
    prepare_environment(tmp_path)
    assert {name: os.environ[name] for name in settled} == settled
    httpx.Client().close()  # it knows all of these


def test_a_server_that_got_the_port_of_ours_is_not_taken_for_it() -> None:
    with heard(status=401) as another:
        assert answers(another.url)  # the user's own, which asks for credentials
        access.choose(another.url, "secret")
        assert access.chosen_secret(another.url) == "secret" and access.chosen_secret("http://127.0.0.1:9/api") is None
        assert not answers(another.url)
