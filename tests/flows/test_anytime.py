"""A run within a budget, as a user runs it: a version at once, a kill that loses nothing, and what is on record."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from flows.anytime import Course, _place_of_notes, situation_of
from flows.clock import Budget
from flows.commands.suggest import as_auto, command
from flows.config import PipelineConfig, read_config
from flows.contenders import MOST, at_hand, contenders, name_of, passed_over, reason, reckoned, with_backbone
from tasks.errors import ConfigurationError, StorageError, WeightsError
from tasks.extract.config import ExtractConfig
from tasks.extract.facts import facts, facts_of
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.train.anytime.step import Step
from tasks.train.methods.auto import Auto
from tasks.workspace import Workspace
from tests.flows.homes import Home, eventually

IMAGES = 260


def config_of(**sections: object) -> PipelineConfig:
    return PipelineConfig.model_validate({"name": "x", **sections})


def test_each_contender_looks_at_images_as_it_was_trained_to_unless_the_configuration_says_otherwise() -> None:
    own = {"backbone": "mobilenet_v2", "weights": "mine.safetensors", "layer": "features.16", "pool": "flatten"}
    named = ["mobilenet_v2", "timm/tf_efficientnet_lite0=its.safetensors", "resnet_32px", "resnet18:layer3"]
    config = config_of(extract=own, preprocess={"fit": "pad"}, train={"method": "auto", "backbones": named, "seed": 3})
    mine, theirs, builtin, cut = contenders(config).values()
    assert mine.extract == config.extract and mine.preprocess == config.preprocess
    assert theirs.preprocess == PreprocessConfig(size=224, fit="pad", crop=0.875, interpolation="bicubic")
    assert (theirs.extract.weights, theirs.extract.layer, theirs.extract.pool) == ("its.safetensors", None, "avg")
    assert (builtin.extract.weights, builtin.preprocess.size) == ("builtin", 32)
    assert (cut.extract.layer, cut.extract.weights) == ("layer3", "pretrained")
    assert all(each.train.method == "linear" and each.train.seed == 3 for each in contenders(config).values())
    assert list(contenders(config)) == [
        "mobilenet_v2:features.16=mine", "timm/tf_efficientnet_lite0=its", "resnet_32px", "resnet18:layer3",
    ]  # fmt: skip
    two = {
        "method": "auto",
        "backbones": ["resnet18=ants/best.pth", "resnet18=bees/best.pth", "resnet18=ants/best.pth"],
    }
    assert list(contenders(config_of(train=two))) == ["resnet18=ants/best.pth", "resnet18=bees/best.pth"]
    settled = config_of(train={"method": "mlp"})
    assert list(contenders(settled).values()) == [settled]


@pytest.mark.parametrize("error", [RuntimeError("shape '[1, 64]' is invalid\nhere"), WeightsError("no file")])
def test_what_is_wrong_with_one_contender_is_a_line(error: Exception) -> None:
    assert reason(error) in ("RuntimeError: shape '[1, 64]' is invalid", "no file")


@pytest.mark.parametrize(
    "error", [ValueError("no"), AttributeError("no"), IndexError("no"), KeyError("no"), WeightsError("no")]
)
def test_whatever_a_contender_raises_ends_its_step_but_not_that_of_the_first_model(error: Exception) -> None:
    course, step = course_of(error), Step("head", "volo_d5_512", "linear")
    course.take(step)
    [ended] = course.notes.end.call_args.args[0]  # type: ignore[attr-defined]
    assert ended.state == "failed" and "no" in ended.why
    with pytest.raises(type(error)):
        course.take(replace(step, kind="probe"))


@pytest.mark.parametrize("error", [StorageError("the disk is full"), OSError("no server")])
def test_what_is_no_contenders_fault_ends_the_run_and_the_step_is_taken_up_again(error: Exception) -> None:
    course = course_of(error)
    with pytest.raises(type(error)):
        course.take(Step("head", "resnet18", "linear"))
    assert not course.notes.end.called  # type: ignore[attr-defined]


def course_of(error: Exception) -> Course:
    """One whose steps end in an error, without what it takes to come there."""
    course = Course.__new__(Course)
    course.notes, course.budget = MagicMock(), Mock(spent=1.0, left=60.0)
    course.notes.begin.side_effect = lambda step, spent: step  # type: ignore[attr-defined]
    course.situation = Mock(reserve=Mock(return_value=0.0))
    course._head = course._probe = Mock(side_effect=error)  # type: ignore[method-assign]
    return course


def test_a_backbone_that_does_not_go_with_the_configuration_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = {"size": 512, "crop": 1.5}
    monkeypatch.setattr("flows.config.own_looks", lambda name: looks if name == "resnet18" else {"size": 32})
    with pytest.raises(ConfigurationError, match=r"with the backbone resnet18: preprocess.crop: .*\(given: 1.5\)"):
        with_backbone(config_of(train={"method": "auto"}), "resnet18")


def test_other_backbones_and_other_weights_of_the_same_name_have_notes_of_their_own(workspace: Workspace) -> None:
    config = config_of(train={"method": "auto", "backbones": ["resnet_32px", "resnet18=mine.pth"]})
    dataset, competing = ingest_images(config.ingest, workspace), contenders(config)
    places = []
    for content in (b"old", b"newer"):
        (workspace.root / "mine.pth").write_bytes(content)
        places.append(_place_of_notes(config, competing, dataset, workspace))
    places.append(_place_of_notes(config, dict([*competing.items()][:1]), dataset, workspace))
    assert len(set(places)) == 3 and places[1] == _place_of_notes(config, competing, dataset, workspace)


def test_methods_for_a_domain_without_labels_are_refused_before_anything_is_tried(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.anytime.ingest", lambda given: ingest_images(given, workspace))
    config = config_of(
        ingest={"source": {"embedded": "digits"}}, train={"method": "auto", "methods": ["linear", "mcc"]}
    )
    with pytest.raises(ConfigurationError, match=r"mcc \(train.methods\) is for a domain without labels"):
        Course(config, Mock(workspace=workspace), Mock())


def test_without_names_those_compete_whose_weights_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("tasks.extract.hub.hub_folder", lambda: tmp_path)
    mobilenet, builtin = ExtractConfig(backbone="mobilenet_v2", weights="pretrained"), ExtractConfig()
    assert at_hand(mobilenet) == ["resnet_32px"] and at_hand(builtin) == []
    (folder := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (folder / "resnet18-f37072fd.pth").touch()
    assert at_hand(mobilenet) == ["resnet_32px", "resnet18"]
    assert list(contenders(config_of(train={"method": "auto"}))) == ["resnet_32px", "resnet18"]


def test_published_weights_compete_with_weights_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.contenders.downloaded", lambda source: source.endswith("resnet18-f37072fd.pth"))
    file = str(tmp_path / "ours.safetensors")
    for name, others in (
        ("resnet_32px", ["resnet_32px", "resnet18"]), ("resnet18", ["resnet_32px", "resnet18"]),
    ):  # fmt: skip
        config = config_of(extract={"backbone": name, "weights": file}, train={"method": "auto"})
        competing = contenders(config)
        assert list(competing) == [f"{name}=ours", *others]
        assert [each.extract.weights for each in competing.values()] == [file, "builtin", "pretrained"]


def test_the_same_weights_compete_once_and_what_is_passed_over_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.contenders.downloaded", lambda source: source.startswith("timm/"))
    own = facts_of("timm/resnet18")
    assert own is not None
    mine, other = (ExtractConfig(backbone=name, weights="pretrained") for name in ("timm/resnet18", "timm/resnet34"))
    assert own.name not in at_hand(mine) and own.name in at_hand(other)
    sources = [facts()[name].source for name in at_hand(mine)]
    assert len(set(sources)) == len(sources)
    config = config_of(extract={"backbone": "timm/resnet18", "weights": "pretrained"}, train={"method": "auto"})
    assert len(contenders(config)) == 1 + MOST and len(passed_over(config)) == len(sources) - MOST
    named = config_of(train={"method": "auto", "backbones": ["resnet_32px"]})
    assert passed_over(named) == []


def test_what_cannot_be_reckoned_is_measured_before_anything_is_planned(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(train={"method": "auto", "backbones": ["resnet_32px", "resnet18=random"]})
    dataset, competing = ingest_images(config.ingest, workspace), contenders(config)
    taken = iter([2.0, 70.0])
    monkeypatch.setattr("flows.anytime._measured", lambda *_: next(taken))
    monkeypatch.setattr("flows.contenders.operations", lambda each: 0.0)
    found = situation_of(config, competing, dataset, workspace).contenders
    assert [each.milliseconds for each in found] == [2.0, 70.0]


def test_what_preprocess_says_counts_for_every_contender_though_its_own_backbone_would_look_alike() -> None:
    other = "timm/vit_small_patch14_dinov2.lvd142m=random"
    said = {"size": 224, "crop": 1.0, "interpolation": "bilinear", "fit": "crop"}
    backbone = {"backbone": "mobilenet_v2", "weights": "random"}
    for given, size in ((said, 224), ({}, 518), ({"size": 96}, 96)):
        own = config_of(extract=backbone, preprocess=given, train={"method": "auto", "backbones": [other]})
        [found] = contenders(own).values()
        assert found.preprocess.size == size
    assert (
        contenders(config_of(extract=backbone, preprocess=said, train={"method": "auto", "backbones": [other]}))[
            other
        ].preprocess.interpolation
        == "bilinear"
    )


@pytest.mark.parametrize(
    ("train", "budget", "added"),
    [
        ({"method": "mlp", "hidden": 64}, "3m", ["-s", "'train={method: auto, budget: 3m}'"]),
        ({"method": "linear"}, None, ["-s", "'train={method: auto, budget: 10m}'"]),
        ({"method": "auto", "methods": ["linear"]}, "3m", ["-s", "train.budget=3m"]),
        ({"method": "auto"}, None, []),
    ],
)
def test_the_command_that_carries_a_suggestion_out_is_one_that_works(
    train: dict[str, Any], budget: str | None, added: list[str], tmp_path: Path
) -> None:
    (path := tmp_path / "own.yaml").write_text(yaml.safe_dump({"name": "own", "train": train}))
    settings, overrides = as_auto(path, ["preprocess.size=48"], budget)
    assert isinstance(settings.train, Auto) and settings.train.budget == (budget or "10m")
    told = command(path, ["preprocess.size=48", *overrides])
    assert told == " ".join(["headstart", "run", str(path), "-s", "preprocess.size=48", *added])
    again = read_config(path, [each for each in shlex.split(told)[4::2]], PipelineConfig)
    assert again == settings


def test_what_a_backbone_takes_is_reckoned_by_its_operations_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(extract={"backbone": "mobilenet_v2", "weights": "random"}, train={"method": "auto"})
    heavy, light = (with_backbone(config, name) for name in ("vgg16=random", "resnet_32px"))
    assert reckoned(heavy, config, 5.0) > 100 and reckoned(light, config, 6.0) == pytest.approx(2.0)
    assert reckoned(config, config, 5.0) == 5.0
    monkeypatch.setattr("flows.contenders.operations", lambda each: 0.0 if each is heavy else 1e9)
    assert reckoned(heavy, config, 5.0) is None and reckoned(light, heavy, 5.0) is None
    monkeypatch.undo()
    ten = config.model_copy(update={"preprocess": config.preprocess.model_copy(update={"views": "ten"})})
    assert reckoned(light, ten, 60.0) == pytest.approx(2.0), "a file is read once, whatever is seen of it"
    assert reckoned(ten, config, 5.0) == pytest.approx(50.0) and name_of(ten) == "mobilenet_v2=random"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A workspace with some hundred small images and a configuration that has two minutes."""
    home = Home(tmp_path_factory.mktemp("home"))
    source = load_digits()
    for number, (grey, digit) in enumerate(zip(source.images[:IMAGES], source.target[:IMAGES] % 2, strict=True)):
        (folder := home.root / "photos" / ("odd" if digit else "even")).mkdir(parents=True, exist_ok=True)
        Image.fromarray((grey * 15).astype("uint8")).save(folder / f"{number}.png")
    settings = {
        "name": "parity", "ingest": {"source": {"folder": "photos"}}, "evaluate": {"robustness": 0, "explain": 0},
        "train": {"method": "auto", "budget": "2m", "methods": ["linear", "lp_ft"],
                  "backbones": ["resnet_32px", "resnet_32px:blocks.0"]},
    }  # fmt: skip
    (home.root / "parity.yaml").write_text(yaml.safe_dump(settings))
    yield home
    home.headstart("ui", "--stop")


