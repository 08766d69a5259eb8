"""The `headstart` command. Everything here is thin: it settles the environment, calls a flow and shows the result.

Heavy libraries are imported inside the commands, after the environment is settled and so that `--help` is quick.
"""

from __future__ import annotations

import gc
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows.clock import begin_with_the_process
from flows.commands import approve, backbones, data, deploy, features, lineage, schedule, suggest
from flows.commands.arguments import ConfigFile, Name, Overrides, Replace
from flows.interruption import INTERRUPTED, noting, then_after
from flows.opening import open_pipeline, open_with_server, open_workspace
from tasks.encoding import is_utf8
from tasks.errors import ConfigurationError
from tasks.wording import counted
from tasks.workspace import Workspace, check_output

RUN, BROWSE, PROMOTE, DATA = "Run", "Browse", "Promote and use", "Data"
"""What commands are listed under."""

app = typer.Typer(
    help="Give your image classifier a head start: take a pretrained vision backbone, fit a new head to your own "
    "classes, and keep the model alive.\n\nExample: headstart run configs/digits.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _told(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headstart {version('headstart')}")
        raise typer.Exit


@app.callback()
def about(
    told: Annotated[bool, typer.Option("--version", help="Tell the version.", is_eager=True, callback=_told)] = False,
) -> None:
    """What all commands share."""


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print one line at the end only.")]
Why = Annotated[str, typer.Option("--why", "-m", help="Reason, kept with the move.")]


@app.command(rich_help_panel=RUN)
def run(
    config: ConfigFile,
    set_: Overrides = [],  # noqa: B006
    quiet: Quiet = False,
    replace: Replace = False,
) -> None:
    """Run the pipeline: labelled images in, a registered model out.

    Example: headstart run configs/digits.yaml -s train.method=mlp -s train.epochs=5
    """
    begin_with_the_process()
    settings = open_pipeline(config, set_, replace, quiet)
    _, server = open_with_server()
    from flows.console import out, show_outcome
    from flows.runs.delivery import carry_out
    from flows.runs.summary import Outcome, one_line
    from flows.transfer import transfer

    def show(outcome: Outcome) -> None:
        if quiet:
            out.print(one_line(outcome), soft_wrap=True)
        else:
            show_outcome(outcome, server)

    carry_out(lambda: transfer(settings), server, show, quiet)


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve() -> None:
    """What `headstart schedule` was called."""
    raise ConfigurationError("`headstart serve` is called `headstart schedule` now, with the same arguments")


@app.command(rich_help_panel=BROWSE)
def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Preferred port of MLflow's page.")] = 5000,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the workspace's Prefect server instead.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Stop it even where runs or schedules need it.")] = False,
) -> None:
    """Open Prefect's and MLflow's pages on loopback, until Ctrl-C.

    On a terminal it prints links that log a browser in; keep them to yourself.

    Example: headstart ui
    """
    from flows.servers.server import stop_server

    if stop:
        from flows.schedules.needs import check_unneeded

        if not force:
            check_unneeded(Workspace.find())
        typer.echo("stopped" if stop_server(Workspace.find().root) else "no Prefect server runs")
        return
    workspace, server = open_with_server(reads=True)
    import signal

    from flows.console import show_pages
    from flows.runs.ui import mlflow_page, prefect_page

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with mlflow_page(workspace, port) as mlflow:
        show_pages([mlflow, prefect_page(workspace, server)], workspace)
        signal.pause()


@app.command(rich_help_panel=BROWSE)
def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this one.")] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Only versions that wait for approval.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Every move of NAME's champion, newest last.")] = False,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="What was champion then: 2026-11-01 or 2026-11-01T09:30.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Moves as JSON, with --history or --at.")] = False,
) -> None:
    """List registered models: versions, aliases, figures, data versions.

    Example: headstart models digits --at 2026-11-01
    """
    if (history or at or json) and not name:
        raise ConfigurationError("of which model? As in `headstart models digits --history`")
    workspace = open_workspace(reads=True)
    from flows.console import nothing_in, show_table
    from tasks.register.registry import looked_in

    place = looked_in(workspace.tracking_uri)
    if pending:
        from flows.commands.models import pending_table

        show_table(pending_table(workspace, name), f"no version waits for approval in {place}")
        return
    if not name or not (history or at or json):
        from flows.commands.models import versions_table

        missing = nothing_in(place, "no models", "`headstart run CONFIG` registers one")
        show_table(versions_table(workspace, name), missing)
    if name:
        from flows.commands.history import show

        show(workspace, name, at, json)


