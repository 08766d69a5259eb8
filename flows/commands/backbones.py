"""`headstart backbones`: the networks that can be named, what they cost, and whether their weights are here; and
`headstart rank`: which of them suits some images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.arguments import ConfigFile, Overrides
from tasks.errors import ConfigurationError
from tasks.extract.facts import BUILTIN, Facts, matching
from tasks.extract.hub import downloaded
from tasks.workspace import check_output

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from flows.config import PipelineConfig

UNITS = {"": 1e9, "GB": 1e9, "MB": 1e6, "GIB": 2**30, "MIB": 2**20}
COLUMNS = ("name", "M params", "GFLOPs", "px", "GB to tune", "licence", "weights")


def backbones(
    search: Annotated[str, typer.Option("--search", "-s", metavar="WORD", help="Only names that contain it.")] = "",
    fits: Annotated[str | None, typer.Option(metavar="8GB", help="Only what can be tuned in so much memory.")] = None,
) -> None:
    """List the networks that extract.backbone may name.

    Parameters are counted without the classifier, operations for an image of the size it was trained with.

    Memory is an estimate, of tuning all of it in fp32 with batches of 32.

    Example: headstart backbones --search dinov2 --fits 8GB
    """
    from flows.console import out, plain_table, show_table

    found, unknown = list(matching(search)), 0
    if fits is not None:
        room, unknown = memory_of(fits), sum(not record.parameters for record in found)
        found = [record for record in found if record.parameters and record.memory <= room]
    table = plain_table(*COLUMNS, numbers=COLUMNS[1:5])
    for row in rows_of(found):
        table.add_row(*row)
    show_table(table, f"no backbone's name contains {search!r}" if fits is None else "none fits")
    if unknown:
        out.print(f"of {unknown:,} more it is not known how much memory they take")


def rank(
    config: ConfigFile,
    named: Annotated[
        str, typer.Option("--backbones", "-b", metavar="NAMES", help="Those to be ranked: NAME[:LAYER][=WEIGHTS], ...")
    ],
    images: Annotated[int, typer.Option(min=20, max=5000, help="Training images that are looked at, at most.")] = 2_000,
    set_: Overrides = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the table to this file (CSV).")] = None,
) -> None:
    """Rank backbones for a pipeline's images: features of a sample, scored and timed; nothing is trained or registered.

    Example: headstart rank photos.yaml --backbones mobilenet_v2,timm/vit_small_patch14_dinov2.lvd142m
    """
    from flows.opening import check, open_with_server, open_workspace

    check_output(output)
    workspace = open_workspace()
    from flows.console import show_table

    chosen = candidates(config, set_, named)
    check(chosen, workspace, replace=False)
    _, server = open_with_server()
    from flows.ranking import rank as rank_flow
    from flows.runs.delivery import carry_out

    def show(table: pd.DataFrame) -> None:
        show_table(ranking_table(table))
        if output:
            table.to_csv(output, index=False, float_format="%.4f")

    carry_out(lambda: rank_flow(chosen, images), server, show)


def candidates(path: Path, overrides: list[str], named: str) -> list[PipelineConfig]:
    """The pipeline with each of some backbones, written as ``NAME[:LAYER][=WEIGHTS]`` with commas between.

    The configuration's own backbone keeps its weights, layer and pooling; others take `pretrained`.

    Raises:
        ConfigurationError: one is written otherwise, or there are none.
    """
    from flows.config import PipelineConfig, read_config
    from flows.contenders import with_backbone
    from tasks.evaluate.transferability.sample import check_ranked

    written = read_config(path, overrides, PipelineConfig)
    check_ranked(written.ingest.source.targets()[0])
    if written.extract.beside:
        raise ConfigurationError(
            "a ranking is of single backbones, and extract.beside names further ones: `-s extract.beside=[]` ranks "
            "without them"
        )
    found = [with_backbone(written, each) for part in named.split(",") if (each := part.strip())]
    if len(found) < 2:
        raise ConfigurationError(
            "a ranking takes two backbones or more, as in --backbones resnet_32px,mobilenet_v2; `headstart backbones` "
            "lists them"
        )
    return found


def ranking_table(ranked: pd.DataFrame) -> Table:
    """A ranking on a terminal: `=` before what may be as good as the first, `*` before what none beats in both; n/a for
    scores that several labels an image have not."""
    from flows.console import plain_table

    columns = ("", "backbone", "probe", "rank", "k-NN", "LogME", "H-score", "NLEEP", "GFLOPs", "ms", "MB")
    table = plain_table(*columns, numbers=columns[2:])
    for row in ranked.to_dict("records"):
        rank = (
            f"{row['best_rank']}"
            if row["best_rank"] == row["worst_rank"]
            else f"{row['best_rank']}-{row['worst_rank']}"
        )
        table.add_row(
            ("=" if row["ties"] else "") + ("*" if row["pareto"] else ""), row["backbone"],
            f"{row['probe']:.4f} [{row['probe_low']:.4f}, {row['probe_high']:.4f}]", rank, f"{row['neighbours']:.4f}",
            f"{row['log_me']:.3f}", f"{row['h_score']:.2f}", "n/a" if isnan(row["n_leep"]) else f"{row['n_leep']:.3f}",
            f"{row['gflops']:.2f}", f"{row['ms']:.1f}", f"{row['mb']:.1f}",
        )  # fmt: skip
    return table


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
