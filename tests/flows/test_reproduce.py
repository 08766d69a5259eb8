"""A model made again from what its run kept, as a user does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.lineage.restoring import restore_code
from flows.lineage.subject import Subject
from tasks.errors import RegistryError
from tests.flows.homes import DIGITS, Home

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A workspace with one small model."""
    home = Home(tmp_path_factory.mktemp("home"))
    quick = ["ingest.split.shots=20", "evaluate.robustness=0", "evaluate.explain=0"]
    made = home.headstart("run", DIGITS, "--quiet", *[word for each in quick for word in ("-s", each)])
    assert made.returncode == 0, made.stderr
    yield home
    home.headstart("ui", "--stop", "--force")


@pytest.mark.long
def test_a_model_made_again_predicts_the_same_and_its_lineage_names_what_it_took(home: Home, tmp_path: Path) -> None:
    again = home.headstart("reproduce", "digits@champion", "--into", str(tmp_path / "again"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "predictions of test: identical (365 images)" in again.stdout and again.stderr == ""
    assert "model: the same to the last bit" in again.stdout and "what is different" not in again.stdout
    made = json.loads(home.headstart("lineage", "digits@champion", "--json").stdout)
    remade = Home(tmp_path / "again" / "workspace")
    told = json.loads(remade.headstart("lineage", "digits/1", "--json").stdout)
    assert told["inputs"][0]["facets"]["version"] == made["inputs"][0]["facets"]["version"]
    remade.headstart("ui", "--stop", "--force")


def test_a_folder_that_holds_something_is_left_alone(home: Home, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    refused = home.headstart("reproduce", "digits@champion", "--into", str(tmp_path))
    assert refused.returncode == 2 and "is not empty: a reproduction takes a folder of its own" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_code_that_is_not_to_be_had_is_told(home: Home, tmp_path: Path) -> None:
    [run] = home.client.search_runs([home.client.get_experiment_by_name("digits").experiment_id])
    gone = {"version": "0" * 16, "commit": "1" * 40}
    with pytest.raises(RegistryError, match=f"was made by commit {'1' * 12}, which this installation neither is nor"):
        restore_code(Subject(home.client, None, run), gone, tmp_path / "code")
