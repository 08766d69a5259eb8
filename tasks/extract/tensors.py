"""Tensors in safetensors files: equal content has equal names, and gives equal bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tasks.fingerprint import fingerprint

METADATA = "__metadata__"
"""The key of a header that holds what a file says beside its tensors, text by text."""


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, whatever file they came in."""
    hashed = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        hashed.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a file, and its metadata."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)


def name(path: Path) -> str:
    """A name for the content of a file, tensors and metadata, however its bytes are arranged."""
    state, metadata = read(path)
    return fingerprint(digest(state), metadata)


def write(path: Path, state: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata; the same ones give the same bytes."""
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    _order_metadata(path)


def _order_metadata(path: Path) -> None:
    """Sort the metadata, which safetensors writes in the order of a hash table, another one every time.

    The header (JSON, padded with spaces, its length before it in eight bytes) stays as long as it is.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header[METADATA] = dict(sorted(header[METADATA].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))
