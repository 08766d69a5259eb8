"""MLflow stores as teams have them, for as long as a test needs them: servers, databases, a bucket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
from moto.server import ThreadedMotoServer

POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"), key=lambda path: path.parent.name)
"""Where Debian puts PostgreSQL's programs."""

KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "eu-central-1"}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def tracking_server(
    folder: Path, store: str, artifacts: str, port: int = 0, **environment: str
) -> Iterator[str]:  # fmt: skip
    """`mlflow server` with proxied artifacts, at a free port if none is given; yields its address."""
    port = port or free_port()
    command = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "HEADSTART_"))}
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *command, "--backend-store-uri", store,
             "--artifacts-destination", artifacts],
            cwd=folder, env=inherited | environment, stdout=log, stderr=log,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address, server)
        yield address
    finally:
        server.terminate()
        server.wait()


def _await(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "mlflow server ended: see server.log"
        try:
            if httpx.get(f"{address}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("mlflow server does not answer")


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server with an empty database; yields the database's URL, with a password in it."""
    # Not below pytest's folders, which a user of PostgreSQL's own cannot enter.
    with tempfile.TemporaryDirectory() as folder:
        as_user = []
        if os.geteuid() == 0:  # which the server refuses to be started by
            shutil.chown(folder, "postgres", "postgres")
            as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
        port, data = free_port(), f"{folder}/data"
        (secret := Path(folder) / "secret").write_text("s3cret")
        secret.chmod(0o644)
        made = ["-D", data, "-U", "team", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        subprocess.run([*as_user, POSTGRES / "initdb", *made], check=True, capture_output=True, cwd=folder)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [*as_user, POSTGRES / "pg_ctl", "-D", data, "-w"]
        subprocess.run([*control, "-l", f"{folder}/log", "-o", options, "start"], check=True, cwd=folder)
        try:
            yield f"postgresql://team:s3cret@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)


@contextmanager
def bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """A bucket of moto's S3 server; yields its URL and the environment in which its clients find it."""
    name = f"models-{uuid4().hex[:8]}"  # moto keeps buckets as long as the process lives
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=address, region_name=KEYS["AWS_DEFAULT_REGION"], aws_access_key_id="any",
        aws_secret_access_key="any",
    )  # fmt: skip
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": KEYS["AWS_DEFAULT_REGION"]})
    try:
        yield f"s3://{name}", KEYS | {"MLFLOW_S3_ENDPOINT_URL": address, "AWS_ENDPOINT_URL": address}
    finally:
        server.stop()
