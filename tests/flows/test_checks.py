"""What can be known to go wrong is told before the first stage, in one line, and what was found right is remembered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flows import cli
from flows.checks import check_pipeline, check_pretraining, check_room
from flows.commands import backbones, data, lineage
from flows.config import PipelineConfig, PretrainConfig
from tasks.errors import ConfigurationError, DataError, HeadstartError, StorageError, WeightsError
from tasks.extract.weights import BUILTIN_WEIGHTS
from tasks.workspace import Workspace
from tests.conftest import ROOT


def pipeline(**sections: Any) -> PipelineConfig:
    return PipelineConfig.model_validate({"name": "x", **sections})


SEVERAL = {"source": {"table": "labels.csv", "separator": ";"}}


BESIDE = {"beside": [{"backbone": "resnet_32px", "weights": "random"}]}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"extract": BESIDE, "train": {"method": "lp_ft"}}, "lp_ft (train.method) trains through one backbone, and"),
        ({"extract": BESIDE, "train": {"search": {"methods": ["full"]}}}, "full (train.search.methods) trains"),
        ({"extract": BESIDE, "train": {"method": "auto"}}, "auto (train.method) chooses one backbone, and"),
        ({"train": {"method": "gated_fusion"}}, "gated_fusion (train.method) joins several backbones or layers, and"),
        ({"train": {"search": {"methods": ["logits_ensemble"]}}}, "logits_ensemble (train.search.methods) joins"),
        ({"train": {"method": "auto", "methods": ["gated_fusion"]}}, "gated_fusion (train.methods) joins several"),
    ],
)  # fmt: skip
def test_a_method_that_does_not_suit_how_many_backbones_there_are_is_told_with_what_does(
    sections: dict[str, Any], told: str, workspace: Workspace
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check_pipeline(pipeline(ingest={"source": {"embedded": "digits"}}, **sections), workspace)
    assert told in str(raised.value) and "\n" not in str(raised.value)
    assert "linear" in str(raised.value)  # what works instead


def test_weights_of_a_single_part_are_refused(workspace: Workspace) -> None:
    sections = {"ingest": {"source": {"embedded": "digits"}}, "train": {"method": "linear", "weigh": True}}
    with pytest.raises(ConfigurationError, match=r"train\.weigh .* of several backbones or layers .* there is one"):
        check_pipeline(pipeline(**sections), workspace)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "kind", "told"),
    [
        ({"ingest": {"source": {"folder": "gone"}}}, DataError, "gone does not exist"),
        ({"ingest": {"source": {"folder": ".", "layout": "lable"}}}, ConfigurationError, "'lable' must be one of"),
        ({"ingest": {"source": {"folder": "ftp://there/photos"}}}, ConfigurationError, "URLs of ftp:// are not read"),
        ({"ingest": {"source": {"archive": "gone.zip"}}}, DataError, "gone.zip does not exist"),
        ({"ingest": {"source": {"table": "gone.csv"}}}, DataError, "gone.csv does not exist"),
        ({"ingest": {"source": {"webdataset": "gone-*.tar"}}}, DataError, "no shard is called gone-"),
        ({"ingest": {"source": {"domains": {"a": {"folder": "."}, "b": {"folder": "gone"}}}}}, DataError, "gone does"),
        ({"ingest": SEVERAL, "train": {"method": "prototypes"}}, ConfigurationError, "several labels each"),
        ({"ingest": SEVERAL, "train": {"search": {"methods": ["linear", "prototypes"]}}}, ConfigurationError,
         "prototypes (train.search.methods)"),
        ({"ingest": SEVERAL, "train": {"balance": "weights"}}, ConfigurationError, "leave train.balance at none"),
        ({"ingest": SEVERAL, "evaluate": {"costs": {"cat": {"dog": 2}}}}, ConfigurationError,
         "evaluate.costs is for one label an image"),
        ({"extract": {"workers": {"runner": "ray"}}}, ConfigurationError, "pip install 'headstart[ray]'"),
        ({"extract": {"weights": "gone.pth"}}, WeightsError, "gone.pth does not exist"),
        ({"extract": {"weights": "damaged.safetensors"}}, WeightsError, "cannot be read as weights"),
        ({"extract": {"backbone": "resnet18"}}, WeightsError, "'builtin' belongs to the backbone 'resnet_32px'"),
        ({"extract": {"backbone": "resnet81", "weights": "random"}}, ConfigurationError, "did you mean 'resnet18'?"),
        ({"extract": {"backbone": "resnet18", "weights": str(BUILTIN_WEIGHTS)}}, WeightsError, "does not belong to"),
        ({"extract": {"layer": "blocks.9"}}, ConfigurationError, "no layer 'blocks.9'"),
        ({"extract": {"pool": "token"}}, ConfigurationError, "extract.pool is token"),
        ({"extract": {"device": "tpu"}}, ConfigurationError, "extract.device: 'tpu' is not there"),
        ({"extract": {"backbone": "vit_b_32", "weights": "random"}, "preprocess": {"size": 40}},
         ConfigurationError, "size: images of 40 pixels"),
        ({"extract": {"backbone": "vit_b_32", "weights": "random"}, "preprocess": {"size": 224},
          "train": {"method": "lora", "sizes": [160, 224]}}, ConfigurationError, "train.sizes: images of 160"),
        ({"extract": {"layer": "blocks.2", "pool": "flatten"}, "train": {"method": "partial", "sizes": [24, 32]}},
         ConfigurationError, "train.sizes: images of 24 pixels have more or fewer features than those of 32"),
        ({"train": {"method": "lora"}}, ConfigurationError, "take lp_ft or partial"),
        ({"extract": {"beside": [{"backbone": "resnet_32px", "weights": "gone.pth"}]}}, WeightsError,
         "extract.beside.0 (resnet_32px): extract.weights: "),
        ({"extract": {"beside": [{"backbone": "resnet_32px", "layer": "blocks.9"}]}}, ConfigurationError,
         "extract.beside.0 (resnet_32px): extract.layer: the network has no layer 'blocks.9'"),
        ({"train": {"method": "lp_ft", "search": {"methods": ["lp_ft", "lora"]}}}, ConfigurationError, "take lp_ft or"),
        ({"train": {"method": "partial", "layers": ["blocks.9"]}}, ConfigurationError, "no block of the network is"),
    ],
)  # fmt: skip
def test_what_would_end_a_run_is_told_before_it_begins(
    workspace: Workspace, sections: dict[str, Any], kind: type[HeadstartError], told: str
) -> None:
    (workspace.root / "labels.csv").write_text("path,label\na.png,cat;dog\n")
    (workspace.root / "damaged.safetensors").write_bytes(b"nothing")
    with pytest.raises(kind) as caught:
        check_pipeline(pipeline(**sections), workspace)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not workspace.cache.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"preprocess": {"size": 64}, "extract": {"layer": ["blocks.1", "pool"]}, "train": {"method": "partial"}},
        {"extract": {"backbone": "vit_b_32", "weights": "random"}, "preprocess": {"size": 224},
         "train": {"method": "lora"}},
    ],
)  # fmt: skip
def test_a_sound_pipeline_is_looked_at_once_and_its_network_is_left_alone(
    workspace: Workspace, sections: dict[str, Any]
) -> None:
    config = pipeline(**sections)
    check_pipeline(config, workspace)
    (workspace.root / "pipeline.json").write_text(config.model_dump_json(by_alias=True))
    code = (
        "import sys; from pathlib import Path; from flows.checks import check_pipeline; "
        "from flows.config import PipelineConfig; from tasks.workspace import Workspace; "
        f"root = Path({str(workspace.root)!r}); "
        "config = PipelineConfig.model_validate_json((root / 'pipeline.json').read_text()); "
        "check_pipeline(config, Workspace(root)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_weights_that_have_gone_or_changed_are_looked_at_again(workspace: Workspace) -> None:
    weights = workspace.root / "mine.safetensors"
    shutil.copy(BUILTIN_WEIGHTS, weights)
    config = pipeline(extract={"weights": "mine.safetensors"})
    check_pipeline(config, workspace)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read"):
        check_pipeline(config, workspace)
    weights.unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        check_pipeline(config, workspace)


def test_downloaded_weights_are_believed_while_their_file_is_there(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import get_model_weights, resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # wherever the test runs, nothing is downloaded
    url = get_model_weights("resnet18")["DEFAULT"].url
    config = pipeline(extract={"backbone": "resnet18", "weights": "imagenet"}, preprocess={"size": 224})
    with pytest.raises(WeightsError, match="could not be downloaded"):
        check_pipeline(config, workspace)
    file = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(resnet18().state_dict(), file)
    check_pipeline(config, workspace)
    check_pipeline(config, workspace)
    file.unlink()
    with pytest.raises(WeightsError, match="could not be downloaded"):
        check_pipeline(config, workspace)


def test_a_pretraining_is_checked_with_its_probes_and_where_it_writes(workspace: Workspace) -> None:
    probe = {"source": {"embedded": "digits"}}
    values = {"name": "x", "source": {"embedded": "digits"}, "probes": {"digits": probe}}
    output = workspace.root / "weights.safetensors"
    check_pretraining(PretrainConfig.model_validate(values), output, workspace)
    with pytest.raises(ConfigurationError, match="no layer 'blocks\\.9'"):
        wrong = values | {"probes": {"digits": probe | {"layer": "blocks.9"}}}
        check_pretraining(PretrainConfig.model_validate(wrong), output, workspace)
    with pytest.raises(DataError, match="gone does not exist"):
        wrong = values | {"probes": {"other": {"source": {"folder": "gone"}}}}
        check_pretraining(PretrainConfig.model_validate(wrong), output, workspace)
    with pytest.raises(ConfigurationError, match="gone is no folder"):
        check_pretraining(PretrainConfig.model_validate(values), workspace.root / "gone" / "w.safetensors", workspace)
    with pytest.raises(ConfigurationError, match=r"must end in \.safetensors"):
        check_pretraining(PretrainConfig.model_validate(values), workspace.root / "w.pth", workspace)


def test_a_disk_without_room_is_told(workspace: Workspace) -> None:
    check_room(workspace)
    with pytest.raises(StorageError, match=r"workspace has [\d,]+ MiB left.* make room"):
        check_room(workspace, 2**62)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("run",), ("schedule", "--interval", "60"), ("data", "ingest"), ("pretrain", "-o", "w")]
)
def test_a_wrong_configuration_is_told_before_anything_is_begun(tmp_path: Path, command: tuple[str, ...]) -> None:
    environment = {"HEADSTART_WORKSPACE": str(tmp_path / "home"), "PATH": ""}
    finished = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command, str(tmp_path / "nonsense.yaml")], cwd=ROOT, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 2 and finished.stdout == ""
    assert finished.stderr.startswith("error ") and "nonsense.yaml cannot be read" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1 and not (tmp_path / "home").exists()


@pytest.mark.slow
def test_a_wrong_layer_is_told_before_a_server_is_started(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "configs/digits.yaml", "-s", "extract.layer=blocks.9"], cwd=ROOT,
        env={"HEADSTART_WORKSPACE": str(tmp_path), "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 2 and finished.stderr.startswith("error extract.layer: the network has no layer")
    assert not (tmp_path / "mlruns" / "prefect" / "server.json").exists()


OUTPUTS: dict[str, Callable[[Path], object]] = {
    "report": lambda file: cli.report([], None, file, False),
    "predict": lambda file: cli.predict("fruit", "photos", str(file), 5, False),
    "lineage": lambda file: lineage.lineage("fruit@1", False, file),
    "rank": lambda file: backbones.rank(Path("fruit.yaml"), "resnet18", 20, [], file),
    "data diff": lambda file: data.diff("1", "2", file, None),
    "data review": lambda file: data.review("fruit", file),
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_file_that_could_not_be_written_is_told_before_any_work(
    command: str, tmp_path: Path, workspace: Workspace
) -> None:
    (tmp_path / "made.csv").mkdir()
    for file, told in (("gone/x.csv", "gone is no folder: x.csv cannot"), ("made.csv", r"made\.csv is a folder: name")):
        with pytest.raises(ConfigurationError, match=told) as error:
            OUTPUTS[command](tmp_path / file)
        assert len(str(error.value).splitlines()) == 1
    assert not workspace.mlruns.exists()


def test_a_comparison_that_could_not_be_written_is_told_before_it_is_made(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"x\.txt must end in \.csv or \.parquet"):
        data.diff("1", "2", tmp_path / "x.txt", None)
    assert not workspace.mlruns.exists()
