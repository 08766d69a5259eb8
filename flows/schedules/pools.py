"""Work pools: what a Prefect worker is to start for a run, by the kind of the pool.

A job template is Prefect's own, to which a Kubernetes pool adds what training needs: the claim of a volume that holds
the workspace, memory that data loaders share, and GPUs. Prefect checks a deployment's variables against its pool's
template; nothing else of ours runs in the worker.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from copy import deepcopy
from enum import StrEnum
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

import flows
from flows.stores.shared import NAMED
from tasks.errors import ConfigurationError
from tasks.workspace import Workspace, shown

EXECUTE = "execute"
"""The hidden command of `headstart` that does a run which a worker was given."""

MOUNT = "/workspace"
"""Where the image of our Dockerfile has its workspace, and a Job the volume that holds it."""

HANDED_ON = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", NAMED)
"""Variables that name what a team shares, of which a container hears by its deployment; a process has its worker's."""


class PoolType(StrEnum):
    """Where a worker starts runs."""

    process = "process"
    docker = "docker"
    kubernetes = "kubernetes"


_FROM = {PoolType.docker: "prefect-docker", PoolType.kubernetes: "prefect-kubernetes", PoolType.process: "prefect"}


def job_template(kind: PoolType) -> dict[str, Any]:
    """A pool's job template: ``job_configuration`` with blanks for ``variables``, a JSON schema."""
    # The file that Prefect brings along: its server would first ask the internet for a newer one.
    known = files("prefect.server.api").joinpath("collections_data/views/aggregate-worker-metadata.json")
    template = json.loads(known.read_text(encoding="utf-8"))[_FROM[kind]][kind.value]
    template = template["default_base_job_configuration"]
    return _with_volume(template) if kind is PoolType.kubernetes else template  # type: ignore[no-any-return]


def _with_volume(template: dict[str, Any]) -> dict[str, Any]:
    template = deepcopy(template)
    template["variables"]["properties"] |= {
        "claim": {"type": "string", "title": "Volume claim", "description": "Claim of the volume with the workspace."},
        "gpus": {"type": "integer", "minimum": 0, "default": 0, "title": "GPUs", "description": "GPUs of one run."},
    }
    template["variables"]["required"] = [*template["variables"].get("required", []), "claim"]
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    # A Job's own words, which Prefect's template has one level too low, where Kubernetes does not know them.
    for misplaced in ("parallelism", "completions"):
        pod.pop(misplaced, None)
    pod["volumes"] = [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": "{{ claim }}"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    [container] = pod["containers"]
    container["volumeMounts"] = [
        {"name": "workspace", "mountPath": MOUNT},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]
    container["resources"]["limits"]["nvidia.com/gpu"] = "{{ gpus }}"
    return template


def job_variables(kind: PoolType, workspace: Workspace, image: str, claim: str | None, gpus: int) -> dict[str, Any]:
    """What a deployment fills into its pool's template.

    Args:
        image: for containers.
        claim: of the volume that holds the workspace, in Kubernetes.

    Raises:
        ConfigurationError: Kubernetes without a claim; a container's store has a password in its address.
    """
    if kind is PoolType.process:
        # -P: a folder called flows where the process begins is not taken for ours.
        command = shlex.join([sys.executable, "-P", "-m", f"{flows.__name__}.cli", EXECUTE])
        env = {"HEADSTART_WORKSPACE": str(workspace.root)}
        return {"command": command, "env": env, "working_dir": str(workspace.root)}
    within = {"command": EXECUTE, "image": image}
    if kind is PoolType.docker:
        # Under its own name there, too: MLflow's addresses are absolute, and so may be paths of the configuration.
        root = str(workspace.root)
        env = {"HEADSTART_WORKSPACE": root} | _team_store()
        return within | {"env": env, "volumes": [f"{root}:{root}"], "auto_remove": True}
    if not claim:
        raise ConfigurationError(
            "a Kubernetes pool needs --claim NAME: the claim of the volume that holds the workspace"
        )
    return within | {"env": {"HEADSTART_WORKSPACE": MOUNT} | _team_store(), "claim": claim, "gpus": gpus}


def _team_store() -> dict[str, str]:
    """The variables of `HANDED_ON` that name a server or bucket."""
    named = {name: os.environ.get(name, "").strip() for name in HANDED_ON}
    told = {name: address for name, address in named.items() if _is_reached(address)}
    if hidden := [name for name, address in told.items() if shown(address) != address]:
        raise ConfigurationError(
            f"{hidden[0]} holds a password, and whoever sees Prefect's page could read it among the deployment's "
            "variables: export the address without it, and put MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or a database's whole address, into env of the pool's job template"
        )
    return told


def _is_reached(address: str) -> bool:
    """Whether an address means something in a container, as a file of this machine does not."""
    return address == "databricks" or ("://" in address and not address.startswith(("sqlite", "file:")))


def type_of(client: SyncPrefectClient, name: str) -> PoolType | None:
    """The kind of a pool; None where there is none of the name.

    Raises:
        ConfigurationError: it is of a kind that headstart does not know how to fill in, or no pool may have that name.
    """
    if name.lower().startswith("prefect") or set(name) & set("/%&<>"):
        raise ConfigurationError(
            f"{name!r} is no name for a pool: Prefect keeps those in prefect... to itself, and takes no / % & < >"
        )
    try:
        found = client.read_work_pool(name).type
    except ObjectNotFound:
        return None
    if found not in list(PoolType):
        raise ConfigurationError(
            f"the pool {name} is of type {found}; headstart deploys to {', '.join(PoolType)}: name another pool"
        )
    return PoolType(found)


def worker_needs(kind: PoolType) -> str | None:
    """The package that a pool's workers need beside Prefect, where it is not installed here."""
    package = _FROM[kind]
    return None if find_spec(package.replace("-", "_")) else package


def check_installed(kind: PoolType) -> None:
    """Do nothing where this installation can work for pools of a kind.

    Raises:
        ConfigurationError: it lacks Prefect's package for them.
    """
    if package := worker_needs(kind):
        raise ConfigurationError(
            f"workers of a {kind} pool need {package}, which is not installed: pip install {package}"
        )


def make_pool(client: SyncPrefectClient, name: str, kind: PoolType, limit: int) -> None:
    """A pool that takes `limit` runs at the same time."""
    template = job_template(kind)
    asked = WorkPoolCreate(name=name, type=kind.value, base_job_template=template, concurrency_limit=limit)
    client.create_work_pool(asked)
