"""What a run is made by: code, libraries, machine. Enough to make it again, and to say later what was different."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import RunTag

from tasks.fingerprint import code_version, file_digest
from tasks.machine import usable_cores

CODE = Path(__file__).parents[2]
"""The folder that holds `tasks` and `flows`: a checkout's, or the package's of a wheel."""

FOLDER = "origin"
ENVIRONMENT, LOCK, CHANGES = (f"{FOLDER}/{name}" for name in ("environment.json", "lock.txt", "changes.diff"))
"""Artifacts of a run: the machine and the interpreter; every installed distribution, as pip reads it; and what differs
from the commit."""

SOURCES = ("tasks", "flows", "setup.py", "pyproject.toml", "requirements.lock")
"""What code is, of a checkout; all else may be data."""

LARGEST_FILE, LARGEST_DIFF = 2**20, 8 * 2**20
"""Bytes of a new file that is kept whole, and of all changes together."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Variables that change the order in which numbers are added up, and so their last digits."""


def log_origin(client: MlflowClient, run_id: str) -> None:
    """Keep with a run what made it."""
    code, changes = code_facts(CODE)
    tags = [
        RunTag(f"code.{key}", str(code[key])) for key in ("version", "commit", "dirty") if code.get(key) is not None
    ]
    client.log_batch(run_id, tags=tags)
    client.log_text(run_id, json.dumps({"code": code} | environment_facts(), indent=2), ENVIRONMENT)
    client.log_text(run_id, lock(), LOCK)
    if changes:
        with tempfile.TemporaryDirectory() as folder:  # bytes, not text
            (path := Path(folder) / Path(CHANGES).name).write_bytes(changes)
            client.log_artifact(run_id, str(path), FOLDER)


def code_facts(root: Path) -> tuple[dict[str, Any], bytes]:
    """What the code is, and its changes since the commit as `git apply` takes them; none where nothing is changed,
    or too much.

    Args:
        root: the folder that holds `tasks` and `flows`.
    """
    facts: dict[str, Any] = {"version": code_version(root / "tasks"), "flows": code_version(root / "flows")}
    if _git(root, "ls-files", "--error-unmatch", "tasks/records.py") is None:
        return facts | {"installed": _version("headstart")}, b""
    commit = _git(root, "rev-parse", "HEAD")
    new, changes = _changes(root)
    facts |= {"commit": commit.decode().strip() if commit else None, "dirty": bool(changes or new)}
    if new:
        facts["untracked"] = new
    if len(changes) > LARGEST_DIFF:
        return facts | {"changes": f"left out: {len(changes):,} bytes"}, b""
    return facts, changes


def environment_facts() -> dict[str, Any]:
    """The interpreter, the machine, and what decides how many threads there are."""
    return {
        "python": platform.python_version(), "implementation": platform.python_implementation(),
        "platform": platform.platform(), "machine": platform.machine(), "processor": _processor(),
        "cores": usable_cores(), "variables": {name: os.environ[name] for name in THREADS if name in os.environ},
    }  # fmt: skip


def compute_facts() -> dict[str, Any]:
    """Threads and device of the network, once a run has used one; nothing where all was found in caches."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    facts: dict[str, Any] = {"threads": torch.get_num_threads()}
    if torch.cuda.is_initialized():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def installed() -> dict[str, str]:
    """Versions of all installed distributions but headstart itself, by their names."""
    told = map(_name_and_version, distributions())
    found = {name: version for name, version in told if name and version}
    return {name: found[name] for name in sorted(found, key=str.lower) if name != "headstart"}


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """Both as the head of its metadata says them; all of several hundred descriptions would take a second to parse."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = dict(line.split(": ", 1) for line in text.partition("\n\n")[0].splitlines() if ": " in line)
    return head.get("Name", ""), head.get("Version", "")


def lock() -> str:
    """All installed distributions as pip reads them."""
    return "".join(f"{name}=={version}\n" for name, version in installed().items())


def read_lock(text: str) -> dict[str, str]:
    """Versions by name, as `lock` writes them."""
    return dict(line.split("==", 1) for line in text.splitlines() if "==" in line)


def _changes(root: Path) -> tuple[dict[str, dict[str, Any]], bytes]:
    """New source files, and the difference to the commit with them; Git's own index, where some of it may be staged,
    is neither looked at nor changed."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", **index)
        listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *SOURCES, **index) or b""
        new = {name: _described(root / name) for name in map(os.fsdecode, filter(None, listed.split(b"\0")))}
        if kept := [name for name, told in new.items() if told["kept"]]:
            _git(root, "add", "--intent-to-add", "--", *kept, **index)
        diff = _git(root, "diff", "--binary", "--no-ext-diff", "--no-textconv", "HEAD", "--", *SOURCES, **index)
        return new, diff or b""


def _described(path: Path) -> dict[str, Any]:
    """A new file: size, SHA-256, and whether it is kept with the changes."""
    size = path.stat().st_size
    return {"bytes": size, "sha256": file_digest(path), "kept": size <= LARGEST_FILE}


def _git(root: Path, *command: str, **environment: str) -> bytes | None:
    """What Git answers; None where it refuses, or is not there."""
    try:
        asked = subprocess.run(["git", *command], cwd=root, capture_output=True, env=os.environ | environment)
    except OSError:
        return None
    return asked.stdout if asked.returncode == 0 else None


def _version(name: str) -> str | None:
    return next((each.version for each in distributions(name=name)), None)


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
