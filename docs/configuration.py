"""Write docs/configuration.md from the configuration's own types and docstrings.

Command: python docs/configuration.py
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.config import PipelineConfig
from tasks.ingest.sources import SOURCES, Source


def page() -> str:
    """The whole page."""
    parts = [
        "# Configuration",
        "One section per stage; every key but `name` has a default. "
        "`headstart run CONFIG -s section.key=value` overrides one.",
        "This page is written by `python docs/configuration.py` from the code.",
    ]
    for name, field in PipelineConfig.model_fields.items():
        if inner := section(field):
            parts += describe(field.alias or name, inner, "##")
    return "\n\n".join(parts) + "\n"


def describe(name: str, model: type[BaseModel], level: str) -> Iterator[str]:
    """A section's heading, purpose and keys, then the sections in it."""
    yield f"{level} {name}"
    yield cleandoc(model.__doc__ or "")
    yield "\n".join(["| key | default | |", "|---|---|---|", *(row(name, field) for name, field in keys(model))])
    for key, field in keys(model):
        if key == "source":
            yield f"### {name}.source"
            yield "One of these; the first key of each tells it apart. docs/data.md has examples."
            for kind in SOURCES:
                yield from describe(f"source: {kind.key()}", kind, "####")
        elif inner := section(field):
            yield from describe(f"{name}.{key}", inner, f"{level}#")


def keys(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """The keys of a section as they are written."""
    return [(field.alias or name, field) for name, field in model.model_fields.items()]


def section(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds, None for a plain value."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Source else None


def row(name: str, field: FieldInfo) -> str:
    """A key, its default and its docstring as a row of a table."""
    default = field.get_default(call_default_factory=True)
    shown = "required" if field.is_required() else "see below" if section(field) else f"`{default}`"
    return f"| `{name}` | {shown} | {' '.join((field.description or '').split())} |"


if __name__ == "__main__":
    (Path(__file__).parent / "configuration.md").write_text(page())
