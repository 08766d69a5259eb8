"""Where a backbone's weights come from, and what is wrong with them when they cannot be used."""

from __future__ import annotations

import argparse
import os
import pickle
import re
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path, PosixPath, WindowsPath
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract import tensors
from tasks.extract.facts import BUILTIN, Triple
from tasks.extract.residual import ResNet32px
from tasks.extract.timm_zoo import build_timm, from_hub, is_timm, standardisation
from tasks.progress import progress
from tasks.wording import first_line

BUILTIN_WEIGHTS = Path(__file__).parent / "weights" / "resnet_32px.safetensors"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
"""What training in several processes, compiling, and modules around a network put before its tensors' names."""

CHECKPOINTS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "teacher")
"""Where training scripts keep a network's tensors among others; running averages before what they are of, as in timm:
what is published of a training are figures of these."""

SCALAR = np.float64().__reduce__()[0]
VALUES: list[Any] = [
    argparse.Namespace, PosixPath, WindowsPath, np.dtype, SCALAR, (SCALAR, "numpy.core.multiarray.scalar"),
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
]  # fmt: skip
"""What scripts keep beside the tensors, such as their options and the best accuracy: kinds of values, which do nothing
when they are read; NumPy 1 has another name for its numbers."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """A network's parameters and what came with them.

    Attributes:
        state: the state dict.
        mean, std: what inputs were standardised with in training, in units of 1/255.
        source: as the configuration names them.
    """

    state: State
    mean: Triple
    std: Triple
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of the parameters; see `tasks.extract.tensors.digest`."""
        return tensors.digest(self.state)

    def save(self, path: Path) -> None:
        """Write them to a safetensors file, as `read_weights` reads them."""
        standardisation = {"mean": ",".join(map(str, self.mean)), "std": ",".join(map(str, self.std))}
        tensors.write(path, self.state, standardisation)


def network_names() -> list[str]:
    """The built-in backbone and torchvision's classifiers; timm's are in `tasks.extract.facts`."""
    return [BUILTIN, *torchvision.models.list_models(module=torchvision.models)]


