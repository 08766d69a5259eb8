"""Whether a method can be used on a dataset's labels and on a network: found out before anything takes time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.records import Dataset, Preprocessed
from tasks.target import Kind, Target
from tasks.train.adaptation.target import FEWEST, target_rows
from tasks.train.distillation.config import NOBODY, Distillation
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.methods.auto import Auto
from tasks.train.methods.linear import Linear
from tasks.train.tuning.config import TuningConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.extract.backbones import Backbone
    from tasks.extract.config import ExtractConfig


OF_CLASSES: dict[str, Any] = {
    "balance": "none", "label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "attack": None,
}  # fmt: skip
"""Keys that mean something for classes only, and what they are where they are left out."""


def check_labels(config: Method, source: str, kind: Kind) -> None:
    """Whether the configuration can do with what a source says of its images: the kind of its leading task.

    Raises:
        ConfigurationError: images have several labels each, and a method gives one, or balances them; or a number, and
            a method, or one of its keys, is for classes; or a method that learns from images without labels is tried
            among others; or weights of networks are to be averaged, and none is trained.
    """
    searched(config)
    _check_soup(config)
    _check_compared(config)
    _check_at_once(config)
    if kind == "number":
        _check_number(config, source)
    if kind == "labels":
        _check_several(config, source)


def searched(config: Method) -> list[Method]:
    """The sections that a search among several methods begins from, but the configured one.

    Raises:
        ConfigurationError: a method cannot take what it shares with the configured one.
    """
    found = []
    for name in config.search.methods if config.search else []:
        if name == config.method:
            continue
        try:
            found.append(METHODS[name].model_validate(config.shared_with(METHODS[name])))
        except ValidationError as error:
            what = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigurationError(
                f"{name} (train.search.methods) cannot take what this section says of {config.method}: {what}"
            ) from error
    return found


def begins_from(config: Method, preprocessed: Preprocessed) -> Preprocessed:
    """How the frozen network looks at images: at one view where all that is tried trains through it, for which steadier
    features would be no better a beginning."""
    tried = (config, *searched(config))
    tunes = all(isinstance(method, TuningConfig) and not method.unlabelled for method in tried)
    return preprocessed.by_one_view if tunes else preprocessed


def _check_compared(config: Method) -> None:
    for key, name, kind in _named(config):
        if kind.unlabelled and not config.unlabelled:
            raise ConfigurationError(
                f"{name} ({key}) is for a domain without labels, and what is tried is compared by images of the "
                f"others: take train.method: {name} (docs/adaptation.md)"
            )


def _check_soup(config: Method) -> None:
    if config.search and config.search.soup and not any(issubclass(kind, TuningConfig) for *_, kind in _named(config)):
        raise ConfigurationError(
            "train.search.soup averages the weights of trainings through the backbone, and none is tried: leave it "
            "out, or name such a method in train.search.methods"
        )


def _check_at_once(config: Method) -> None:
    if getattr(config, "tasks", None) is None:
        return
    if config.unlabelled or isinstance(config, Distillation):
        raise ConfigurationError(
            f"train.tasks is for methods that learn from labels alone, and {config.method} does not: leave it out"
        )
    unsuited = {"mixup": 0.0, "cutmix": 0.0, "attack": None}
    keys = [key for key, unset in unsuited.items() if getattr(config, key, unset) != unset]
    keys += ["balance: sampling"] * (getattr(config, "balance", "none") == "sampling")
    if keys:
        raise ConfigurationError(
            f"train.{keys[0]} goes by the classes of one task, and train.tasks has several learned at once: leave one "
            "of them out"
        )


def check_tasks(config: Method, targets: Sequence[Target]) -> None:
    """Whether there are the tasks that a method is to learn at once.

    Raises:
        ConfigurationError: there is one, or one is named that there is not.
    """
    section = getattr(config, "tasks", None)
    if section is None:
        return
    if len(targets) < 2:
        raise ConfigurationError(
            "train.tasks is for several tasks that are learned at once, and ingest.source.label names one: leave "
            "train.tasks out, or name others"
        )
    names = [target.name for target in targets]
    if isinstance(section.weights, dict) and (unknown := [name for name in section.weights if name not in names]):
        raise ConfigurationError(
            f"train.tasks.weights: there is no task {unknown[0]!r} in ingest.source.label; there are {', '.join(names)}"
        )


def _check_number(config: Method, source: str) -> None:
    _check_able(
        config,
        "numbers",
        f"what is to be told of the images of {source} is a number, and",
        "tells classes: take one of",
    )
    if unsuited := [key for key, unset in OF_CLASSES.items() if getattr(config, key, unset) != unset]:
        raise ConfigurationError(
            f"what is to be told of the images of {source} is a number, and train.{unsuited[0]} is for classes: leave "
            "it out"
        )


def _check_able(config: Method, able: Literal["numbers", "multi_label"], what: str, advice: str) -> None:
    """Whether all methods that are named can tell what is asked of them, by one of their attributes."""
    for key, name, method in _named(config):
        if not getattr(method, able):
            others = ", ".join(other for other, kind in METHODS.items() if getattr(kind, able))
            raise ConfigurationError(f"{what} {name} ({key}) {advice} {others}")


def suited_to(config: Method, kind: Kind) -> Method:
    """A method as it is used for a further task of some kind: without keys that mean nothing there; the linear head in
    its place, where it can tell no such thing, or learns from others than labels."""
    able = {"class": True, "labels": config.multi_label, "number": config.numbers}[kind]
    if not able or config.unlabelled or isinstance(config, Distillation):
        return Linear(seed=config.seed, calibrate=config.calibrate)
    gone = {"class": (), "labels": ("balance",), "number": tuple(OF_CLASSES)}[kind]
    return config.model_copy(update={key: OF_CLASSES[key] for key in gone if hasattr(config, key)})


def _check_several(config: Method, source: str) -> None:
    _check_able(
        config, "multi_label", f"the images of {source} have several labels each, and",
        "gives one: name one label column in ingest.source.label, or take one of",
    )  # fmt: skip
    if getattr(config, "balance", "none") != "none":
        raise ConfigurationError(
            f"the images of {source} have several labels each, so that no class counts for an image alone: "
            "leave train.balance at none"
        )


def check_teacher(config: Method) -> None:
    """Whether distillation, where it is named, has somebody to learn from.

    Raises:
        ConfigurationError: it has nobody.
    """
    for key, name, kind in _named(config):
        if issubclass(kind, Distillation) and not getattr(config, "teacher", []):
            if isinstance(config, Distillation):
                raise ConfigurationError(NOBODY)
            raise ConfigurationError(
                f"{name} ({key}) learns from a registered model, and {config.method} names none: take "
                f"train.method: {name} with train.teacher, and try others in its train.search.methods"
            )


def check_attack(config: Method) -> None:
    """Whether all methods that are tried learn under the attack that one is to learn under.

    Raises:
        ConfigurationError: one does not, so that accuracy under attack would be held against accuracy without.
    """
    if getattr(config, "attack", None) is None:
        return
    for key, name, kind in _named(config):
        if not issubclass(kind, TuningConfig):
            raise ConfigurationError(
                f"train.attack is for methods that train through the backbone, and {name} ({key}) does not: leave one "
                "of them out"
            )


def _named(config: Method) -> list[tuple[str, str, type[Method]]]:
    """The methods that a section names: the key of each, its name, and what it is."""
    key, tried = config.tried
    others = ((f"train.{key}", name, METHODS[name]) for name in tried)
    return [("train.method", config.method, type(config)), *others]


def check_pool(config: Method, dataset: Dataset) -> None:
    """Whether there are unlabelled images for a method that learns from them, of the domain that it is adapted to.

    Raises:
        ConfigurationError: there are none, or a single one; or such a method is tried among others.
    """
    _check_compared(config)
    if config.unlabelled and (count := dataset.counts.get("pool", 0)) < FEWEST:
        raise ConfigurationError(
            f"{config.method} (train.method) learns from unlabelled images of the target domain, and the pool of "
            f"{dataset.source} has {'a single one' if count else 'none'}: name the domain in ingest.split.target, or "
            "add images without labels (docs/adaptation.md)"
        )
    if config.unlabelled and not isinstance(config, Distillation):
        target_rows(dataset.read_manifest(), dataset.report_on)


def check_parts(config: Method, extract: ExtractConfig) -> None:
    """Whether a method suits how many backbones and layers there are.

    Raises:
        ConfigurationError: it trains through a backbone, or chooses one, and there are several; or it joins several,
            or weighs them, and there is one.
    """
    for key, name, kind in _named(config):
        if extract.beside and issubclass(kind, (TuningConfig, Auto)):
            what = "chooses one backbone" if kind is Auto else "trains through one backbone"
            able = ", ".join(each for each, other in METHODS.items() if not issubclass(other, (TuningConfig, Auto)))
            raise ConfigurationError(
                f"{name} ({key}) {what}, and extract.beside names further ones: leave extract.beside out, or "
                f"take a method for features of several: {able}"
            )
        if kind.joins and not extract.beside and len(extract.layers) < 2:
            raise ConfigurationError(
                f"{name} ({key}) joins several backbones or layers, and there is one: name others in "
                "extract.beside, or several in extract.layer, or take linear"
            )
    if getattr(config, "weigh", False) and not extract.beside and len(extract.layers) < 2:
        raise ConfigurationError(
            "train.weigh is how much each of several backbones or layers counts, and there is one: leave it out, or "
            "name others in extract.beside, or several in extract.layer"
        )


def check_trainable(
    config: Method, network: nn.Module, backbone: Backbone, device: torch.device, size: int
) -> None:  # fmt: skip
    """Whether the methods that are tried can train through a network, and have the devices that they ask for.

    Args:
        network: whole; nothing of it changes.
        backbone: what it becomes when it is cut off; both hold the same parameters.
        size: side of the images that are served, pixels.

    Raises:
        ConfigurationError: a block, a matrix or a device is not there, or the network takes images of another size, or
            makes more or fewer features of them.
    """
    for method in (config, *searched(config)):
        if not isinstance(method, TuningConfig):
            continue
        from tasks.extract.check import check_size
        from tasks.train.tuning.blocks import blocks_of
        from tasks.train.tuning.ranks import count_devices

        count_devices(method.devices, device)
        others = [side for side in method.sizes if side != size]
        width = check_size(backbone, size, "preprocess.size") if others else 0
        for side in others:
            if check_size(backbone, side, "train.sizes") != width:
                raise ConfigurationError(
                    f"train.sizes: images of {side} pixels have more or fewer features than those of {size} "
                    "(preprocess.size), which a head cannot take: take extract.pool: avg instead of flatten, or leave "
                    "train.sizes out"
                )
        whole, trunk = copy.deepcopy((network, backbone.trunk))
        method.prepare(whole, blocks_of(whole, trunk))