def notes(home: Home) -> list[dict[str, object]]:
    [path] = (home.root / ".headstart" / "anytime").glob("*.json")
    steps: list[dict[str, object]] = json.loads(path.read_text())["steps"]
    return steps


@pytest.mark.slow
def test_a_plan_is_told_without_a_run(home: Home) -> None:
    told = home.headstart("suggest", str(home.root / "parity.yaml"), "--budget", "10m")
    assert told.returncode == 0 and told.stderr == ""
    assert "ms an image, measured" in told.stdout and "2, " not in told.stdout.split("classes")[1].splitlines()[0]
    rows = [line.split()[0] for line in told.stdout.splitlines() if line.startswith(("probe", "rank", "head", "tune"))]
    assert rows[0] == "probe" and {"rank", "head", "tune"} <= set(rows)
    assert not home.client.search_registered_models()


@pytest.mark.slow
def test_a_kill_after_the_first_model_loses_nothing_and_a_second_start_goes_on(home: Home) -> None:
    process = home.start("run", str(home.root / "parity.yaml"))
    registered = eventually(
        lambda: (home.root / ".headstart" / "anytime").is_dir() and notes(home)[0]["state"] == "done", 240
    )
    process.kill()
    process.communicate()
    assert registered and [int(each.version) for each in home.client.search_model_versions("name='parity'")] == [1]

    began = time.monotonic()
    done = home.headstart("run", str(home.root / "parity.yaml"))
    assert done.returncode == 0, done.stderr
    assert "auto        probe" not in done.stdout, "the first model is there"
    assert time.monotonic() - began < 240
    [experiment] = [home.client.get_experiment_by_name("parity").experiment_id]
    runs = home.client.search_runs([experiment], order_by=["attributes.start_time"])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}, "what was killed is closed, whichever it was in"
    last = next(run for run in reversed(runs) if "mlflow.parentRunId" not in run.data.tags)
    inner = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == last.info.run_id]
    assert last.data.params["train.method"] == "auto" and last.data.metrics["budget"] == 120
    assert all(run.data.params["train.method"] in ("linear", "lp_ft") for run in inner)
    assert last.data.metrics["test/accuracy"] == inner[-1].data.metrics["test/accuracy"]