def build_network(name: str, num_classes: int = 1000, size: int | None = None) -> nn.Module:
    """An untrained classifier.

    Args:
        size: side of its images, pixels, where the network is made for one size, as most transformers are; by default
            what its weights were trained with.

    Raises:
        ConfigurationError: there is no network of that name, or it takes no images of that size.
    """
    if name == BUILTIN:
        return ResNet32px(num_classes)
    if is_timm(name):
        return build_timm(name, num_classes, size)
    if name not in network_names():
        near = get_close_matches(name, network_names(), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigurationError(
            f"extract.backbone: there is no network {name!r}{hint} Any torchvision classifier works, and any of "
            "timm's as timm/NAME; `headstart backbones` lists them"
        )
    options: dict[str, Any] = {"num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        # Their auxiliary classifiers serve training from scratch only; the inputs of torchvision's weights are
        # standardised a second time, inside.
        options |= {"aux_logits": False, "init_weights": True, "transform_input": True}
    if size and name.startswith("vit_"):
        options["image_size"] = size
    try:
        return torchvision.models.get_model(name, weights=None, **options)
    except AssertionError as error:
        raise ConfigurationError(
            f"preprocess.size: images of {size} pixels do not pass through {name} ({error}): take the size that it was "
            "trained with, 224 for most"
        ) from error


def read_weights(name: str, source: str, path: Path) -> Weights:
    """Find the weights that ``source`` names for network ``name``.

    Args:
        source: ``builtin``, ``pretrained`` (or, the same, ``imagenet``), ``random``, or the file as the configuration
            writes it.
        path: that file, where ``source`` is one.

    Raises:
        WeightsError: they are not there, cannot be downloaded or cannot be read.
    """
    match source:
        case "builtin":
            if name != BUILTIN:
                raise WeightsError(
                    f"extract.weights: 'builtin' belongs to the backbone {BUILTIN!r}, not to {name!r}: "
                    f"name 'pretrained' or a file of {name} weights"
                )
            return _from_file(BUILTIN_WEIGHTS, source, name)
        case "imagenet" | "pretrained" if is_timm(name):
            return Weights(from_hub(name), *standardisation(name), source)
        case "pretrained" if name == BUILTIN:
            return _from_file(BUILTIN_WEIGHTS, source, name)
        case "imagenet" | "pretrained":
            return _from_torchvision(name, source)
        case "random":
            torch.manual_seed(0)
            return Weights(build_network(name).state_dict(), *_standardisation(name), source)
        case _:
            return _from_file(path, source, name)


def _standardisation(name: str) -> tuple[Triple, Triple]:
    return standardisation(name) if is_timm(name) else (IMAGENET_MEAN, IMAGENET_STD)


def _from_torchvision(name: str, source: str) -> Weights:
    if name == BUILTIN:
        raise WeightsError(f"extract.weights: there are no ImageNet weights of {name!r}; name 'builtin'")
    build_network(name, num_classes=10)
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    transforms = weights.transforms()
    try:
        # torch.hub announces a download on stderr; the progress bar does so here.
        with progress("download", total=0, unit="file"), redirect_stderr(StringIO()):
            state = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # no connection, a broken one (wrong hash), or half a file from an earlier one
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        why = first_line(getattr(error, "reason", error))
        raise WeightsError(
            f"the ImageNet weights of {name} could not be downloaded or read ({why}): "
            f"fetch {os.path.basename(weights.url)} from {weights.url} elsewhere and put it into {folder}, "
            "or name a local file in extract.weights"
        ) from error
    return Weights(dict(state), tuple(transforms.mean), tuple(transforms.std), source)


def _from_file(path: Path, source: str, name: str) -> Weights:
    if not path.is_file():
        what = "is a folder; name the file in it" if path.is_dir() else "does not exist; name a file"
        raise WeightsError(f"extract.weights: {path} {what}, .safetensors or .pth, or 'pretrained' or 'builtin'")
    own_mean, own_std = _standardisation(name)
    try:
        state, metadata = tensors.read(path) if path.suffix == ".safetensors" else (_read_torch(path), {})
        mean, std = _triple(metadata, "mean", own_mean), _triple(metadata, "std", own_std)
    except Exception as error:  # safetensors and torch raise many types on damaged files
        raise WeightsError(f"{path} cannot be read as weights: {first_line(error)}") from error
    state = {key: value.float() if value.is_floating_point() else value for key, value in _bare(state).items()}
    return Weights(state, mean, std, source)


def _bare(state: State) -> State:
    """The tensors under the network's own names, where all have those of what it was trained in before them."""
    state = {key: value for key, value in state.items() if key != "n_averaged"}  # of torch's AveragedModel
    while before := next((each for each in WRAPPERS if state and all(key.startswith(each) for key in state)), None):
        state = {key.removeprefix(before): value for key, value in state.items()}
    return state


def _read_torch(path: Path) -> State:
    """Read a ``.pth`` file without running what a pickle could contain."""
    try:
        with torch.serialization.safe_globals(VALUES):
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_not_tensors(str(error))) from error
    for wrapper in CHECKPOINTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ValueError("it holds no state dict")
    return {str(key): value for key, value in loaded.items()}


def _not_tensors(told: str) -> str:
    """What is wrong with a pickle that torch does not read, by what torch says of it."""
    found = re.search(r"GLOBAL (\S+) was not an allowed global", told)
    if not found:
        return "it is no file of torch.save; a pointer of git-lfs, a web page, or the index of several files?"
    return (
        f"beside tensors it holds a {found[1]}, which would have to be run to be read. Where you trust the file, keep "
        "the tensors alone: torch.save(MODEL.state_dict(), NEW)"
    )


def _triple(metadata: dict[str, str], key: str, default: Triple) -> Triple:
    if key not in metadata:
        return default
    first, second, third = map(float, metadata[key].split(","))
    return first, second, third
