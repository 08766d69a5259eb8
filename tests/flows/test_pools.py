"""Job templates of work pools, filled in as Prefect's workers do, and held against the schemas of who takes them."""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessJobConfiguration

from flows.schedules.pools import MOUNT, PoolType, check_installed, job_template, job_variables, type_of
from tasks.errors import ConfigurationError
from tasks.workspace import Workspace


def filled(kind: PoolType, variables: dict[str, Any]) -> dict[str, Any]:
    """A job as Prefect's worker fills a template in: with its defaults, and a deployment's variables."""
    template = job_template(kind)
    schema = template["variables"] | {"additionalProperties": False}
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(variables, schema)
    known = template["variables"]["properties"].items()
    defaults = {name: about["default"] for name, about in known if about.get("default") is not None}
    job: dict[str, Any] = apply_values(template["job_configuration"], defaults | variables)
    return job


def test_a_process_begins_our_command_in_the_workspace(workspace: Workspace) -> None:
    variables = job_variables(PoolType.process, workspace, "headstart", None, 0)
    job = filled(PoolType.process, variables)
    assert job["command"].endswith("-P -m flows.cli execute") and job["working_dir"] == str(workspace.root)
    assert ProcessJobConfiguration(**job).env["HEADSTART_WORKSPACE"] == str(workspace.root)


def test_a_container_has_the_workspace_as_a_volume_of_the_same_name_and_our_command(workspace: Workspace) -> None:
    job = filled(PoolType.docker, job_variables(PoolType.docker, workspace, "registry/headstart:1", None, 0))
    assert (job["image"], job["command"]) == ("registry/headstart:1", "execute")
    root = str(workspace.root)
    assert job["volumes"] == [f"{root}:{root}"] and job["env"] == {"HEADSTART_WORKSPACE": root}


@pytest.mark.parametrize("kind", [PoolType.docker, PoolType.kubernetes])
def test_a_container_hears_of_the_teams_store_and_of_no_file_of_this_machine(
    kind: PoolType, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def env(**variables: str) -> dict[str, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        told = filled(kind, job_variables(kind, workspace, "headstart", "photos", 0))
        job = told["job_manifest"]["spec"]["template"]["spec"]["containers"][0] if "job_manifest" in told else told
        return {name: value for name, value in job["env"].items() if name != "HEADSTART_WORKSPACE"}

    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    assert env(MLFLOW_TRACKING_URI=workspace.tracking_uri, HEADSTART_ARTIFACTS="/srv/team") == {}
    team = {"MLFLOW_TRACKING_URI": "http://mlflow:5000", "HEADSTART_ARTIFACTS": "s3://team/models"}
    assert env(**team) == team and env(MLFLOW_REGISTRY_URI="file:./x") == team
    assert env(MLFLOW_TRACKING_URI="databricks")["MLFLOW_TRACKING_URI"] == "databricks"
    with pytest.raises(ConfigurationError, match="MLFLOW_REGISTRY_URI holds a password") as refused:
        env(MLFLOW_REGISTRY_URI="postgresql://team:s3cret@host/db")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_job_of_kubernetes_is_one_that_kubernetes_takes(workspace: Workspace, gpus: int) -> None:
    variables = job_variables(PoolType.kubernetes, workspace, "headstart", "photos", gpus)
    job = filled(PoolType.kubernetes, variables)
    manifest = job["job_manifest"]
    # What Prefect's worker does after filling in: env as a list, the command as arguments, nothing that is empty.
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    container["args"] = container["args"].split()
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == gpus
    assert manifest["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "photos"}
    assert container["volumeMounts"][0] == {"name": "workspace", "mountPath": MOUNT}


def test_kubernetes_without_a_volume_and_a_variable_that_nobody_knows_are_told(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="--claim NAME"):
        job_variables(PoolType.kubernetes, workspace, "headstart", None, 0)
    with pytest.raises(jsonschema.ValidationError, match="'claim' is a required property"):
        jsonschema.validate({}, job_template(PoolType.kubernetes)["variables"])


@pytest.mark.parametrize("name", ["my/pool", "prefect-gpu", "Prefect", "50%"])
def test_a_name_that_no_pool_may_have_is_told_before_a_server_is_asked(name: str) -> None:
    client: Any = None
    with pytest.raises(ConfigurationError, match="is no name for a pool"):
        type_of(client, name)


def test_a_pool_whose_workers_need_a_package_that_is_not_there_is_told() -> None:
    check_installed(PoolType.process)
    with pytest.raises(ConfigurationError, match="pip install prefect-kubernetes"):
        check_installed(PoolType.kubernetes)
