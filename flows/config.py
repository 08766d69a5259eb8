"""The configurations of a pipeline, one section per stage, each defined in its stage, and of a pretraining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo

from flows.document import read_document
from tasks.errors import ConfigurationError
from tasks.evaluate.config import EvaluateConfig
from tasks.extract.config import ExtractConfig
from tasks.extract.facts import BUILTIN, own_looks
from tasks.ingest.config import IngestConfig
from tasks.ingest.sources import SOURCES, AnySource, Source
from tasks.preprocess.config import PreprocessConfig
from tasks.register.config import RegisterConfig
from tasks.register.gates import GATES
from tasks.register.gating import no_gate
from tasks.section import Section
from tasks.train.config import TrainConfig
from tasks.train.method import no_method
from tasks.train.methods import METHODS
from tasks.train.methods.linear import Linear

Config = TypeVar("Config", bound=BaseModel)


class PipelineConfig(Section):
    """What a run of the pipeline needs to know."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Of the MLflow experiment and of the registered model."""
    ingest: IngestConfig = IngestConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    extract: ExtractConfig = ExtractConfig()
    train: TrainConfig = Linear()
    evaluate: EvaluateConfig = EvaluateConfig()
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")

    @model_validator(mode="wrap")
    @classmethod
    def _look_as_the_backbone_does(cls, values: Any, validate: ModelWrapValidatorHandler[PipelineConfig]) -> Any:
        """What ``preprocess`` does not say follows from the backbone that ``extract`` names, and counts as not set."""
        if not isinstance(values, dict):
            return validate(values)
        extract, given = values.get("extract") or {}, values.get("preprocess") or {}
        if not isinstance(extract, dict) or not isinstance(given, dict):
            return validate(values)
        follows = own_looks(str(extract.get("backbone", BUILTIN)))
        made = validate(values | {"preprocess": follows | given})
        made.preprocess.model_fields_set.difference_update(follows.keys() - given.keys())
        return made


class ScheduleConfig(Section):
    """See `tasks.train.pretraining.Schedule`."""

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=0.2, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    grayscale: float = Field(default=0.1, ge=0, le=1)
    seed: int = 0


class ProbeConfig(IngestConfig):
    """A dataset to try the backbone on, and which of its features."""

    layer: str | None = None
    """As in the ``extract`` section."""
    pool: Literal["avg", "flatten"] = "avg"
    """As in the ``extract`` section."""


class PretrainConfig(Section):
    """What to pretrain on, how, and what to probe the result with."""

    name: str
    source: AnySource
    """Images of the source task; its held-out split gives the source accuracy."""
    size: int = Field(default=32, ge=8)
    schedule: ScheduleConfig = ScheduleConfig()
    probes: dict[str, ProbeConfig] = Field(default_factory=dict)
    """Datasets that a linear head is fitted to afterwards, by name."""
    licence: str = "see the source data's terms"
    """Note for the card."""


def read_config(path: Path, overrides: Sequence[str], model: type[Config]) -> Config:
    """Read a YAML file, apply ``section.key=value`` overrides, and check the whole.

    Raises:
        ConfigurationError: the file is missing or no YAML, a key is unknown or a value has the wrong type.
    """
    values = read_document(path)
    for override in overrides:
        _override(values, override)
    return checked(values, model, str(path))


def checked(values: dict[str, Any], model: type[Config], where: str) -> Config:
    """A configuration of its values.

    Raises:
        ConfigurationError: a key is unknown or a value has the wrong type; ``where`` is where they are written.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {_explain(error, model)}") from error


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigurationError(f"-s {override}: write it as section.key=value, for example -s train.epochs=5")
    *above, last = key.split(".")
    for name in above:
        below = values.setdefault(name, {})
        if not isinstance(below, dict):
            raise ConfigurationError(f"-s {override}: {name!r} is a value, not a section")
        values = below
    try:
        values[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        # Such as */label, which would be an alias in YAML, or 2026-13-45, a date that there is not.
        values[last] = value


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    return "; ".join(_explain_one(one, model) for one in error.errors())


def _explain_one(one: Any, model: type[BaseModel]) -> str:
    place = [str(part) for part in one["loc"] if not str(part).startswith("(")]  # what tells forms of a value apart
    if one["type"] == "union_tag_invalid":
        named = str(one["ctx"]["tag"])
        if place[0] == "register":
            return f"{'.'.join(place)}: {no_gate(named, GATES)}"
        return f"train.method: {no_method(named, METHODS)}"
    if place[:2] == ["register", "gates"] and place[3:4] and place[3] in GATES:
        return _explain_gate(one, place)
    # pydantic names the method among the keys.
    method = place.pop(1) if place[:1] == ["train"] and place[1:2] and place[1] in METHODS else None
    key = ".".join(place) or "configuration"
    if one["type"] == "extra_forbidden":
        section, path = (METHODS[method], place[1:-1]) if method else (model, place[:-1])
        hint = _hint_for_method(place[-1], method) if method and not path else _hint(place[-1], _names(section, path))
        return f"unknown key {key!r}; {hint}" if hint else f"unknown key {key!r}"
    if one["type"] == "missing":
        return f"the key {key!r} is missing"
    message = one["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]} (given: {one['input']!r})"


def _explain_gate(one: Any, place: Sequence[str]) -> str:
    """What is wrong with a gate, which pydantic names after its place in the list."""
    gate, key = place[3], place[-1]
    where = f"register.gates.{place[2]} (gate {gate})"
    if one["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}; {_hint(key, list(GATES[gate].model_fields))}"
    if one["type"] == "missing":
        return f"{where}: the key {key!r} is missing"
    message = one["msg"].removeprefix("Value error, ")
    keys = "".join(f"{each}: " for each in place[4:])
    return f"{where}: {keys}{message[0].lower()}{message[1:]} (given: {one['input']!r})"


def _hint(unknown: str, known: Sequence[str]) -> str:
    """What an unknown key may be; empty where nothing is known."""
    near = get_close_matches(unknown, known, n=1, cutoff=0.5)
    if near or not known:
        return f"did you mean {near[0]!r}?" if near else ""
    return f"known here: {', '.join(known)}"


def _hint_for_method(unknown: str, method: str) -> str:
    """What a key that a method does not have may be: one of its own, or one that other methods have."""
    keys = {name: list(kind.model_fields) for name, kind in METHODS.items()}
    near = get_close_matches(unknown, sorted({*chain(*keys.values())}), n=1, cutoff=0.5)
    if not near or near[0] in keys[method]:
        return _hint(unknown, keys[method])
    owners = ", ".join(name for name, known in keys.items() if near[0] in known)
    it = "it" if near[0] == unknown else f"did you mean {near[0]!r}? It"
    return f"{it} belongs to {owners}, and train.method is {method}"


def _names(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that are known in the section at ``path``; of a source, those of each that has the keys on the way."""
    sections, steps = [model], iter(path)
    for part in steps:
        known = [_fields(section) for section in sections]
        if annotations := [fields[part].annotation for fields in known if part in fields]:  # else a place in a list
            sections = [section for each in annotations for section in _sections(each)]
            if any(_is_mapping(each) for each in annotations):
                next(steps, None)  # a name that the user gave
    return [*dict.fromkeys(key for section in sections for key in _fields(section))]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """By the keys that stand in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a value may be, or hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from SOURCES if annotation is Source else (annotation,)
    for part in get_args(annotation):
        yield from _sections(part)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(_is_mapping(part) for part in get_args(annotation))
