"""Processes of their own that change a registry: many at once, or killed in the middle of it.

They are forks of this one, made before it has spoken to MLflow, whose import takes seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tasks.errors import RegistryError
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet, Preprocessed
from tasks.register import moves
from tasks.register.client import Registry
from tasks.register.config import RegisterConfig
from tasks.register.door import register_candidate
from tasks.register.own import OwnStore
from tasks.register.turns import turn
from tasks.workspace import Workspace, sqlite_file

ROOT = Path(__file__).parent.parent.parent
CHANGES = ("create_", "set_registered", "delete_")
"""How the names begin of what changes a store, but for signs of life, whose number depends on the time."""


def start(uri: str, *what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.register.apart", uri, *what]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(uri: str, *what: str) -> str:
    process = start(uri, *what)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def opened(uri: str, way: str) -> Registry:
    """A store by MLflow, or a file by its rows."""
    file = sqlite_file(uri)
    return OwnStore(file, uri, patience=60) if way == "rows" and file else MlflowClient(uri)


def crowd(uri: str, name: str, versions: Iterable[str]) -> None:
    """A promotion of each version, as in ``3`` or ``3:rows``, all at once; who is told that another was faster says it
    again."""
    asked = [version.partition(":") for version in versions]
    _fork_all([lambda number=number, way=way: _insist(opened(uri, way), name, int(number)) for number, _, way in asked])


def _insist(client: Registry, name: str, version: int) -> None:
    told = 0
    while True:
        try:
            moves.promote(client, name, version, f"told {told} times")
            return
        except RegistryError as error:
            assert "moved meanwhile" in str(error), error
            told += 1


def dying(uri: str, name: str, most: int, way: str) -> None:
    """Promotions of version 2 of models ``name``-0, -1, ..., each killed after so many changes to the store."""
    _fork_all([lambda after=after: _die(opened(uri, way), f"{name}-{after}", after) for after in range(most)])


def register(uri: str, name: str, files: Iterable[str]) -> None:
    """A registration of what each file, made of the records of the stages before, hands on; all at once."""
    _fork_all([lambda file=file: _register(MlflowClient(uri), name, Workspace.find(), file) for file in files])


def _register(client: MlflowClient, name: str, workspace: Workspace, file: str) -> None:
    kinds = (Dataset, Preprocessed, FeatureSet, Candidate, Evaluation)
    records: list[Any] = json.loads((workspace.root / file).read_text())
    handed_on = [kind.model_validate(record) for kind, record in zip(kinds, records, strict=True)]
    run = client.create_run("0")
    register_candidate(RegisterConfig(), name, run.info.run_id, *handed_on, workspace)


def hold(uri: str, name: str) -> None:
    """Have the turn until killed."""
    with turn(MlflowClient(uri), name):
        print("held", flush=True)
        time.sleep(600)


def _die(client: Registry, name: str, after: int) -> None:
    count = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            if count == after:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return change(*arguments, **named)

        return made

    for method in dir(client):
        if method.startswith(CHANGES):
            object.__setattr__(client, method, counted(getattr(client, method)))
    moves.promote(client, name, 2, "a try", "ada")


def _fork_all(works: list[Callable[[], object]]) -> None:
    children = []
    for work in works:
        if child := os.fork():
            children.append(child)
            continue
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(status not in (0, signal.SIGKILL) for status in statuses):
        sys.exit(f"ended with {statuses}")


if __name__ == "__main__":
    uri, what, name, *more = sys.argv[1:]
    match what:
        case "crowd":
            crowd(uri, name, more)
        case "register":
            register(uri, name, more)
        case "dying":
            dying(uri, name, int(more[0]), more[1])
        case "hold":
            hold(uri, name)
