"""Where weights come from, and what is wrong with them when they cannot be used."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tasks.errors import WeightsError
from tasks.extract.backbones import load_network
from tasks.extract.weights import (
    BUILTIN,
    BUILTIN_WEIGHTS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Weights,
    build_network,
    read_weights,
)


class Malicious:
    """Unpickling it leaves a file where it says."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return build_network(BUILTIN, num_classes=3).state_dict()


def read(path: Path) -> Weights:
    return read_weights(BUILTIN, path.name, path)


def test_builtin_weights_belong_to_the_builtin_backbone_only() -> None:
    load_network(BUILTIN, read_weights(BUILTIN, "builtin", Path()))
    with pytest.raises(WeightsError, match="'builtin' belongs to the backbone 'resnet_32px', not to 'resnet18'"):
        read_weights("resnet18", "builtin", Path())
    with pytest.raises(WeightsError, match="name 'builtin'"):
        read_weights(BUILTIN, "imagenet", Path())


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
@pytest.mark.parametrize("name", ["weights.pth", "weights.pt"])
def test_checkpoint_loads_with_wrapper_and_prefix(wrapper: str | None, prefix: str, name: str, tmp_path: Path) -> None:
    saved: dict = {prefix + key: value for key, value in state().items()}
    torch.save({wrapper: saved, "epoch": 3} if wrapper else saved, tmp_path / name)
    weights = read(tmp_path / name)
    assert weights.state.keys() == state().keys()
    assert all(torch.equal(weights.state[key], value) for key, value in state().items())
    assert (weights.mean, weights.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_checkpoints_of_training_scripts_are_read_with_their_options_and_the_average_is_preferred(
    tmp_path: Path,
) -> None:
    options = argparse.Namespace(lr=0.1, output=tmp_path)
    average = {f"module.{key}": value + 1 for key, value in state().items()} | {"n_averaged": torch.tensor(3)}
    saved = {"model": state(), "model_ema": average, "args": options, "best": np.float64(0.9), "lr": np.float32(1)}
    torch.save(saved, tmp_path / "checkpoint.pth")
    read_back = read(tmp_path / "checkpoint.pth").state
    assert read_back.keys() == state().keys()
    assert all(torch.equal(read_back[key], (value + 1).float()) for key, value in state().items())


def test_numbers_that_numpy_1_kept_beside_the_tensors_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": state(), "best_acc": np.float64(0.9)}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():  # a name's length stands before it
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(name, content)
    assert read(tmp_path / "old.pth").state.keys() == state().keys()


def test_what_is_no_file_of_weights_is_told_by_what_it_is(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"it holds a torch.nn.modules.linear.Linear, .* keep the tensors alone"):
        read(tmp_path / "whole.pth")
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match="a pointer of git-lfs"):
        read(tmp_path / "pointer.pth")
    with pytest.raises(WeightsError, match="is a folder; name the file in it"):
        read(tmp_path)


@pytest.mark.parametrize("prefix", ["module.", "backbone."])
def test_safetensors_load_with_a_prefix(prefix: str, tmp_path: Path) -> None:
    save_file({prefix + key: value for key, value in state().items()}, tmp_path / "weights.safetensors")
    assert read(tmp_path / "weights.safetensors").state.keys() == state().keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_digest_does_not_depend_on_the_file_format(dtype: torch.dtype, tmp_path: Path) -> None:
    saved = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state().items()}
    torch.save(saved, tmp_path / "a.pth")
    torch.save({"state_dict": {f"module.{key}": saved[key] for key in reversed(saved)}}, tmp_path / "b.pth")
    save_file(saved, tmp_path / "c.safetensors")
    assert len({read(tmp_path / name).digest for name in ("a.pth", "b.pth", "c.safetensors")}) == 1


def test_digest_changes_with_any_name_shape_or_value() -> None:
    def digest(state: dict[str, torch.Tensor]) -> str:
        return Weights(state, IMAGENET_MEAN, IMAGENET_STD, "test").digest

    one = {"a": torch.arange(6.0), "b": torch.tensor(3)}
    others = [one | {"a": torch.arange(6.0).view(2, 3)}, one | {"b": torch.tensor(4)}, {"a": one["a"], "c": one["b"]},
              one | {"a": torch.arange(6)}, {"a": one["a"]}]  # fmt: skip
    assert len({digest(one), *map(digest, others)}) == 6
    assert digest({"b": one["b"], "a": torch.arange(12.0)[::2] / 2}) == digest(one)


