"""Whether a backbone can be had, and can do what is asked of it: found out before any image is read."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ConfigurationError
from tasks.extract.config import ExtractConfig, WorkersConfig
from tasks.extract.facts import BUILTIN, TIMM
from tasks.wording import first_line
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.extract.backbones import Backbone


def check_workers(workers: WorkersConfig) -> None:
    """Whether the package is installed that speaks to the configured kind of cluster.

    Raises:
        ConfigurationError: it is not.
    """
    if workers.runner in ("dask", "ray") and find_spec(f"prefect_{workers.runner}") is None:
        raise ConfigurationError(
            f"extract.workers.runner is {workers.runner}, which needs another package: "
            f"pip install 'headstart[{workers.runner}]'"
        )


def look_through(config: ExtractConfig, size: int, workspace: Workspace) -> tuple[nn.Module, Backbone, torch.device]:
    """Fetch the weights, build the network, cut it off at its layers and send a black image of ``size`` pixels through.

    Returns:
        The network, what it becomes when it is cut off, and the device that is asked for.

    Raises:
        WeightsError: the weights are missing, unreachable or of another architecture.
        ConfigurationError: there is no such backbone, layer or device, or it takes images of another size.
    """
    from tasks.extract.backbones import Backbone, load_network
    from tasks.extract.precision import choose_device
    from tasks.extract.weights import read_weights

    device = choose_device(config.device)
    weights = read_weights(config.backbone, config.weights, workspace.resolve(config.weights))
    network = load_network(config.backbone, weights, config.layers, size)
    backbone = Backbone(network, weights, config.layers, config.pool)
    check_size(backbone, size, "preprocess.size")
    return network, backbone, device


def check_size(backbone: Backbone, size: int, key: str) -> int:
    """Whether images of ``size`` pixels pass through; returns how many features one then has.

    Raises:
        ConfigurationError: they do not, or none does, or a layer gives no features; ``key`` is where the size was
            configured.
    """
    import torch

    try:
        with torch.inference_mode():
            return int(backbone(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[1])
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigurationError(
            f"{key}: images of {size} pixels do not pass through the network ({first_line(error)}): take the size that "
            "it was trained with, 224 for most of torchvision's"
        ) from error
    except (TypeError, AttributeError, LookupError) as error:  # it was followed along another way than images take
        raise ConfigurationError(
            f"extract.backbone: no image passes through the network, cut off at its layers ({first_line(error)}): take "
            "another network or layer"
        ) from error


def weights_file(config: ExtractConfig, workspace: Workspace) -> Path | None:
    """The file that the weights were read from; None for those that come with headstart, or with nothing."""
    if config.weights in ("builtin", "random") or (config.backbone, config.weights) == (BUILTIN, "pretrained"):
        return None
    if config.weights not in ("imagenet", "pretrained"):
        return workspace.resolve(config.weights)
    if config.backbone.startswith(TIMM):
        from tasks.extract.timm_zoo import weights_of_timm

        return weights_of_timm(config.backbone)
    import torch
    from torchvision.models import get_model_weights

    url: str = get_model_weights(config.backbone)["DEFAULT"].url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def weights_state(config: ExtractConfig, workspace: Workspace) -> list[float]:
    """Size and time of the weights' files where the configuration names some: others may take their names."""
    named = [config.weights, *(each.weights for each in config.beside)]
    paths = [workspace.resolve(weights) for weights in named]
    return [value for path in paths if path.is_file() for value in (path.stat().st_size, path.stat().st_mtime)]
