"""A workspace's own store without MLflow: the same rows, the same answers, and where it is left to MLflow."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.causes import explain
from tasks.errors import StorageError
from tasks.register import moves, store
from tasks.register.approval import APPROVAL, PENDING
from tasks.register.client import Declined, refusals
from tasks.register.own import OwnStore
from tasks.register.registry import all_models, missing_files
from tasks.register.rows import REVISION
from tasks.register.store import connect, open_registry
from tasks.workspace import Workspace
from tests.register.conftest import Fill, own_store

ROOT = Path(__file__).parent.parent.parent
TABLES = (
    "registered_models", "registered_model_tags", "registered_model_aliases", "model_versions", "model_version_tags",
)  # fmt: skip
UNNEEDED = {"mlflow", "sqlalchemy", "alembic", "prefect", "pandas", "numpy", "pyarrow", "torch", "sklearn"}

CHANGES: list[Callable[[Any], Any]] = [
    lambda registry: registry.create_registered_model("birds", description="of a garden"),
    lambda registry: registry.create_registered_model("empty"),
    lambda registry: registry.create_model_version("birds", "file:///a", tags={"a": "1", "born": 7}, description="one"),
    lambda registry: registry.create_model_version("birds", "file:///b", tags={}, await_creation_for=0),
    lambda registry: registry.create_model_version("birds", "file:///c", tags={"b": "'\"\\ 数"}),
    lambda registry: registry.set_registered_model_alias("birds", "champion", "1"),
    lambda registry: registry.set_registered_model_alias("birds", "challenger", "3"),
    lambda registry: registry.set_registered_model_alias("birds", "champion", "2"),
    lambda registry: registry.set_registered_model_alias("birds", "blue", "2"),
    lambda registry: registry.delete_registered_model_alias("birds", "blue"),
    lambda registry: registry.delete_registered_model_alias("birds", "blue"),
    lambda registry: registry.set_registered_model_tag("birds", "moving", "first"),
    lambda registry: registry.set_registered_model_tag("birds", "moving", "second"),
    lambda registry: registry.set_registered_model_tag("birds", "stays", ""),
    lambda registry: registry.delete_registered_model_tag("birds", "moving"),
    lambda registry: registry.delete_registered_model_tag("birds", "moving"),
    lambda registry: registry.set_model_version_tag("birds", "1", "a", "2"),
    lambda registry: registry.set_model_version_tag("birds", "2", "alive", "0"),
    lambda registry: registry.update_model_version("birds", "2", "two"),
    lambda registry: registry.delete_model_version("birds", "3"),
    lambda registry: registry.create_model_version("birds", "file:///d", tags={"a": "2"}),
]
"""Everything that moves do to a registry, with what is done twice."""

MISTAKES: list[Callable[[Any], Any]] = [
    lambda registry: registry.get_registered_model("bird"),
    lambda registry: registry.get_registered_model(""),
    lambda registry: registry.set_registered_model_tag("bird", "a", "b"),
    lambda registry: registry.set_registered_model_tag("birds", "a", "b" * 100_001),
    lambda registry: registry.create_model_version("bird", "file:///a", tags={}),
    lambda registry: registry.get_model_version("birds", "3"),
    lambda registry: registry.get_model_version("birds", "²"),
    lambda registry: registry.get_model_version_download_uri("birds", "9"),
    lambda registry: registry.get_model_version_by_alias("birds", "blue"),
    lambda registry: registry.get_model_version_by_alias("bird", "champion"),
    lambda registry: registry.set_registered_model_alias("birds", "champion", "3"),
    lambda registry: registry.set_model_version_tag("birds", "3", "a", "b"),
    lambda registry: registry.delete_model_version("birds", "3"),
]
"""What is asked for in vain."""


@pytest.fixture
def own(client: MlflowClient, workspace: Workspace) -> OwnStore:
    return own_store(workspace)


def rows(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What is in the tables of registered models, with the order of times in place of times."""
    with closing(sqlite3.connect(file)) as database:
        database.row_factory = sqlite3.Row
        found = {table: [dict(row) for row in database.execute(f"SELECT * FROM {table}")] for table in TABLES}
    times = sorted({row[key] for table in found.values() for row in table for key in row if key.endswith("_time")})
    for table in found.values():
        for row in table:
            row |= {key: times.index(row[key]) for key in row if key.endswith("_time")}
    return {name: sorted((tuple(row.values()) for row in table), key=repr) for name, table in found.items()}


