"""The commands `headstart lineage` and `headstart reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.opening import open_workspace
from tasks.workspace import check_output, write_whole

Which = Annotated[str, typer.Argument(metavar="WHICH", help="A model's version, NAME@VERSION or NAME@ALIAS, or a run.")]


def lineage(
    which: Which,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, in OpenLineage's terms.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON to this file.")] = None,
) -> None:
    """Tell where a model comes from: method, features, dataset, code, environment, figures, decisions.

    Example: headstart lineage digits@champion --json -o lineage.json
    """
    check_output(output)
    workspace = open_workspace(reads=True)
    import json

    from flows.console import out
    from flows.lineage.openlineage import event
    from flows.lineage.tree import facts_of, show

    facts = facts_of(workspace, which)
    text = json.dumps(event(facts), indent=2, ensure_ascii=False)
    if output:
        write_whole(output, text + "\n")
        out.print(f"written: {output}", soft_wrap=True)
    elif as_json:
        out.print(text, soft_wrap=True)
    else:
        show(facts)


def reproduce(
    which: Which,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for it, empty; by default a temporary one, which stays.")
    ] = None,
    environment: Annotated[
        Literal["same", "here", "new"],
        typer.Option(
            help="same: this one, if its libraries are the run's; here: this one as it is; new: from the lock."
        ),
    ] = "same",
) -> None:
    """Make a model again from what its run kept, and say whether it predicts the same; exit code 1 where it does not.

    Example: headstart reproduce digits@champion
    """
    workspace = open_workspace(begins=False)
    from flows.console import shown
    from flows.lineage.reproduce import reproduce as make_again
    from flows.lineage.reproduce import show

    with shown():
        found = make_again(workspace, which, into, environment)
    show(found)
    if not found.is_identical:
        sys.exit(1)
