"""timm's networks: built, their weights found, and brought into the form that a network takes them in.

timm is imported where it is used: whoever has torch alone runs torchvision's networks, and the built-in one.
"""

from __future__ import annotations

import inspect
import logging
import sys
from contextlib import redirect_stderr
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract.facts import TIMM, Triple, matching
from tasks.extract.hub import FILES, downloaded, hub_folder
from tasks.progress import hushed, progress
from tasks.wording import first_line


def is_timm(name: str) -> bool:
    """Whether a backbone is one of timm's, by its name."""
    return name.startswith(TIMM)


def build_timm(name: str, num_classes: int, size: int | None = None) -> nn.Module:
    """An untrained classifier, made for images of ``size`` pixels where it is made for one size.

    Raises:
        ConfigurationError: timm is not installed, or has no such network.
    """
    timm, own = _timm(), name.removeprefix(TIMM)
    looks = _looks(name)
    if size and looks.fixed_input_size:
        try:
            return timm.create_model(own, num_classes=num_classes, img_size=size)
        except TypeError:  # a network that no size is told
            pass
        except (AssertionError, ValueError, RuntimeError) as error:
            raise ConfigurationError(
                f"preprocess.size: images of {size} pixels do not pass through {name} ({error}): take "
                f"{looks.input_size[-1]}, which it was trained with"
            ) from error
    return timm.create_model(own, num_classes=num_classes)


def standardisation(name: str) -> tuple[Triple, Triple]:
    """Mean and standard deviation that a network's weights were trained with, in units of 1/255."""
    looks = _looks(name)
    return tuple(looks.mean), tuple(looks.std)


def classifier_of(network: nn.Module) -> nn.Module | None:
    """The last layer as timm knows it; of a network with two, the first. None of what is not timm's."""
    if not _is_of_timm(network) or is_encoder(network):
        return None
    own = network.get_classifier()  # type: ignore[operator]
    first = own[0] if isinstance(own, tuple) else own
    return first if isinstance(first, nn.Linear | nn.Conv2d) else None


def is_encoder(network: nn.Module) -> bool:
    """Whether a network of timm has no classifier, but gives what another network goes on with."""
    return _is_of_timm(network) and not hasattr(network, "get_classifier")


def has_channels_last(network: nn.Module) -> bool:
    """Whether a network of timm hands maps on as ``[N, H, W, C]``."""
    return _is_of_timm(network) and str(getattr(network, "output_fmt", "")).rpartition(".")[2] == "NHWC"


def prefix_tokens(network: nn.Module) -> int | None:
    """How many tokens a transformer of timm has before those of the patches, once all are there: class token,
    registers. None of others."""
    return getattr(network, "num_prefix_tokens", None) if _is_of_timm(network) else None


def is_same_padded(module: nn.Module) -> bool:
    """Whether a module is timm's convolution with TensorFlow's padding, which is otherwise a `torch.nn.Conv2d`."""
    return type(module).__name__ == "Conv2dSame"


def same_padding(convolution: nn.Conv2d, height: int, width: int) -> tuple[int, int, int, int]:
    """Rows and columns of zeros that such a convolution sees above, below, left and right of images: of uneven many,
    one more below and on the right."""
    from timm.layers.padding import get_same_padding

    parts = zip((height, width), convolution.kernel_size, convolution.stride, convolution.dilation, strict=True)
    rows, columns = (get_same_padding(*part) for part in parts)
    return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2


def behind_norm(norm: nn.Module) -> nn.Module | None:
    """What timm's batch norm does after normalising, where it is one layer with its activation; None of others."""
    if type(norm).__name__ != "BatchNormAct2d":
        return None
    return nn.Sequential(norm.drop, norm.act)  # type: ignore[arg-type]


def tracing(network: nn.Module) -> dict[str, Any]:
    """What torchvision's tracer has to take for one node, in networks of timm."""
    if not _is_of_timm(network):
        return {}
    from timm.layers import get_notrace_functions, get_notrace_modules

    return {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}


def not_given(network: nn.Module) -> dict[str, None] | None:
    """Inputs that a network has beside the images and that are never given, which its forward pass must be followed
    without; None where that makes no difference."""
    asked = inspect.signature(network.forward).parameters if _is_of_timm(network) else {}
    return {"mask": None} if "mask" in asked else None


def adapted(name: str, state: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights under the names and in the shapes that a network has: of another image size, position embeddings are
    resampled; of the publication that they come from, names are changed. Both as timm does it where it loads them."""
    entry = _timm().models.model_entrypoint(name.removeprefix(TIMM).partition(".")[0])
    change = getattr(sys.modules[entry.__module__], "checkpoint_filter_fn", None)
    if change is None:
        return state
    try:
        return change(dict(state), network)
    except (KeyError, RuntimeError, AttributeError, TypeError, ValueError):  # not a file that it knows
        return state


def from_hub(name: str) -> dict[str, torch.Tensor]:
    """The pretrained weights of a network, downloaded by timm where they are not there yet.

    Raises:
        WeightsError: there are none, or they cannot be had.
    """
    looks = _looks(name)
    if not looks.has_weights:
        raise WeightsError(f"extract.weights: timm has no weights of {name}; name a file of such weights")
    try:
        # The hub's client tells of each attempt; what comes of them is told once.
        silent = hushed(logging.CRITICAL, "huggingface_hub", "timm")
        with progress("download", total=0, unit="file"), redirect_stderr(StringIO()), silent:
            return _timm().create_model(name.removeprefix(TIMM), pretrained=True).state_dict()
    except Exception as error:  # no connection, or one of many ways in which it fails
        why = first_line(error).partition(". ")[0]
        raise WeightsError(
            f"the weights of {name} could not be downloaded or read ({why}): fetch {file_on_hub(name)} elsewhere and "
            f"name it in extract.weights, or copy the hub's cache of a machine that has it into {hub_folder()}"
        ) from error


def file_on_hub(name: str) -> str:
    """Where a network's weights are published: repository and file, or an address."""
    looks = _looks(name)
    if not looks.hf_hub_id:
        return str(looks.url)
    return f"{looks.hf_hub_filename or FILES[0]} of https://huggingface.co/{looks.hf_hub_id}"


def weights_of_timm(name: str) -> Path | None:
    """The file of a network's pretrained weights, if it has been downloaded."""
    looks = _looks(name)
    return downloaded(looks.hf_hub_id or looks.url) if looks.has_weights else None


def _is_of_timm(network: nn.Module) -> bool:
    return type(network).__module__.partition(".")[0] == "timm"


def _looks(name: str) -> Any:
    """timm's record of a network and its pretrained weights."""
    timm, own = _timm(), name.removeprefix(TIMM)
    architecture, dot, _ = own.partition(".")
    former = timm.models.get_deprecated_models()
    if architecture in former:
        now = former[architecture]
        raise ConfigurationError(f"extract.backbone: what was {name!r} is {TIMM + now!r} in timm {timm.__version__}")
    if not timm.is_model(architecture) or (dot and own not in timm.list_pretrained(f"{architecture}.*")):
        known = [record.name for record in matching(TIMM)]
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigurationError(
            f"extract.backbone: there is no network {name!r} in timm {timm.__version__}{hint} "
            "`headstart backbones --search WORD` lists them"
        )
    return timm.get_pretrained_cfg(own)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ConfigurationError("extract.backbone: networks of timm need the package: pip install timm") from error
    return timm
