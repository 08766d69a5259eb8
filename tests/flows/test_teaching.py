"""Teachers are found by their names before anything takes time, and told apart from what cannot teach."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from flows.checks import check_pipeline
from flows.config import PipelineConfig
from flows.lineage.restoring import restore_config
from flows.lineage.subject import Subject
from flows.teaching import find_teachers
from tasks.errors import ConfigurationError, RegistryError
from tasks.register.registry import CANDIDATE
from tasks.teachers import name_of
from tasks.workspace import Workspace
from tests.model.conftest import CLASSES, bundle  # noqa: F401
from tests.register.conftest import Fill, client, empty_store, fill  # noqa: F401


def student(*teachers: str, **train: Any) -> PipelineConfig:
    section = {"method": "distill", "teacher": list(teachers)} | train
    return PipelineConfig.model_validate(
        {"name": "small", "ingest": {"source": {"embedded": "digits"}}, "train": section}
    )


@pytest.fixture
def birds(client: MlflowClient, bundle: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A registered model of two versions, the first of other means; returns the folder of the second."""
    folder = tmp_path / "birds"
    shutil.copytree(bundle, folder / "artifacts" / "bundle")
    (folder / "MLmodel").touch()
    client.create_registered_model("birds")
    client.create_model_version("birds", folder.as_uri())
    tags = {CANDIDATE: "c0ffee", "data_version": "d.dir", "learned_from": "train,tune,val"}
    client.create_model_version("birds", folder.as_uri(), tags=tags)
    client.set_registered_model_alias("birds", "champion", "2")
    return folder


@pytest.mark.parametrize("which", ["birds", "birds@champion", "birds@2", "birds/2"])
def test_a_teacher_is_found_by_any_of_its_names(which: str, birds: Path, workspace: Workspace) -> None:
    [(teacher, head)] = find_teachers(student(which), workspace)
    assert name_of(teacher) == "birds@2" and teacher.fingerprint == "c0ffee" and teacher.classes == tuple(CLASSES)
    assert teacher.learned_from == ("train", "tune", "val") and teacher.data == "d.dir"
    assert head == birds / "artifacts" / "bundle" / "head.safetensors"
    assert teacher.extraction["backbone"] == "resnet_32px" and teacher.geometry["size"] == 32


def test_a_name_alone_is_the_champion_and_nobody_else(
    birds: Path,
    workspace: Workspace,
    client: MlflowClient,  # noqa: F811
) -> None:
    client.delete_registered_model_alias("birds", "champion")
    with pytest.raises(RegistryError, match=r"train\.teacher: model 'birds' has no version or alias 'champion'"):
        find_teachers(student("birds"), workspace)


def test_a_packaged_models_folder_teaches_as_well(bundle: Path, workspace: Workspace) -> None:  # noqa: F811
    [(teacher, head)] = find_teachers(student(str(bundle)), workspace)
    assert name_of(teacher) == str(bundle) and teacher.data == "" and head == bundle / "head.safetensors"
    [(again, _)] = find_teachers(student(str(bundle)), workspace)
    assert again.fingerprint == teacher.fingerprint


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("fish", "train.teacher: there is no registered model 'fish'; there are: birds"),
        ("birds@9", "train.teacher: model 'birds' has no version or alias '9'; versions: 1, 2"),
        ("birds@1", "train.teacher: version 1 of birds was made by other means"),
    ],
)
def test_who_cannot_teach_is_told_before_the_first_stage(
    which: str, told: str, birds: Path, workspace: Workspace
) -> None:
    with pytest.raises(RegistryError) as caught:
        check_pipeline(student(which), workspace)
    assert str(caught.value).startswith(told)


def test_a_teacher_that_lost_its_files_is_told(birds: Path, workspace: Workspace) -> None:
    (birds / "artifacts" / "bundle" / "head.safetensors").unlink()
    with pytest.raises(RegistryError, match=r"'birds' version 2 has lost its files \(head.safetensors in "):
        find_teachers(student("birds"), workspace)


def test_without_a_teacher_one_line_says_how_to_name_one(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match=r"train.teacher names nobody.*NAME@ALIAS"):
        check_pipeline(student(), workspace)


def test_a_student_is_made_again_with_its_teachers_as_they_lie_packaged(
    birds: Path, client: MlflowClient, workspace: Workspace, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    run = client.create_run("0", tags={"teachers": f"birds@2,{tmp_path}"}).info.run_id
    client.log_text(
        run, yaml.safe_dump({"name": "x", "train": {"method": "distill", "teacher": ["birds"]}}), "config.yaml"
    )
    subject = Subject(client, None, client.get_run(run))
    made = restore_config(subject, {"version": "v"}, ["builtin"], workspace, tmp_path / "config.yaml")
    taught = yaml.safe_load(made.read_text())["train"]["teacher"]
    assert taught == [str(birds / "artifacts" / "bundle"), str(tmp_path)]