def one_by_one(changes: list[Callable[[Any], Any]]) -> Iterator[Callable[[Any], Any]]:
    for change in changes:
        yield change
        time.sleep(0.002)  # so that no two have the same time


def version_as_told(version: Any) -> tuple[Any, ...]:
    return (
        version.name, version.version, version.creation_timestamp, version.description, version.run_id, version.tags,
    )  # fmt: skip


def model_as_told(model: Any) -> tuple[Any, ...]:
    return model.name, model.creation_timestamp, model.tags, model.aliases


def test_each_change_leaves_the_rows_that_mlflow_leaves(own: OwnStore, client: MlflowClient, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    shutil.copyfile(own.file, other)
    light = OwnStore(other, f"sqlite:///{other}", patience=1)
    for change in one_by_one(CHANGES):
        change(client)
        change(light)
        time.sleep(0.002)
        assert rows(other) == rows(own.file)
    assert len(rows(other)["model_versions"]) == 4


def test_what_is_asked_is_answered_as_mlflow_answers(own: OwnStore, client: MlflowClient) -> None:
    for change in one_by_one(CHANGES):
        change(client)
    client.register_prompt("greeting", "hello")  # which MLflow keeps among registered models
    assert list(map(model_as_told, own.search_registered_models())) == list(
        map(model_as_told, client.search_registered_models())
    )
    assert model_as_told(own.get_registered_model("birds")) == model_as_told(client.get_registered_model("birds"))
    for wanted in ("name = 'birds'", "name='birds'", "name = 'birds' and tags.a = '2'", 'name = "it\'s"', "name = ''"):
        found = list(map(version_as_told, own.search_model_versions(wanted)))
        assert found == list(map(version_as_told, client.search_model_versions(wanted))), wanted
    for which in ("1", "2", "4"):
        asked = [registry.get_model_version("birds", which) for registry in (own, client)]
        assert version_as_told(asked[0]) == version_as_told(asked[1])
        assert own.get_model_version_download_uri("birds", which) == client.get_model_version_download_uri(
            "birds", which
        )
    for alias in ("champion", "latest"):
        told = [registry.get_model_version_by_alias("birds", alias).version for registry in (own, client)]
        assert told[0] == told[1]
    with pytest.raises(ValueError, match="no name and tag"):
        own.search_model_versions("name = 'birds' or 1 = 1")


def test_what_is_asked_in_vain_is_declined_as_mlflow_declines_it(own: OwnStore, client: MlflowClient) -> None:
    for change in CHANGES:
        change(own)
    before = rows(own.file)
    for mistake in MISTAKES:
        codes = []
        for registry in (own, client):
            with pytest.raises(refusals()) as raised:
                mistake(registry)
            codes.append(raised.value.error_code)
        assert codes[0] == codes[1] or mistake is MISTAKES[1]  # a name is not looked at where none can be it
    with pytest.raises(Declined):
        own.get_model_version("birds", "9" * 30)
    with pytest.raises(Declined):
        own.create_registered_model("birds")
    assert rows(own.file) == before


def test_the_schema_that_is_known_is_the_installed_mlflows(own: OwnStore, empty_store: Path) -> None:
    with closing(sqlite3.connect(empty_store)) as database:
        made = database.execute("SELECT version_num FROM alembic_version").fetchall()
    assert made == [(REVISION,)], "hold the rows of tasks/register/rows.py against this MLflow's, then name its schema"
    assert own.is_known


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE alembic_version SET version_num = '0123456789ab'",
        "DROP TABLE alembic_version",
        "INSERT INTO alembic_version VALUES ('0123456789ab')",
        "INSERT INTO registered_models (name, workspace) VALUES ('other', 'team')",
        "ALTER TABLE webhooks RENAME TO hooks",
    ],
)
def test_a_file_with_anything_that_is_not_known_is_left_to_mlflow(
    own: OwnStore, workspace: Workspace, change: str
) -> None:
    assert isinstance(open_registry(workspace), OwnStore)
    with closing(sqlite3.connect(own.file)) as database:
        database.execute(change)
        database.commit()
    assert not own.is_known


