"""What a person sees of a run: a bar for the stage at work, a line for each that is done, a summary."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from flows.runs.summary import Outcome, summary_rows
from flows.servers.access import USER
from flows.servers.environment import prefect_home
from tasks.progress import watched_by
from tasks.records import Dataset
from tasks.wording import REASON, brief
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from flows.runs.ui import Page


def plain_console(**settings: Any) -> Console:
    """A console that shows what it is given as it is: names and reasons of users may hold ``[x]`` and ``:x:``.

    Args:
        settings: as `rich.console.Console` takes them.
    """
    return Console(highlight=False, markup=False, emoji=False, **settings)


out = plain_console()
err = plain_console(stderr=True)
WIDEST = 10_000
"""Of a line in a file, in letters."""


def plain_table(
    *columns: str, numbers: Collection[str] = (), whole: Collection[str] = (), title: str | None = None
) -> Table:
    """A table without lines.

    Args:
        numbers: columns that are set to the right.
        whole: columns whose values are not broken, however narrow the terminal.
    """
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in columns:
        table.add_column(
            column, overflow="fold", justify="right" if column in numbers else "left", no_wrap=column in whole
        )
    return table


def show_table(table: Table, otherwise: str = "") -> None:
    """Print a table, or what is said in place of an empty one.

    What does not fit on a terminal goes on in the next line, nothing is cut; in a file each row is a line.
    """
    if not table.row_count:
        out.print(otherwise, soft_wrap=True)
    elif out.is_terminal:
        out.print(table)
    else:
        whole = plain_console(width=WIDEST).measure(table).maximum
        plain_console(file=out.file, width=whole).print(table)


def nothing_in(place: str, what: str, remedy: str) -> str:
    """What is said where nothing is found: where it was looked for, what makes some, and how to look elsewhere."""
    elsewhere = "" if "://" in place else ", HEADSTART_WORKSPACE names another folder"
    return f"{what} yet in {place}: {remedy}{elsewhere}"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        return Text(f"{task.speed:,.0f} {unit}/s" if task.speed and task.speed >= 1 else "", style="dim")


class RunConsole:
    """Shows progress on a terminal; where output goes to a file, only the lines of finished stages."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<11}", markup=False),
            BarColumn(30),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        self.bars = Progress(*columns, console=out, transient=True, disable=quiet or not out.is_terminal)

    def begin(self, what: str, total: int, unit: str) -> int:
        return self.bars.add_task(what, total=total or None, unit=unit)

    def advance(self, bar: int, count: int) -> None:
        self.bars.advance(bar, count)  # type: ignore[arg-type]

    def end(self, bar: int) -> None:
        self.bars.remove_task(bar)  # type: ignore[arg-type]

    def tell(self, line: str) -> None:
        if not self.quiet:
            stage, sentence, took = f"{line}\t".split("\t")[:3]
            out.print(Text.assemble(("✓", "green"), f" {stage:<11} {sentence} ", (took, "dim")), soft_wrap=True)


def findings_table(dataset: Dataset) -> Table:
    """What the checks of a dataset found: count, what it is, what was done, an example."""
    import pandas as pd  # which takes longer to import than an error to be told

    table = plain_table("count", "finding", "policy", "for example", numbers=("count",))
    for row in pd.read_csv(dataset.report / "checks.csv", keep_default_na=False, dtype=str).to_dict("records"):
        table.add_row(
            f"{int(row['count']):,}",
            row["what"],
            row["policy"],
            Text(brief(row["example"], REASON), overflow="ellipsis"),
        )
    return table


def classes_table(dataset: Dataset, most: int = 30) -> Table:
    """Images of each class in each split; where there are many, those of the first and how many more there are."""
    import pandas as pd

    classes = pd.read_csv(dataset.report / "classes.csv", keep_default_na=False, dtype=str)
    table = plain_table(*classes.columns, numbers=classes.columns[1:])
    for name, *counts in classes.head(most).to_numpy():
        table.add_row(Text(name), *(f"{int(count):,}" for count in counts))
    if len(classes) > most:
        table.add_row(f"and {len(classes) - most:,} more, in classes.csv")
    return table


def tasks_table(dataset: Dataset) -> Table:
    """The tasks, the leading one first: what they are, and the images of each split that have a label."""
    facts = json.loads((dataset.report / "checks.json").read_text())["tasks"]
    table = plain_table("task", "kind", "", *dataset.counts, numbers=tuple(dataset.counts))
    for target in dataset.targets:
        told = facts[target.name]
        what = f"{len(target.classes):,} classes"
        if target.kind == "number":
            what = f"{told['min']:g} to {told['max']:g} {target.unit}, mean {told['mean']:.4g}"
        images = (f"{target.images.get(split, 0):,}" for split in dataset.counts)
        table.add_row(target.name, target.kind, Text(" ".join(what.split()).replace(" ,", ",")), *images)
    return table


def changes_table(changes: pd.DataFrame, most: int) -> Table:
    """How many of each change there are, and the first ones; see `tasks.ingest.compare`."""
    table = plain_table("change", "count", "path", "before", "after")
    each = max(1, most // changes["change"].nunique())
    for change, rows in changes.groupby("change", observed=True):
        head = (str(change), f"{len(rows):,}")
        for path, before, after in rows[["path", "before", "after"]].head(each).fillna("").astype(str).to_numpy():
            table.add_row(*head, path, before, after)
            head = ("", "")
    return table


@contextmanager
def shown(quiet: bool = False) -> Iterator[None]:
    """Show the progress of what is done inside the block."""
    console = RunConsole(quiet)
    with console.bars, watched_by(console):
        yield


def show_outcome(outcome: Outcome, server: str | None) -> None:
    """Print the summary of a run, and where to look next."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for what, value in summary_rows(outcome):
        bold = what in (outcome.headline, "model")
        table.add_row(what, Text(value, style="bold" if bold else ""))
    table.add_row(
        "look",
        Text(
            f"headstart report    all of it on one page\n"
            f"headstart ui        run {outcome.run_id[:8]} with curves, figures and tables"
            + (f"; flow at {server.removesuffix('/api')}" if server else "")
        ),
    )
    model = outcome.model
    table.add_row("use", Text(f"headstart predict {model.name}@{model.alias or model.version} FOLDER"))
    if model.pending:
        which = f"{model.name} {model.version} --why TEXT"
        table.add_row("decide", Text(f"headstart approve {which}, or reject {which}"))
    elif model.alias != "champion":
        table.add_row("promote", Text(f"headstart promote {model.name} {model.version}"))
    out.print()
    show_table(table)


def show_pages(pages: list[Page], workspace: Workspace) -> None:
    """Print where pages are; what opens those of ours is for a person at a terminal, not for a file."""
    for page in pages:
        out.print(f"{page.name:<8} {page.link if out.is_terminal else page.address}", soft_wrap=True)
    if any(page.secret for page in pages):
        secret = prefect_home(workspace.root) / "secret"
        if out.is_terminal:
            out.print("These links log a browser in: keep them to yourself.")
        out.print(
            f"Asked for a password: {secret} holds it; MLflow's user is {USER}, to Prefect say {USER}:PASSWORD",
            soft_wrap=True,
        )
    out.print("Ctrl-C ends MLflow's page; `headstart ui --stop` stops Prefect")
