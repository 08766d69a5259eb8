"""Versions as lists show them: read without MLflow, they are what MLflow says."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from tasks.register.listing import Listed, ask_versions, read_versions
from tasks.register.registry import all_models
from tasks.register.series import Series, draw
from tasks.register.tags import DATA, HELD_OUT, PREFIX, SCORE, entry_of, number_of
from tasks.workspace import Workspace


@pytest.fixture
def registry(client: MlflowClient, workspace: Workspace) -> Workspace:
    """Models with versions of several kinds: with aliases, without tags, of old, deleted; one without versions."""
    run = client.create_run(client.create_experiment("birds")).info.run_id
    client.log_batch(run, metrics=[Metric("test/accuracy", 0.875, 1, 0), Metric("val/accuracy", 0.5, 1, 0)])
    for name in ("digits", "birds", "empty"):
        client.create_registered_model(name)
    client.create_model_version("birds", "file:///nowhere", run_id=run)
    client.create_model_version("digits", "file:///nowhere", tags={DATA: "12ab.dir", SCORE: "0.5"})
    client.create_model_version("digits", "file:///nowhere", tags={HELD_OUT: "0.9 (test)", "why": 'says "no", 数'})
    client.create_model_version("digits", "file:///nowhere", tags={SCORE: "0.7"})
    client.delete_model_version("digits", "3")
    client.create_model_version("digits", "file:///nowhere", run_id="0" * 32)
    client.register_prompt("greeting", "Hello, {{name}}")
    for alias, version in (("champion", "2"), ("blue", "2"), ("challenger", "1")):
        client.set_registered_model_alias("digits", alias, version)
    draw(client, Series(f"{PREFIX}series", "", "headstart:/"), {"entry": "1"}, "digits")
    return workspace


def test_what_is_read_without_mlflow_is_what_mlflow_says(registry: Workspace, client: MlflowClient) -> None:
    assert registry.own_store
    found = read_versions(registry.own_store)
    assert found == list(ask_versions(client, all_models(client)))
    assert [(each.name, each.number) for each in found] == [("birds", 1), ("digits", 4), ("digits", 2), ("digits", 1)]
    assert [each.held_out for each in found] == ["0.8750 (test)", "", "0.9 (test)", ""]
    assert found[2].aliases == ("blue", "champion") and found[2].tags["why"] == 'says "no", 数'


def test_a_list_of_all_models_costs_no_import_of_mlflow(registry: Workspace) -> None:
    listed = "from flows.commands.models import versions_table; from tasks.workspace import Workspace; import sys;" + (
        "assert versions_table(Workspace.find()).row_count == 4; assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", listed], check=True, env={"HEADSTART_WORKSPACE": str(registry.root)})


def test_a_store_with_other_tables_is_left_to_mlflow(registry: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.commands.models import versions_table

    monkeypatch.setattr("tasks.register.listing.VERSIONS", "SELECT a FROM b WHERE ? + ? + ? + ?")
    assert versions_table(registry).row_count == 4


@pytest.mark.parametrize("text", ["n/a", "0,98", "nan"])
def test_a_score_that_somebody_has_edited_is_shown_as_it_is(
    registry: Workspace, client: MlflowClient, text: str
) -> None:
    from flows.commands.models import versions_table

    client.set_model_version_tag("digits", "1", SCORE, text)
    [scores] = [list(column.cells) for column in versions_table(registry).columns if column.header == "val"]
    assert scores == ["", "", "", text]


def test_numbers_and_entries_of_tags_are_read_or_are_none() -> None:
    tags = {"a": "0.5", "b": "n/a", "c": "", "d": "inf", "e": '{"x": 1}', "f": "[1]"}
    assert [number_of(tags, name) for name in "abcdz"] == [0.5, None, None, None, None]
    assert [entry_of(tags, name) for name in "efbcz"] == [{"x": 1}, None, None, None, None]


@pytest.mark.parametrize(
    ("backbone", "lines"), [("resnet_32px/builtin", 2), ("vit/imagenet + " * 9 + "vgg/imagenet", 20)]
)
def test_hash_and_run_of_a_version_are_whole_at_80_columns(
    backbone: str, lines: int, registry: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.commands import models
    from flows.console import plain_console

    tags = {SCORE: "1.0", DATA: "e383b740cf328baa1d4021fe34e06747.dir", "backbone": backbone}
    found = Listed("digits", 1, ("champion",), "5719516ce3be44eb", tags, "0.9918 (test)")
    monkeypatch.setattr(models, "_versions", lambda *_: [found])
    screen = plain_console(width=80, force_terminal=True, color_system=None)
    with screen.capture() as shown:
        screen.print(models.versions_table(registry))
    assert len(shown.get().splitlines()) <= lines and "e383b740  " in shown.get() and "5719516c" in shown.get()
