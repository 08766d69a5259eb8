"""A team's server that is gone, that hangs or comes back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows.stores import remote
from flows.stores.remote import check_answer, check_known
from tasks.errors import ConfigurationError, ServerError
from tasks.workspace import shown


@contextmanager
def answering(status: int, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [200, 401, 404])
def test_a_server_that_says_anything_is_there(status: int) -> None:
    with answering(status) as address:
        check_answer(f"{address}/")


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_with_nothing_behind_it_is_no_server(status: int) -> None:
    with answering(status) as address, pytest.raises(ServerError, match=f"answers at {address} .status {status}"):
        check_answer(address)


def test_one_that_takes_a_call_and_is_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ASK_SECONDS", 0.3)
    told = pytest.raises(ServerError, match=r"no answer within 0\.3 s")
    with socket.create_server(("127.0.0.1", 0)) as silent, told:
        check_answer(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_the_way_to_a_server_is_the_one_that_mlflow_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)  # as commands of other tests have set it for this process
    with answering(200) as address:
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
        with pytest.raises(ServerError, match=f"answers at {address} .*refused"):
            check_answer(address)
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        check_answer(address)


def test_one_that_comes_back_is_waited_for() -> None:
    with answering(200) as address:
        port = int(address.rpartition(":")[2])
    with pytest.raises(ServerError, match=f"no MLflow server answers at {address} "):
        check_answer(address)
    done = threading.Event()

    def come_back() -> None:
        time.sleep(0.5)
        with answering(200, port):
            done.wait(60)

    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        check_answer(address, patience=20)
    finally:
        done.set()
        thread.join()


def test_a_database_that_is_gone_is_told_at_once_and_without_its_password() -> None:
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"no database answers at postgresql://team:\*\*\*@127\.0\.0\.1:9/db") as told:
        check_answer("postgresql://team:s3cret@127.0.0.1:9/db")
    assert "s3cret" not in str(told.value) and len(str(told.value).splitlines()) == 1
    assert time.monotonic() - began < 10


def test_a_driver_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"driver is not installed \(No module named 'MySQLdb'\)"):
        check_answer("mysql://team:s3cret@127.0.0.1/db")


def test_a_database_whose_address_is_none_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"is 'postgresql://team:\*\*\*@host:port/db', which is no store"):
        check_answer("postgresql://team:s3cret@host:port/db")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("localhost:5000", r"no store that is known: write http://localhost:5000, sqlite:///FILE or postgresql://"),
        ("team.example.org:443/mlflow", r"write http://team\.example\.org:443/mlflow, "),
        ("file:./store", r"for MLflow keeps nothing in plain folders any more: write http://HOST:PORT, sqlite:///"),
        ("./store", "any more"),
        ("http:/localhost:5000", "write http://HOST:PORT"),
        ("sqlite://mlflow.db", "write http://HOST:PORT, sqlite:///FILE"),
        ("postgres://team:s3cret@host/db", r"'postgres://team:\*\*\*@host/db', which .* or postgresql://USER"),
        ("ftp://host", "known: write"),
    ],
)
def test_what_names_no_store_is_one_line_with_what_does(uri: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^MLFLOW_REGISTRY_URI is .*{told}") as raised:
        check_known(uri, "MLFLOW_REGISTRY_URI")
    assert len(str(raised.value).splitlines()) == 1


def test_stores_that_mlflow_has_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    databases = ["mysql+pymysql://a:b@host/db", "postgresql://a:b@host/db", "sqlite:///mlruns/mlflow.db"]
    for uri in ("HTTP://host", "https://host/x", *databases, "databricks", "databricks://me", "file:./store", "store"):
        check_known(uri, "MLFLOW_TRACKING_URI")


def test_a_store_in_a_file_is_not_asked() -> None:
    check_answer("sqlite:////nowhere/at/all.db")


def test_addresses_without_passwords_stay_as_they_are() -> None:
    assert shown("http://mlflow:5000/x") == "http://mlflow:5000/x"
    assert shown("https://me:a@b.c@mlflow/x") == "https://me:***@mlflow/x"
    assert shown("http://mlflow:5000/a@b") == "http://mlflow:5000/a@b"
    assert shown("http://me:s3cret@[mlflow/x") == "http://me:***@[mlflow/x"
