"""Fixtures that several rooms of the tests share."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from tasks.workspace import Workspace

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
CHROMIUM = Path("/usr/bin/chromium")
POSTGRES = Path("/usr/lib/postgresql")
SSHD = Path(shutil.which("sshd") or "/usr/sbin/sshd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real photos and weights run wherever these are; a clone without them passes the rest."""
    for item in items:
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="../shared is not there"))
        if item.get_closest_marker("openssh") and not SSHD.is_file() and "CI" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="OpenSSH's server is not installed"))
        if item.get_closest_marker("chromium") and not CHROMIUM.is_file() and "CI" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="Chromium is not installed"))
        if item.get_closest_marker("postgresql") and not POSTGRES.is_dir() and "CI" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="PostgreSQL's server is not installed"))


@pytest.fixture
def shared() -> Path:
    """Folder of real images and weights beside the clone."""
    return SHARED


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace of its own."""
    root = tmp_path / "workspace"
    root.mkdir()
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace.find()


@dataclass
class OpenSSH:
    """A running OpenSSH server that lets this user in with a key."""

    url: str
    key: Path


@pytest.fixture
def openssh(tmp_path: Path) -> Iterator[OpenSSH]:
    """OpenSSH's server on a free port of this machine."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PidFile {folder}/pid\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nUsePAM no\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where the server locks its unprivileged half up
    server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    line = server.stderr.readline()
    assert "listening" in line, line
    yield OpenSSH(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", folder / "user")
    server.terminate()
    server.wait()


@pytest.fixture(autouse=True, scope="session")
def _nothing_phones_home() -> None:
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"):
        os.environ[name] = "true"
