"""Where downloaded weights lie: the caches of the Hugging Face hub and of torch, looked into without either."""

from __future__ import annotations

import os
from pathlib import Path

FILES = ("model.safetensors", "pytorch_model.bin")
"""What weights are called in a repository on the hub, the better first."""


def hub_folder() -> Path:
    """Where the hub's files lie on this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def torch_folder() -> Path:
    """Where torch keeps downloaded weights; as `torch.hub.get_dir`, which takes seconds to import."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch") / "hub" / "checkpoints"


def downloaded(source: str) -> Path | None:
    """The file of a network's weights, if it has been downloaded.

    Args:
        source: a repository on the hub, or an address.
    """
    if "://" in source:
        file = torch_folder() / source.rpartition("/")[2]
        return file if file.is_file() else None
    folder = hub_folder() / f"models--{source.replace('/', '--')}" / "snapshots"
    return next((path for file in FILES for path in sorted(folder.glob(f"*/{file}"))), None)
