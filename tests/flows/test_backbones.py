"""The list of backbones: what it says is right, and it is quick."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from flows.commands import backbones as commands
from flows.commands.backbones import candidates, memory_of, rows_of
from flows.config import PipelineConfig
from tasks.errors import ConfigurationError
from tasks.extract import hub
from tasks.extract.config import BesideConfig
from tasks.extract.facts import Facts, facts, facts_of, own_looks
from tasks.extract.weights import build_network, network_names
from tasks.preprocess.config import PreprocessConfig


def known(name: str) -> Facts:
    found = facts_of(name)
    assert found is not None
    return found


def listed(*options: str) -> list[list[str]]:
    command = [sys.executable, "-X", "importtime", "-m", "flows.cli", "backbones", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert not any(line.split("|")[-1].strip() == "torch" for line in done.stderr.splitlines())
    return [line.split() for line in done.stdout.splitlines()[1:]]


def test_the_list_is_searched_without_torch_and_says_what_fits() -> None:
    names = [row[0] for row in listed("--search", "DINOv2")]
    assert "timm/vit_small_patch14_dinov2.lvd142m" in names and all("dinov2" in name for name in names)
    fitting = [row[0] for row in listed("--search", "vgg", "--fits", "4GB")]
    assert "vgg11" in fitting and "vgg19" not in fitting  # 2.3 and 5.6 GB of weights and moments, and more


def test_of_networks_that_were_not_counted_nobody_says_that_they_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uncounted = replace(known("vgg11"), parameters=0)
    monkeypatch.setattr(commands, "matching", lambda search: [known("resnet18"), uncounted])
    commands.backbones("", "8GB")
    told = capsys.readouterr().out
    assert "resnet18" in told and "vgg11" not in told and "of 1 more it is not known" in told


def test_the_record_of_a_network_is_what_counting_it_gives() -> None:
    network = build_network("resnet18")
    network.fc = torch.nn.Identity()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 224, 224))
    record = known("resnet18")
    assert record.parameters == sum(p.numel() for p in network.parameters())
    assert record.flops == counter.get_total_flops()
    assert known("resnet50").flops == pytest.approx(2 * 4.09e9, rel=0.01)  # torchvision's page: 4.09 GFLOPS


def test_every_network_of_torchvision_is_there_and_timms_default_weights_come_first() -> None:
    assert set(network_names()) <= set(facts())
    assert known("timm/vit_tiny_patch16_224").name == "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    lite = known("timm/tf_efficientnet_lite0")
    assert (lite.size, lite.mean, lite.crop, lite.interpolation) == (224, (0.5, 0.5, 0.5), 0.875, "bicubic")
    assert known("timm/vit_small_patch16_dinov3").licence == "dinov3-license"
    assert facts_of("timm/nothing") is None


def test_weights_are_here_once_they_are_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "hub_folder", lambda: tmp_path)
    records = [known(name) for name in ("resnet_32px", "resnet18", "timm/resnet10t", "timm/mixer_s32_224")]
    assert [row[-1] for row in rows_of(records)] == ["built in", "on the web", "on the hub", "none"]
    file = tmp_path / "hub" / "checkpoints" / records[1].source.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    file.touch()
    assert rows_of(records)[1][-1] == "here"


@pytest.mark.parametrize(("text", "size"), [("8GB", 8e9), ("8", 8e9), ("1.5 gb", 1.5e9), ("500MiB", 500 * 2**20)])
def test_memory_is_read_as_people_write_it(text: str, size: float) -> None:
    assert memory_of(text) == size


@pytest.mark.parametrize("text", ["much", "8 apples", "-3GB"])
def test_what_is_no_memory_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--fits"):
        memory_of(text)


def test_images_are_prepared_as_the_backbone_was_trained_unless_the_configuration_says_otherwise() -> None:
    def looks(backbone: str, **preprocess: object) -> tuple[object, ...]:
        values = {"name": "x", "extract": {"backbone": backbone}, "preprocess": preprocess}
        found = PipelineConfig.model_validate(values).preprocess
        return found.size, found.fit, found.crop, found.interpolation

    assert looks("timm/vit_small_patch14_dinov2.lvd142m") == (518, "crop", 1.0, "bicubic")
    assert looks("timm/tf_efficientnet_lite0", size=96, crop=1.0) == (96, "crop", 1.0, "bicubic")
    assert looks("resnet_32px") == (32, "crop", 1.0, "bilinear")
    assert looks("mobilenet_v2") == (224, "crop", 1.0, "bilinear")
    assert PipelineConfig(name="x").preprocess.size == 32


def test_a_configuration_can_say_how_any_backbone_was_trained_to_look_at_images() -> None:
    for name in facts():
        looks = own_looks(name)
        assert PreprocessConfig(**looks).model_dump(include=set(looks)) == looks
        assert BesideConfig(backbone=name).model_dump(include=set(looks)) == looks


def test_backbones_to_be_ranked_are_looked_at_as_they_were_trained_and_the_configurations_own_as_it_says(
    tmp_path: Path,
) -> None:
    path = tmp_path / "photos.yaml"
    path.write_text("name: photos\nextract: {backbone: resnet_32px, layer: blocks.1, pool: flatten}\n")
    own, other, timm = candidates(path, [], "resnet_32px, mobilenet_v2:features.16=w.safetensors,timm/resnet18")
    assert (own.extract.layer, own.extract.pool, own.extract.weights) == ("blocks.1", "flatten", "builtin")
    assert (other.extract.layer, other.extract.pool, other.extract.weights) == ("features.16", "avg", "w.safetensors")
    assert (timm.extract.layer, timm.extract.weights) == (None, "pretrained")
    assert [each.preprocess.size for each in (own, other, timm)] == [32, 224, 224]
    with pytest.raises(ConfigurationError, match="two backbones or more"):
        candidates(path, [], "resnet_32px")


def test_a_ranking_asks_nothing_of_the_method_and_no_number(tmp_path: Path) -> None:
    path = tmp_path / "photos.yaml"
    path.write_text("name: photos\nextract: {backbone: resnet_32px}\ntrain: {method: partial, layers: [blocks.3]}\n")
    assert {each.train.method for each in candidates(path, [], "resnet_32px,mobilenet_v2")} == {"linear"}
    path.write_text("name: photos\ningest: {source: {table: photos.csv, label: {age: {column: age, kind: number}}}}\n")
    with pytest.raises(ConfigurationError, match="age is a number"):
        candidates(path, [], "resnet_32px,mobilenet_v2")
