"""The `headstart data` commands: versions of the dataset, compared, restored and shared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.arguments import ConfigFile, Overrides, Replace
from flows.opening import claim, open_workspace
from tasks.wording import counted
from tasks.workspace import Workspace, check_output

if TYPE_CHECKING:
    from flows.config import PipelineConfig

app = typer.Typer(
    help="Versions of the dataset: list, compare, restore, share and correct them.\n\nA VERSION is current, a version "
    "or the beginning of one, an MLflow run, or a model (NAME, NAME@ALIAS, NAME@NUMBER), whose data is meant.",
    no_args_is_help=True,
)

Version = Annotated[str, typer.Argument(metavar="VERSION", help="Version, run or model.")]
Remote = Annotated[str | None, typer.Option("--remote", "-r", help="DVC remote; the default one if not given.")]
SHOWN = 20


@app.command()
def ingest(
    config: ConfigFile,
    set_: Overrides = [],  # noqa: B006
    replace: Replace = False,
) -> None:
    """Check, split and version the images of a configuration, without learning from them.

    Example: headstart data ingest configs/digits.yaml
    """
    from flows.config import PipelineConfig, read_config

    settings = read_config(config, set_, PipelineConfig)
    workspace = open_workspace()
    settings.ingest.source.check(workspace)
    from flows.console import classes_table, findings_table, out, show_table, shown, tasks_table
    from tasks.ingest.door import ingest_images
    from tasks.target import LABEL

    claim(workspace, replace)
    with shown():
        dataset = ingest_images(settings.ingest, workspace)
    splits = ", ".join(f"{count:,} {split}" for split, count in dataset.counts.items())
    out.print(f"{dataset.source}: {splits}; {dataset.quarantined:,} quarantined", soft_wrap=True)
    if dataset.target.name != LABEL:
        show_table(tasks_table(dataset))
    if dataset.classes:
        show_table(classes_table(dataset))
    show_table(findings_table(dataset), "no findings")
    out.print(f"version {dataset.version}\nreport  {dataset.report}", soft_wrap=True)


@app.command("list")
def list_() -> None:
    """Every version that a run, a model or this workspace knows.

    Example: headstart data list
    """
    workspace = open_workspace(reads=True)
    from flows.commands.versions import known_versions, places
    from flows.console import nothing_in, plain_table, show_table
    from tasks.ingest.pointer import current_version

    columns = ("version", "first used (UTC)", "source", "images", "runs", "models", "")
    table = plain_table(*columns, numbers=("images", "runs"))
    current = current_version(workspace)
    for version in known_versions(workspace):
        where = ["current"] if version.name == current else []
        where += [] if version.here else ["not here"]
        images = f"{version.images:,}" if version.images else ""
        table.add_row(
            version.name[:12], version.day, version.source, images, str(len(version.runs)), ", ".join(version.models),
            ", ".join(where),
        )  # fmt: skip
    show_table(table, nothing_in(places(workspace), "no versions", "`headstart run CONFIG` makes one"))


@app.command()
def diff(
    before: Version,
    after: Version,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all changes to this .csv or .parquet file.")
    ] = None,
    remote: Remote = None,
) -> None:
    """Which images and labels came, went and changed; fetches manifests only, no images.

    Example: headstart data diff digits@1 current -o changes.csv
    """
    check_output(output, (".csv", ".parquet"))
    workspace = open_workspace(begins=False)
    from flows.commands.versions import resolve
    from flows.console import changes_table, out, show_table
    from tasks.ingest.compare import compare
    from tasks.ingest.remotes import fetch_version
    from tasks.ingest.versioning import read_manifest

    names = [resolve(named, workspace) for named in (before, after)]
    for name in names:
        fetch_version(name, workspace, remote, images=False)
    changes = compare(*(read_manifest(name, workspace) for name in names))
    if output is not None:
        changes.to_csv(output, index=False) if output.suffix == ".csv" else changes.to_parquet(output, index=False)
    out.print(f"{names[0]} → {names[1]}", soft_wrap=True)
    if len(changes):
        show_table(changes_table(changes, SHOWN))
    else:
        out.print("no image, label or split differs")
    if len(changes) > SHOWN and output is None:
        out.print(f"{SHOWN} of {len(changes):,} shown; -o FILE writes all")


@app.command()
def checkout(version: Version, remote: Remote = None, replace: Replace = False) -> None:
    """Put a version into data/ and data.dvc, fetching from the remote what is not here.

    Example: headstart data checkout digits@champion
    """
    workspace = open_workspace(begins=False)
    from flows.commands.versions import resolve
    from flows.console import out, shown
    from tasks.ingest.checkout import restore_version
    from tasks.ingest.remotes import fetch_version

    name = resolve(version, workspace)
    with shown():
        fetched = fetch_version(name, workspace, remote)
    if replace:  # without it, a data.dvc of the user's that names this very version may stay
        claim(workspace, replace)
    with shown():
        restored = restore_version(name, workspace)
    out.print(f"data/ is version {name}: {counted(restored.files, 'file')}, {fetched:,} fetched", soft_wrap=True)


@app.command()
def push(version: Version = "current", remote: Remote = None) -> None:
    """Send a version to the remote; what is there already is not sent again.

    Example: headstart data push digits@champion
    """
    workspace = open_workspace(begins=False)
    from flows.commands.versions import resolve
    from flows.console import out, shown
    from tasks.ingest.remotes import push_version

    name = resolve(version, workspace)
    with shown():
        sent, address = push_version(name, workspace, remote)
    out.print(f"version {name}: {counted(sent, 'file')} sent to {address}", soft_wrap=True)


@app.command()
def pull(version: Version = "current", remote: Remote = None) -> None:
    """Fetch a version from the remote into this workspace's store; the current one goes into data/ too.

    Example: headstart data pull
    """
    workspace = open_workspace(begins=False)
    from flows.commands.versions import resolve
    from flows.console import out, shown
    from tasks.ingest.checkout import restore_version
    from tasks.ingest.pointer import current_version
    from tasks.ingest.remotes import fetch_version

    name = resolve(version, workspace)
    with shown():
        fetched = fetch_version(name, workspace, remote)
        if name == current_version(workspace):
            restore_version(name, workspace, verify=False)
    out.print(f"version {name}: {counted(fetched, 'file')} fetched", soft_wrap=True)


@app.command()
def review(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Pipeline, by the name in its configuration.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the list there; NAME-labels-to-review.csv if not given."),
    ] = None,
) -> None:
    """List the labels that are likely wrong, for a person to correct, by the pipeline's last evaluation.

    Example: headstart data review digits
    """
    check_output(output)
    workspace = open_workspace(begins=False)
    from flows.commands.review import write_review
    from flows.console import out

    file = output or Path(f"{name}-labels-to-review.csv")
    listed, count = write_review(name, file, workspace)
    if not listed:
        out.print(f"no label of {name} is doubted")
        return
    which = f"{listed:,}" if listed == count else f"the surest {listed:,} of {count:,}"
    labels = "label that may be wrong" if listed == count == 1 else "labels that may be wrong, the surest first"
    out.print(
        f"{file}: {which} {labels}\nwrite the right one into the column label, or "
        "nothing to leave the image out; rows that stay as they are change nothing\n"
        f"then: headstart data relabel {file}",
        soft_wrap=True,
    )


@app.command()
def relabel(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A list by `headstart data review`, edited.")],
    data: Annotated[str, typer.Option("--data", help="The dataset version, run or model that it is of.")] = "current",
    new_classes: Annotated[bool, typer.Option("--new-classes", help="Labels may be new to the dataset.")] = False,
    replace: Replace = False,
) -> None:
    """Apply corrected labels: keep them in data.labels.csv, which belongs into version control, and make a new version.

    Example: headstart data relabel digits-labels-to-review.csv
    """
    workspace = open_workspace(begins=False)
    from flows.commands.review import apply_review, configuration_of
    from flows.commands.versions import resolve
    from flows.console import out

    version = resolve(data, workspace)
    kept, count = apply_review(file, version, workspace, new_classes)
    if kept is None:
        out.print("nothing is new in it: no label was changed, or all are corrected already")
        return
    out.print(f"{kept}: {counted(count, 'new correction')}", soft_wrap=True)
    settings = configuration_of(version, workspace)
    if settings is None:
        out.print("`headstart data ingest CONFIG` or `headstart run CONFIG` applies them", soft_wrap=True)
        return
    _ingest_again(settings, version, workspace, replace)
    out.print("then: headstart run CONFIG", soft_wrap=True)


def _ingest_again(settings: PipelineConfig, before: str, workspace: Workspace, replace: bool) -> None:
    """Make a new version, and show what has changed since another one."""
    from flows.console import changes_table, out, show_table, shown
    from tasks.ingest.compare import compare
    from tasks.ingest.door import ingest_images
    from tasks.ingest.versioning import read_manifest

    settings.ingest.source.check(workspace)
    claim(workspace, replace)
    with shown():
        after = ingest_images(settings.ingest, workspace).version
    changes = compare(*(read_manifest(name, workspace) for name in (before, after)))
    out.print(f"{before} → {after}", soft_wrap=True)
    show_table(changes_table(changes, SHOWN)) if len(changes) else None
