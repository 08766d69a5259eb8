"""The `headstart features` commands: what the feature store holds, whether it is sound, and making room."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tasks.wording import counted
from tasks.workspace import Workspace

app = typer.Typer(
    help="Features that backbones have computed: list, check and clear them.\n\nThere is one space for each backbone, "
    "layer, pooling, preprocessing and precision; a run computes only what its space does not have yet.",
    no_args_is_help=True,
)

MIB = 2**20


@app.command("ls")
def ls() -> None:
    """Every feature space: what it is of, its size, and when a run last opened it.

    Example: headstart features ls
    """
    from flows.console import nothing_in, plain_table, show_table
    from tasks.extract.upkeep import describe, space_folders

    columns = ("space", "backbone", "layer", "pool", "size", "precision", "images", "MiB", "last used", "")
    table = plain_table(*columns, numbers=("size", "images", "MiB"))
    for space in map(describe, space_folders(_root())):
        about = space.about or {}
        layer = about.get("layer", "")
        notes = [] if space.about else ["space.json is missing or not legible"]
        notes += [f"{space.unreadable:,} damaged files: see verify"] if space.unreadable else []
        table.add_row(
            space.folder.name[:12], str(about.get("backbone", "")),
            " + ".join(map(str, layer)) if isinstance(layer, list) else str(layer), str(about.get("pool", "")),
            str(about.get("size", "")), str(about.get("precision", "")), f"{space.images:,}",
            f"{space.nbytes / MIB:,.1f}", f"{datetime.fromtimestamp(space.used):%Y-%m-%d %H:%M}", ", ".join(notes),
        )  # fmt: skip
    place = str(Workspace.find().root)
    show_table(table, nothing_in(place, "no features", "`headstart run CONFIG` computes some"))


@app.command()
def verify(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Beginning of a space's name; by default all.")] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged files aside: the next run computes their images again.")
    ] = False,
) -> None:
    """Read all features and compare them with what was written; ends with 1 if something is damaged.

    Example: headstart features verify --repair
    """
    from flows.console import out, shown
    from tasks.extract.upkeep import move_aside, space_folders
    from tasks.extract.upkeep import verify as verify_space

    with shown():
        found = [verify_space(folder) for folder in space_folders(_root(), space)]
    for health in found:
        for part in health.damage:
            out.print(f"{health.folder.name}/{part.path.name}: {part.what}", soft_wrap=True)
        for remark in health.remarks:
            out.print(f"{health.folder.name}: {remark}", soft_wrap=True)
    damage = [part for health in found for part in health.damage]
    parts, images = (sum(getattr(health, of) for health in found) for of in ("parts", "images"))
    closing = f"{counted(len(found), 'space')}, {counted(parts, 'sound file')}, {counted(images, 'image')}"
    if not damage:
        out.print(f"{closing}: clean")
    elif repair:
        move_aside(damage)
        out.print(f"{closing}; {len(damage):,} damaged, moved aside: the next run computes those images again")
    else:
        out.print(f"{closing}; {len(damage):,} damaged: --repair moves them aside")
        sys.exit(1)


@app.command()
def gc(
    unused_for: Annotated[
        int | None, typer.Option("--unused-for", min=0, metavar="DAYS", help="Remove spaces not used for so long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only tell what would be done.")] = False,
) -> None:
    """Remove what killed runs have left, damaged files, and spaces out of use; merge small files. Safe during runs.

    Example: headstart features gc --unused-for 30 --dry-run
    """
    from flows.console import out
    from tasks.extract.clearing import clear

    freed = 0
    for cleared in clear(_root(), unused_for, dry_run):
        size = f", {cleared.nbytes / MIB:,.1f} MiB" if cleared.nbytes else ""
        out.print(f"{cleared.folder.name[:12]}  {cleared.what}{size}", soft_wrap=True)
        freed += cleared.nbytes
    out.print(f"{'would free' if dry_run else 'freed'} {freed / MIB:,.1f} MiB")


def _root() -> Path:
    return Workspace.find().cache / "features"