def test_metadata_of_safetensors_says_what_inputs_were_standardised_with(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "own.safetensors", {"mean": "0.1,0.2,0.3", "std": "0.4, 0.5, 0.6"})
    weights = read(tmp_path / "own.safetensors")
    assert (weights.mean, weights.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("mean", ["", "0.1,0.2", "a,b,c", "[0.1, 0.2, 0.3]"])
def test_metadata_that_makes_no_sense_is_a_weights_error(mean: str, tmp_path: Path) -> None:
    save_file(state(), tmp_path / "own.safetensors", {"mean": mean})
    with pytest.raises(WeightsError, match=r"own.safetensors"):
        read(tmp_path / "own.safetensors")


@pytest.mark.parametrize("where", ["alone", "wrapped", "among tensors", "plain pickle", "old format"])
def test_malicious_pickle_is_refused_and_not_run(where: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "weights.pth", tmp_path / "executed"
    evil = Malicious(mark)
    if where == "plain pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        content = {"wrapped": {"state_dict": evil}, "among tensors": {**state(), "x": evil}}.get(where, evil)
        torch.save(content, path, _use_new_zipfile_serialization=where != "old format")
    with pytest.raises(WeightsError, match=r"weights.pth cannot be read as weights"):
        read(path)
    assert not mark.exists()
    if where == "plain pickle":  # it would have run
        pickle.loads(path.read_bytes())
        assert mark.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_missing_truncated_and_empty_files_are_weights_errors(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(WeightsError, match=f"{name} does not exist"):
        read(path)
    (save_file if path.suffix == ".safetensors" else torch.save)(state(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"\n", b"no weights"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name} cannot be read as weights"):
            read(path)


@settings(max_examples=30)
@given(content=st.binary(max_size=64), suffix=st.sampled_from([".pth", ".safetensors"]))
def test_any_bytes_are_a_weights_error(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("weights") / f"any{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        read(path)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_checkpoint_without_a_state_dict_is_a_weights_error(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="it holds no state dict"):
        read(tmp_path / "weights.pth")


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights downloaded yet, and a network on which nothing answers. Returns where weights would lie."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub" / "checkpoints"


def test_unreachable_imagenet_weights_are_named_with_file_url_and_folder(unreachable: Path) -> None:
    with pytest.raises(WeightsError) as raised:
        read_weights("mobilenet_v2", "imagenet", Path())
    told = str(raised.value)
    assert "fetch mobilenet_v2-7ebf99e0.pth" in told
    assert "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth" in told
    assert str(unreachable) in told


def test_broken_download_of_imagenet_weights_is_a_weights_error_that_names_it(unreachable: Path) -> None:
    unreachable.mkdir(parents=True)
    (unreachable / "mobilenet_v2-7ebf99e0.pth").write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"mobilenet_v2-7ebf99e0.pth"):
        read_weights("mobilenet_v2", "imagenet", Path())


def test_imagenet_weights_put_into_the_folder_by_hand_are_used(unreachable: Path) -> None:
    unreachable.mkdir(parents=True)
    own = build_network("mobilenet_v2").state_dict()
    torch.save(own, unreachable / "mobilenet_v2-7ebf99e0.pth")
    weights = read_weights("mobilenet_v2", "imagenet", Path())
    assert torch.equal(weights.state["classifier.1.weight"], own["classifier.1.weight"])
    assert (weights.mean, weights.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_random_weights_are_the_same_every_time() -> None:
    first, second = (read_weights("shufflenet_v2_x0_5", "random", Path()).digest for _ in range(2))
    assert first == second


def test_builtin_file_is_small_and_says_where_it_comes_from() -> None:
    assert BUILTIN_WEIGHTS.stat().st_size < 10_000_000
    assert BUILTIN_WEIGHTS.with_suffix(".md").is_file()
