"""What this machine offers a run."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from flows.servers.server import Server, answers, server_status
from flows.stores.remote import check_answer, check_known, is_database, is_server
from tasks.errors import HeadstartError
from tasks.extract.facts import facts
from tasks.extract.precision import choose_device, choose_precision
from tasks.extract.weights import BUILTIN_WEIGHTS
from tasks.ingest.pointer import current_version
from tasks.machine import free_memory, usable_cores
from tasks.wording import counted
from tasks.workspace import Workspace, shown

LIBRARIES = ("headstart", "torch", "torchvision", "timm", "lightning", "prefect", "mlflow", "dvc", "pandas", "pyarrow")


def examine(workspace: Workspace) -> list[tuple[str, str]]:
    """Machine, devices, weights, servers and versions as (what, value) pairs. Starts and changes nothing."""
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(next(folder for folder in (workspace.root, *workspace.root.parents) if folder.is_dir()))
    device = choose_device()
    checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
    downloaded = sorted(path.name for path in checkpoints.glob("*.pth")) if checkpoints.is_dir() else []
    server = server_status(workspace.root)
    free, total = free_memory() / 2**30, memory.total / 2**30
    size = f"{BUILTIN_WEIGHTS.stat().st_size / 1e6:.1f} MB" if BUILTIN_WEIGHTS.is_file() else "missing"
    return [
        ("machine", f"{platform.system()} {platform.machine()}, {usable_cores()} cores"),
        ("memory", f"{free:.1f} of {total:.1f} GiB free"),
        ("python", f"{platform.python_version()} ({sys.prefix})"),
        ("devices", ", ".join(_devices())),
        ("a run takes", f"{device}, {str(choose_precision('auto', device)).removeprefix('torch.')}"),
        ("workspace", f"{workspace.root}, {disk.free / 2**30:.0f} GiB free, {_writable(workspace)}"),
        ("dataset", current_version(workspace) or "none yet"),
        ("weights", f"builtin: {size}"),
        ("", f"imagenet: {', '.join(downloaded) if downloaded else 'none'} in {checkpoints}"),
        ("backbones", f"{len(facts()):,}: headstart backbones lists them"),
        ("prefect", _prefect(server)),
        ("mlflow", _mlflow(workspace.tracking_uri, os.environ.get("MLFLOW_REGISTRY_URI", "").strip())),
        ("libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)),
    ]


def _prefect(server: Server | None) -> str:
    if chosen := os.environ.get("PREFECT_API_URL"):
        return f"{shown(chosen)}, which {'answers' if answers(chosen) else 'does not answer'}"
    return server.dashboard if server else "no server runs; a run starts one"


def _mlflow(uri: str, registry: str) -> str:
    try:
        check_known(uri, "MLFLOW_TRACKING_URI")
        if registry:
            check_known(registry, "MLFLOW_REGISTRY_URI")
        check_answer(uri)
    except HeadstartError as error:
        return str(error)
    return f"{shown(uri)}, which answers" if is_server(uri) or is_database(uri) else shown(uri)


def _devices() -> list[str]:
    found = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, f"cpu ({torch.backends.cpu.get_cpu_capability()}, {counted(torch.get_num_threads(), 'thread')})"]


def _writable(workspace: Workspace) -> str:
    if not workspace.root.is_dir():
        return "not there yet"
    if not (workspace.mlruns.is_dir() and workspace.cache.is_dir()):  # a run would make them
        return "writable" if workspace.is_writable else "may only be read"
    try:
        workspace.check_writable()
        return "writable"
    except HeadstartError as error:
        return str(error)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