@app.command(rich_help_panel=BROWSE)
def report(
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="WHICH", help="RUN, NAME or NAME@VERSION; the last run if not given."),
    ] = None,
    versions: Annotated[
        str | None, typer.Option(metavar="N...", help="Hold versions of NAME against each other: --versions 3 5 7.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the page to this file.")] = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser, where there is one.")] = True,
) -> None:
    """Open a run's report: one page with the verdict, figures, errors, costs and lineage.

    Example: headstart report digits@champion
    """
    check_output(output)
    workspace = open_workspace(reads=True)
    from flows.commands.reports import compare_versions, find_report, keep, open_page
    from flows.console import out

    names = which or []
    if versions is None:
        if len(names) > 1:
            raise ConfigurationError(f"one report at a time, or `headstart report {names[0]} --versions 1 2 3`")
        page = find_report(workspace, names[0] if names else None)
    else:
        page = compare_versions(workspace, names[0] if names else "", [*versions.replace(",", " ").split(), *names[1:]])
    page = keep(page, output) if output else page
    opened = show and out.is_terminal and open_page(page)
    out.print(f"{'opened ' if opened else ''}{page}", soft_wrap=True)


@app.command(rich_help_panel=PROMOTE)
def promote(
    name: Name,
    version: approve.Version,
    why: Why = "",
) -> None:
    """Make a version of a registered model champion.

    Example: headstart promote digits 2 --why "better on night images"
    """
    _move(lambda client, moves: moves.promote(client, name, version, why), name)


@app.command(rich_help_panel=PROMOTE)
def rollback(
    name: Name,
    why: Why = "",
    to: Annotated[int | None, typer.Option(metavar="VERSION", help="A champion further back.")] = None,
) -> None:
    """Make the previous champion champion again.

    Example: headstart rollback digits --why "complaints from the field"
    """
    _move(lambda client, moves: moves.rollback(client, name, why, to=to), name)


@app.command(rich_help_panel=PROMOTE)
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@ALIAS or NAME@VERSION.")],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder with images, searched in depth.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write, .parquet or .csv.")
    ] = "predictions.parquet",
    top_k: Annotated[int, typer.Option(min=1, help="Classes kept per image.")] = 5,
    quiet: Quiet = False,
) -> None:
    """Predict a folder of images with a registered model.

    Example: headstart predict digits@champion data/3 -o predictions.parquet
    """
    here = Path.cwd()
    check_output(here / output)
    for path in (here / folder, here / output):
        if not is_utf8(str(path)):
            raise ConfigurationError(f"{str(path)!a} is not UTF-8, which Prefect needs: name it through a link")
    workspace = open_workspace(reads=True)
    from tasks.register.registry import CHAMPION, get_version, parted
    from tasks.register.store import open_registry

    name, which = parted(model)
    get_version(open_registry(workspace), name, which or CHAMPION)  # before a server is started for it
    _, server = open_with_server(reads=True)
    from flows.console import out
    from flows.predict import predict as predict_flow
    from flows.runs.delivery import carry_out

    def show(counts: dict[str, int]) -> None:
        told = [
            f"{counted(counts['predicted'], 'image')} predicted",
            *[f"{counts['failed']:,} could not be decoded (see the column error)"] * bool(counts["failed"]),
            *[f"{counted(counts['other'], 'file')} without an image left out"] * bool(counts["other"]),
            *[f"{counts['hidden']:,} hidden left out"] * bool(counts["hidden"]),
        ]
        out.print(f"{', '.join(told)}: {output}", soft_wrap=True)

    carry_out(lambda: predict_flow(model, str(here / folder), str(here / output), top_k), server, show, quiet)


