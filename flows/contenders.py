"""Backbones that compete where `train.method` is auto: those that are named or, by default, those that are at hand."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.config import PipelineConfig, checked
from tasks.errors import HeadstartError
from tasks.extract.config import PUBLISHED, ExtractConfig
from tasks.extract.facts import BUILTIN, facts, facts_of, own_looks
from tasks.extract.hub import downloaded
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.kinds import VIEWS
from tasks.train.methods.auto import Auto

MOST = 6
"""Backbones that are at hand and compete without being named, the cheapest first."""
UNSUITED = (
    HeadstartError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError,
    MemoryError, ImportError,
)  # fmt: skip
"""What is raised where a contender does not suit images, method or memory: by torch a RuntimeError, by networks made of
all sorts of code whatever comes of it. What the system and servers raise is not the contender's."""


def contenders(config: PipelineConfig) -> dict[str, PipelineConfig]:
    """The pipeline with each of the backbones that compete, by name; as it is where it names a method itself."""
    auto = config.train
    if not isinstance(auto, Auto):
        return {name_of(config): config}
    own = config.extract
    found = [with_backbone(config, each) for each in auto.backbones or (own.backbone, *at_hand(own)[:MOST])]
    return by_name(found)


def by_name(configs: Sequence[PipelineConfig]) -> dict[str, PipelineConfig]:
    """Pipelines by the names of their backbones, each as short as tells it from the others."""
    short = [name_of(each) for each in configs]
    return {
        name if short.count(name) == 1 else name_of(each, whole=True): each
        for name, each in zip(short, configs, strict=True)
    }


def at_hand(own: ExtractConfig) -> list[str]:
    """The built-in backbone, and those whose weights have been downloaded, the cheapest first, but the configuration's
    own, under whichever name: as `with_backbone` takes them. Those whose cost is not known come last.

    With weights of a file, what is published for the same network is another backbone, and competes.
    """
    mine, published = facts_of(own.backbone), own.weights in PUBLISHED
    found = [BUILTIN] if own.backbone != BUILTIN else [] if published else [f"{BUILTIN}=builtin"]
    sources = {mine.source if mine and published else ""}
    for record in sorted(facts().values(), key=lambda record: record.flops or math.inf):
        if record.source and record.source not in sources and downloaded(record.source):
            sources.add(record.source)
            found.append(f"{record.name}=pretrained" if record.name == own.backbone else record.name)
    return found


def passed_over(config: PipelineConfig) -> list[str]:
    """What is at hand and does not compete, as others are cheaper."""
    auto = config.train
    return [] if not isinstance(auto, Auto) or auto.backbones else at_hand(config.extract)[MOST:]


def with_backbone(config: PipelineConfig, written: str) -> PipelineConfig:
    """The pipeline with another backbone, written as ``NAME[:LAYER][=WEIGHTS]``, and a linear head.

    The configuration's own backbone keeps its weights, layer and pooling; others take `pretrained`, and look at images
    as they were trained to, where the configuration does not say otherwise.

    Raises:
        ConfigurationError: the configuration does not go with that backbone.
    """
    whole, _, weights = written.partition("=")
    name, _, layer = whole.partition(":")
    own = config.extract
    changes: dict[str, Any] = {"layer": layer} if layer else {}
    if name != own.backbone:
        changes = {"backbone": name, "layer": layer or None, "pool": "avg"}
        weights = weights or ("builtin" if name == BUILTIN else "pretrained")
    changes |= {"weights": weights} if weights else {}
    values = config.model_dump(mode="json", by_alias=True)
    values["extract"] |= changes
    values["train"] = {"method": "linear", "seed": config.train.seed, "calibrate": config.train.calibrate}
    if name != own.backbone:
        values["preprocess"] = _said(config)
    return checked(values, PipelineConfig, f"with the backbone {written}")


def with_section(config: PipelineConfig, section: dict[str, Any]) -> PipelineConfig:
    """The pipeline with another section ``train``."""
    return PipelineConfig.model_validate(config.model_dump(mode="json", by_alias=True) | {"train": section})


def name_of(config: PipelineConfig, whole: bool = False) -> str:
    """A backbone, its layer where it was chosen, and its weights where they are a file: its name without the ending or,
    as others may have that, too, ``whole``, its path."""
    extract = config.extract
    layer = f":{'+'.join(extract.layers)}" if extract.layers else ""
    file = extract.weights if whole else Path(extract.weights).stem
    weights = "" if extract.weights in PUBLISHED else f"={file}"
    return f"{extract.backbone}{layer}{weights}"


def reckoned(config: PipelineConfig, measured: PipelineConfig, milliseconds: float) -> float | None:
    """Milliseconds that an image takes through a backbone, where they have been measured of another: in proportion to
    operations, but a third of a view at least, for reading files. None where the operations of one are not known."""
    if config is measured:
        return milliseconds
    work, known = operations(config), operations(measured)
    return milliseconds * max(1 / 3 / VIEWS[measured.preprocess.views], work / known) if work and known else None


def operations(config: PipelineConfig) -> float:
    """Floating-point operations of an image, whole networks reckoned; 0 where they are not known."""
    record = facts_of(config.extract.backbone)
    if record is None:
        return 0.0
    return VIEWS[config.preprocess.views] * record.flops * (config.preprocess.size / record.size) ** 2


def _said(config: PipelineConfig) -> dict[str, object]:
    """What the section ``preprocess`` says itself or, where it comes from a record in which all keys are written out,
    what of it does not follow from the configuration's own backbone."""
    said = config.preprocess.model_fields_set
    if said != PreprocessConfig.model_fields.keys():
        return config.preprocess.model_dump(include=said)
    follows = PreprocessConfig().model_dump() | own_looks(config.extract.backbone)
    return {key: value for key, value in config.preprocess.model_dump().items() if follows[key] != value}


def reason(error: Exception) -> str:
    """Why a contender is unsuited, in a line; where it is nothing that was foreseen, the log has all of it."""
    if isinstance(error, HeadstartError):
        return str(error)
    logging.getLogger("headstart").warning("a contender: %s", error, exc_info=error)
    return f"{type(error).__name__}: {error}".splitlines()[0]