@pytest.mark.slow
def test_what_was_tried_is_on_record_and_on_the_page(home: Home, tmp_path: Path) -> None:
    runs = home.client.search_runs([home.client.get_experiment_by_name("parity").experiment_id])
    run = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags and run.info.status == "FINISHED")
    table = pd.read_parquet(home.client.download_artifacts(run.info.run_id, "choice/steps.parquet", str(tmp_path)))
    assert table["kind"].iloc[0] == "probe" and {"rank", "head"} <= set(table["kind"])
    done = table[table["state"] == "done"]
    assert (
        done["took"].gt(0).all() and done[done["kind"].isin(["head", "tune", "final"])]["score"].between(0.4, 1).all()
    )
    page = home.headstart("report", "--no-open", "--output", str(tmp_path / "page.html"))
    assert page.returncode == 0 and 'id="choice"' in (tmp_path / "page.html").read_text()
    version = home.client.search_model_versions("name='parity'", order_by=["version_number DESC"])[0]
    written = home.client.download_artifacts(version.run_id, "config.yaml", str(tmp_path))
    assert read_config(Path(written), (), PipelineConfig).train.method in ("linear", "lp_ft")


def test_a_budget_of_a_scheduled_run_is_counted_from_its_first_stage() -> None:
    budget = Budget(60.0, before=10.0, began=time.time() - 20)
    assert budget.spent == pytest.approx(30.0, abs=1) and budget.left == pytest.approx(30.0, abs=1)
