"""Write docs/configuration.md from the configuration's own types and docstrings.

Command: python docs/configuration.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.config import PipelineConfig
from tasks.ingest.labels import Asked
from tasks.ingest.sources import SOURCES, Source
from tasks.ingest.tables.folds import Folds
from tasks.register.gates import GATES
from tasks.register.gating import Gate
from tasks.train.config import DEFAULT
from tasks.train.joint.config import TasksConfig
from tasks.train.method import Method, SearchConfig
from tasks.train.methods import METHODS
from tasks.train.tuning.config import AttackConfig
from tasks.train.tuning.method import ThroughBackbone


def page() -> str:
    """The whole page."""
    parts = [
        "# Configuration",
        "One section per stage; every key but `name` has a default. "
        "`headstart run CONFIG -s section.key=value` overrides one.",
        "This page is written by `python docs/configuration.py` from the code.",
    ]
    for name, field in PipelineConfig.model_fields.items():
        if name == "train":
            parts += describe_train()
        elif inner := section(field):
            parts += describe(field.alias or name, inner, "##")
    parts += describe_gates()
    return "\n\n".join(parts) + "\n"


def describe(name: str, model: type[BaseModel], level: str) -> Iterator[str]:
    """A section's heading, purpose and keys, then the sections in it."""
    yield f"{level} {name}"
    yield cleandoc(model.__doc__ or "")
    yield table(row(name, field) for name, field in keys(model))
    for key, field in keys(model):
        if key == "source":
            yield f"### {name}.source"
            yield "One of these; the first key of each tells it apart. docs/data.md has examples."
            for kind in SOURCES:
                yield from describe(f"source: {kind.key()}", kind, "####")
            yield from describe("source: label: NAME", Asked, "####")
            yield from describe("source: split, of a table", Folds, "####")
        elif inner := section(field) or optional(field):
            yield from describe(f"{name}.{key}", inner, f"{level}#")


def describe_train() -> Iterator[str]:
    """What all methods share, then what each adds: those on cached features first."""
    yield "## train"
    yield (
        "How a model is fitted to the team's classes. `method` names one of the methods below, each with keys of its "
        "own, and every method has these. docs/methods.md says which one to take."
    )
    shared = (row(name, field) for name, field in keys(Method) if name != "method")
    yield table((f"| `method` | `{DEFAULT}` | {', '.join(f'`{name}`' for name in METHODS)}. |", *shared))
    yield from describe("train.search", SearchConfig, "###")
    for name, kind in METHODS.items():
        if not issubclass(kind, ThroughBackbone):
            yield from describe_method(name, kind, Method)
    yield "### train: all methods through the backbone"
    yield "Where a method below gives another default, that one holds."
    yield table(added(ThroughBackbone, Method))
    yield from describe("train.attack", AttackConfig, "###")
    yield from describe("train.tasks", TasksConfig, "###")
    for name, kind in METHODS.items():
        if issubclass(kind, ThroughBackbone):
            yield from describe_method(name, kind, ThroughBackbone)


def describe_gates() -> Iterator[str]:
    """What all gates share, then what each adds."""
    yield "### register.gates"
    yield "Each has these keys and its own; a name alone is a gate with its defaults. docs/gates.md has examples."
    yield table(row(name, field) for name, field in keys(Gate) if name != "gate")
    for name, kind in GATES.items():
        yield from describe_method(name, kind, Gate, "#### gate")


def describe_method(name: str, kind: type[BaseModel], base: type[BaseModel], level: str = "### train") -> Iterator[str]:
    """The heading of a method or gate, its purpose and what it adds to its base."""
    yield f"{level}: {name}"
    yield cleandoc(kind.__doc__ or "")
    if rows := added(kind, base):
        yield table(rows)


def added(kind: type[BaseModel], base: type[BaseModel]) -> list[str]:
    """Rows of the keys that a method does not have from its base as they are."""
    known = {name: repr(field) for name, field in keys(base)}
    return [
        row(name, field)
        for name, field in keys(kind)
        if name not in ("method", "gate") and known.get(name) != repr(field)
    ]


def keys(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """The keys of a section as they are written."""
    return [(field.alias or name, field) for name, field in model.model_fields.items()]


def section(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds, or a list of, None for a plain value."""
    kind: Any = field.annotation
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Source else None


def optional(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key may hold, and does not by default."""
    return next(
        (kind for kind in get_args(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)), None
    )


def table(rows: Iterable[str]) -> str:
    """Rows of keys under their heading."""
    return "\n".join(["| key | default | |", "|---|---|---|", *rows])


def row(name: str, field: FieldInfo) -> str:
    """A key, its default and its docstring as a row of a table."""
    default = field.get_default(call_default_factory=True)
    if isinstance(default, list):  # of gates
        default = [each.gate if isinstance(each, Gate) else each for each in default]
    shown = "required" if field.is_required() else "see below" if section(field) else f"`{default}`"
    return f"| `{name}` | {shown} | {' '.join((field.description or '').split())} |"


if __name__ == "__main__":
    (Path(__file__).parent / "configuration.md").write_text(page())
