"""`headstart backbones`: the networks that can be named, what they cost, and whether their weights are here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from tasks.errors import ConfigurationError
from tasks.extract.facts import BUILTIN, Facts, matching
from tasks.extract.hub import downloaded

UNITS = {"": 1e9, "GB": 1e9, "MB": 1e6, "GIB": 2**30, "MIB": 2**20}
COLUMNS = ("name", "M params", "GFLOPs", "px", "GB to tune", "licence", "weights")


def backbones(
    search: Annotated[str, typer.Option("--search", "-s", metavar="WORD", help="Only names that contain it.")] = "",
    fits: Annotated[str | None, typer.Option(metavar="8GB", help="Only what can be tuned in so much memory.")] = None,
) -> None:
    """List the networks that extract.backbone may name.

    Parameters without the classifier; floating-point operations of an image of the size it was trained with; memory is
    an estimate, of tuning all of it in fp32 with batches of 32.

    Example: headstart backbones --search dinov2 --fits 8GB
    """
    from flows.console import plain_table, show_table

    found = list(matching(search))
    if fits is not None:
        room = memory_of(fits)
        found = [record for record in found if record.parameters and record.memory <= room]
    table = plain_table(*COLUMNS, numbers=COLUMNS[1:5])
    for row in rows_of(found):
        table.add_row(*row)
    show_table(table, f"no backbone's name contains {search!r}" if fits is None else "none fits")


def rows_of(records: Sequence[Facts]) -> list[tuple[str, ...]]:
    """A row of the table for each."""
    return [(record.name, *_costs(record), record.licence or "-", _weights(record)) for record in records]


def memory_of(text: str) -> float:
    """Bytes that ``8GB``, ``500 MB`` or ``8`` (gigabytes) mean.

    Raises:
        ConfigurationError: it is no amount of memory.
    """
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if parts is None or parts[2].upper() not in UNITS:
        raise ConfigurationError(f"--fits {text}: write an amount of memory, such as 8GB or 500MB")
    return float(parts[1]) * UNITS[parts[2].upper()]


def _costs(record: Facts) -> tuple[str, str, str, str]:
    if not record.parameters:  # what cannot be counted without its weights
        return "?", "?", str(record.size), "?"
    return (
        f"{record.parameters / 1e6:.1f}", f"{record.flops / 1e9:.2f}", str(record.size), f"{record.memory / 1e9:.1f}",
    )  # fmt: skip


def _weights(record: Facts) -> str:
    if record.name == BUILTIN:
        return "built in"
    if not record.source:
        return "none"
    if downloaded(record.source):
        return "here"
    return "on the web" if "://" in record.source else "on the hub"
