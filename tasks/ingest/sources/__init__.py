"""Where images come from. A new source is a file here with one class, and its name in `SOURCES`."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BeforeValidator, SerializeAsAny, WithJsonSchema

from tasks.ingest.sources.archive import ArchiveSource
from tasks.ingest.sources.base import Item, Source
from tasks.ingest.sources.digits import DigitsSource
from tasks.ingest.sources.domains import DomainsSource
from tasks.ingest.sources.folder import FolderSource
from tasks.ingest.sources.huggingface import HuggingFaceSource
from tasks.ingest.sources.table import TableSource
from tasks.ingest.sources.torchvision import TorchvisionSource
from tasks.ingest.sources.version import VersionSource
from tasks.ingest.sources.webdataset import WebDatasetSource

SOURCES: tuple[type[Source], ...] = (
    FolderSource,
    ArchiveSource,
    TableSource,
    HuggingFaceSource,
    WebDatasetSource,
    TorchvisionSource,
    DigitsSource,
    DomainsSource,
    VersionSource,
)


def read_source(value: Any) -> Any:
    """A section ``source:`` as the source that its key names.

    Raises:
        ValueError: not exactly one source is named.
    """
    if not isinstance(value, dict):
        return value
    kinds = {kind.key(): kind for kind in SOURCES}
    named = [key for key in value if key in kinds and value[key] is not None]
    if len(named) != 1:
        near = [close for key in value for close in get_close_matches(str(key), kinds, n=1)] if not named else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name exactly one of {', '.join(kinds)}; given: {', '.join(map(str, value)) or 'none'}{hint}")
    kind = kinds[named[0]]
    for key in value:
        if key not in kind.model_fields:
            near = get_close_matches(str(key), kind.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(kind.model_fields)}"
            raise ValueError(f"unknown key {key!r}; {hint}")
    entries = {key: entry for key, entry in value.items() if entry is not None}
    if kind is DomainsSource and isinstance(entries["domains"], dict):
        entries["domains"] = {name: read_source(entry) for name, entry in entries["domains"].items()}
    return kind.model_validate(entries)


def form_of(annotation: Any) -> dict[str, Any]:
    """The JSON schema of a key's values, by their outermost types."""
    kinds = [{"type": kind} for kind in dict.fromkeys(_types(annotation))]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _types(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _types(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from _types(each)
    else:
        named = {bool: "boolean", list: "array", dict: "object", type(None): "null"}
        yield named.get(origin or annotation, "string")


AnySource = Annotated[
    SerializeAsAny[Source],
    BeforeValidator(read_source),
    WithJsonSchema(
        {
            "title": "Source",
            "anyOf": [
                {
                    "type": "object",
                    "title": kind.key(),
                    "description": " ".join((kind.__doc__ or "").split()),
                    "properties": {
                        name: form_of(field.annotation) | {"description": field.description}
                        for name, field in kind.model_fields.items()
                    },
                    "required": [kind.key()],
                }
                for kind in SOURCES
            ],
        }
    ),
]
"""What ``ingest.source`` may be; each source is an alternative in the form of Prefect's page."""

__all__ = ["SOURCES", "AnySource", "Item", "Source", "read_source"]
