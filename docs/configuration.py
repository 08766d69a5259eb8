"""Write docs/configuration.md from the configuration's own types and docstrings.

Command: python docs/configuration.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.config import PipelineConfig


def rows(model: type[BaseModel]) -> Iterator[str]:
    """A table row per key."""
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default}`"
        yield f"| `{field.alias or name}` | {default} | {text(field)} |"


def text(field: FieldInfo) -> str:
    """The key's docstring on one line."""
    return " ".join((field.description or "").split())


def page() -> str:
    """The whole page."""
    parts = [
        "# Configuration",
        "One section per stage; every key but `name` has a default. "
        "`headstart run CONFIG -s section.key=value` overrides one.",
        "This page is written by `python docs/configuration.py` from the code.",
    ]
    for name, field in PipelineConfig.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts += [f"## {field.alias or name}", (section.__doc__ or "").strip(), table(section)]
            for key, inner in section.model_fields.items():
                if isinstance(inner.annotation, type) and issubclass(inner.annotation, BaseModel):
                    parts += [f"### {name}.{key}", (inner.annotation.__doc__ or "").strip(), table(inner.annotation)]
    return "\n\n".join(parts) + "\n"


def table(model: type[BaseModel]) -> str:
    """A Markdown table of a section's keys."""
    return "\n".join(["| key | default | |", "|---|---|---|", *rows(model)])


if __name__ == "__main__":
    (Path(__file__).parent / "configuration.md").write_text(page())