@app.command(rich_help_panel=RUN)
def pretrain(
    config: ConfigFile,
    output: Annotated[str, typer.Option("--output", "-o", help="Weights to write (.safetensors); a card goes beside.")],
    set_: Overrides = [],  # noqa: B006
    quiet: Quiet = False,
) -> None:
    """Pretrain the built-in backbone on a source task; killed, the same command goes on.

    Example: headstart pretrain configs/pretrain.yaml -o backbone.safetensors
    """
    from flows.config import PretrainConfig, read_config

    settings = read_config(config, set_, PretrainConfig)
    workspace = open_workspace()
    from flows.checks import check_pretraining

    target = Path(output).absolute()
    check_pretraining(settings, target, workspace)
    _, server = open_with_server()
    from flows.console import out
    from flows.pretrain import pretrain as pretrain_flow
    from flows.runs.delivery import carry_out

    command = " ".join(["headstart pretrain", str(config), "-o", output, *(f"-s {each}" for each in set_)])

    def show(accuracies: dict[str, float]) -> None:
        for name, value in accuracies.items():
            out.print(f"{name:<12} accuracy {value:.4f}")
        out.print(f"written: {output} and its card", soft_wrap=True)

    carry_out(lambda: pretrain_flow(settings, str(target), command), server, show, quiet)


@app.command(rich_help_panel=BROWSE)
def doctor() -> None:
    """Tell what this machine offers: devices, weights, servers, versions.

    Example: headstart doctor
    """
    from rich.table import Table

    from flows.commands.doctor import examine
    from flows.console import out

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for what, value in examine(Workspace.find()):
        table.add_row(what, value)
    out.print(table)


app.command(name="schedule", rich_help_panel=RUN)(schedule.schedule)
app.command(name="suggest", rich_help_panel=RUN)(suggest.suggest)
app.command(name="deploy", rich_help_panel=RUN)(deploy.deploy)
app.command(name="worker", rich_help_panel=RUN)(deploy.worker)
app.command(name="execute", hidden=True)(deploy.execute)
app.command(name="lineage", rich_help_panel=BROWSE)(lineage.lineage)
app.command(name="backbones", rich_help_panel=BROWSE)(backbones.backbones)
app.command(name="rank", rich_help_panel=BROWSE)(backbones.rank)
app.command(name="approve", rich_help_panel=PROMOTE)(approve.approve)
app.command(name="reject", rich_help_panel=PROMOTE)(approve.reject)
app.command(name="reproduce", rich_help_panel=PROMOTE)(lineage.reproduce)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(features.app, name="features", rich_help_panel=DATA)


def main() -> None:
    """Run the command; what the user can mend becomes one line and exit code 2."""
    # Imports make some millions of objects that all stay; to look through them again and again for rubbish, as
    # Python does by default, takes a tenth of a short run.
    gc.set_threshold(100_000, 50, 100)
    then = then_after(sys.argv[1:])
    with noting(then is not None) as interrupts:  # others, such as servers, have ways of their own to end
        code = _ended(interrupts)
    if code == INTERRUPTED and then:
        print(f"interrupted: {then}", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)  # what a command has ended with, Typer gives back here


def _ended(interrupts: list[int]) -> object:
    """What the command ended with; its errors are told."""
    try:
        return app(standalone_mode=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if interrupts:
            return INTERRUPTED
        # Typer's own complaints (an unknown option, a missing argument) come as ClickException.
        if hasattr(error, "format_message"):
            error.show() if hasattr(error, "show") else None
            sys.exit(2)
        if type(error).__name__ == "Abort":
            sys.exit(1)
        from flows.causes import explain

        told = explain(error, Workspace.find())
        if told is None:
            raise
        _fail(str(told))


def _fail(message: str) -> NoReturn:
    from rich.text import Text

    from flows.console import err

    err.print(Text.assemble(("error", "bold red"), f" {message}"), soft_wrap=True)
    sys.exit(2)


def _move(move, name: str) -> None:  # type: ignore[no-untyped-def]
    workspace = open_workspace(begins=False)
    from flows.console import out, shown
    from tasks.register import moves
    from tasks.register.store import open_registry

    with shown():
        made = move(open_registry(workspace), moves)
    before = f" (was version {made.previous})" if made.previous else ""
    out.print(f"{name}: champion is version {made.version}{before}")
    approve.close_question(workspace, name, made.version)


if __name__ == "__main__":
    main()