def test_what_is_left_to_mlflow_ends_the_same(
    own: OwnStore, client: MlflowClient, workspace: Workspace, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, "birds", 2)
    moves.promote(open_registry(workspace), "birds", 1, "by its rows", "ada")
    with monkeypatch.context() as changed:
        changed.setattr("tasks.register.rows.REVISION", "of another MLflow")
        other = open_registry(workspace)
        assert isinstance(other, MlflowClient)
        moves.promote(other, "birds", 2, "by MLflow", "ada")
    back = moves.rollback(open_registry(workspace), "birds", "by its rows", "bob")
    assert (back.version, back.previous) == (1, 2)
    by_rows, by_mlflow = (moves.full_history(registry, "birds") for registry in (own, client))
    assert by_rows == by_mlflow and [move.why for move in by_rows] == ["by its rows", "by MLflow", "by its rows"]
    assert not own.search_model_versions("name = '.headstart-turns'")


@pytest.mark.parametrize("name", store.ELSEWHERE)
def test_models_that_lie_elsewhere_are_asked_for_there(
    own: OwnStore, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert store.own_registry(workspace) == own.file
    monkeypatch.setenv(name, "true")
    assert store.own_registry(workspace) is None


def test_a_store_that_is_another_than_the_workspaces_own_is_opened_by_mlflow(
    own: OwnStore, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "shared.db"
    shutil.copyfile(own.file, shared)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    assert isinstance(open_registry(workspace), MlflowClient)


def test_a_file_that_is_held_too_long_or_may_not_be_written_is_one_line(own: OwnStore, workspace: Workspace) -> None:
    own.create_registered_model("birds")
    hurried = OwnStore(own.file, own.tracking_uri, patience=0.1)
    with closing(sqlite3.connect(own.file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Declined) as held:
            hurried.set_registered_model_tag("birds", "waited", "no")
        with pytest.raises(Declined, match="database is locked"):  # MLflow would wait in vain, too
            print(hurried.is_known)
    for error in (held.value, Declined("attempt to write a readonly database", "TEMPORARILY_UNAVAILABLE")):
        told = explain(error, workspace)
        assert isinstance(told, StorageError) and str(own.file) in str(told) and len(str(told).splitlines()) == 1


def test_nothing_of_a_change_that_breaks_off_is_kept(own: OwnStore) -> None:
    own.create_registered_model("birds")
    before = rows(own.file)
    with pytest.raises(Declined, match="100,001 signs"):
        own.create_model_version("birds", "file:///a", tags={"a": "1", "b": "x" * 100_001})
    assert rows(own.file) == before


def test_files_that_lie_here_are_looked_for_without_mlflow_as_with_it(
    own: OwnStore, client: MlflowClient, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, "birds", 3)
    files = tmp_path / "files" / "birds"
    (files / "1" / "deep").mkdir()
    (files / "1" / "MLmodel").rename(files / "1" / "deep" / "MLmodel")  # as a model has them
    (files / "2" / "code").mkdir()
    (files / "2" / "MLmodel").rename(files / "2" / "code" / "MLmodel")
    shutil.rmtree(files / "3")
    versions = [own.get_model_version("birds", number) for number in "123"]
    told = [missing_files(own, version) for version in versions]
    monkeypatch.setattr("tasks.register.registry._on_this_machine", lambda folder: None)
    assert told == [missing_files(client, version) for version in versions]
    assert told[0] is None and str(told[1]).startswith("MLmodel in file:") and "backbone.safetensors" in str(told[2])


def test_commands_that_move_an_alias_or_tell_of_moves_import_nothing_that_takes_seconds(
    client: MlflowClient, workspace: Workspace, fill: Fill
) -> None:
    fill(client, "birds", 4)
    for number in "34":
        client.set_model_version_tag("birds", number, APPROVAL, PENDING)
    commands = [
        "models birds --pending", "promote birds 1", "promote birds 2 -m better", "rollback birds",
        "reject birds 3 -m no", "approve birds 4 -m yes", "models birds --history", "models birds --at 2999-01-01",
        "models birds",
    ]  # fmt: skip
    code = (
        f"import sys; from flows.cli import app; [app(each.split(), standalone_mode=False) for each in {commands}];"
        f"sys.exit(' '.join({UNNEEDED} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    environment = os.environ | {"HEADSTART_WORKSPACE": str(workspace.root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "\n"), "nothing is written but which modules were imported"
    assert [move.version for move in moves.history(connect(workspace), "birds")] == [1, 2, 1, 4]
    assert [model.name for model in all_models(client)] == ["birds"]
