"""Equal tensors have one name and give one file, whatever the order in which anything was said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.extract import tensors

WRITE = """
import sys, torch
from pathlib import Path
from tasks.extract import tensors
said = {key: key for key in "mean std arch source".split()}
tensors.write(Path(sys.argv[1]), {"b": torch.arange(3), "a": torch.ones(2, 2).T}, said)
"""
METADATA = {"std": "0.2", "mean": "0.5", "arch": 'é "quoted"\n\x01', "zeta": "", "alpha": "x" * 1000}


def state() -> dict[str, torch.Tensor]:
    return {"b": torch.arange(6).reshape(2, 3).T, "a": torch.randn(4, generator=torch.Generator().manual_seed(0))}


@pytest.mark.slow
def test_files_of_equal_content_are_equal_byte_by_byte_in_any_process(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for path in paths:
        subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
    assert len({path.read_bytes() for path in paths}) == 1


def test_what_is_written_is_what_safetensors_itself_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors.write(path, state(), METADATA)
    read = load_file(path)
    assert read.keys() == state().keys() and all(torch.equal(read[key], value) for key, value in state().items())
    assert tensors.read(path)[1] == METADATA


def test_a_name_goes_by_the_content_not_by_the_file(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    tensors.write(ours, state(), METADATA)
    names = set()
    for _ in range(20):  # safetensors arranges five texts in another order nearly every time
        save_file({key: value.contiguous() for key, value in state().items()}, theirs, METADATA)
        names.add(tensors.name(theirs))
    assert names == {tensors.name(ours)}


@pytest.mark.parametrize("changed", ["value", "key", "shape", "type", "metadata"])
def test_whatever_a_model_depends_on_changes_its_name(changed: str, tmp_path: Path) -> None:
    other, metadata = state(), dict(METADATA)
    match changed:
        case "value":
            other["a"][0] += 1e-6
        case "key":
            other["c"] = other.pop("a")
        case "shape":
            other["a"] = other["a"].reshape(2, 2)
        case "type":
            other["a"] = other["a"].view(torch.int32)
        case "metadata":
            metadata["std"] = "0.3"
    tensors.write(tmp_path / "x", state(), METADATA)
    tensors.write(tmp_path / "y", other, metadata)
    assert tensors.name(tmp_path / "x") != tensors.name(tmp_path / "y")
