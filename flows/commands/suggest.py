"""`headstart suggest`: what `train.method: auto` would do with a pipeline's images, told without doing it."""

from __future__ import annotations

import shlex
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.arguments import ConfigFile, Overrides

if TYPE_CHECKING:
    from rich.table import Table

    from flows.config import PipelineConfig
    from tasks.records import Dataset
    from tasks.train.anytime.situation import Situation
    from tasks.train.anytime.step import Step
    from tasks.train.methods.auto import Auto

START = 10.0
"""Seconds that a command takes until its first stage begins, and after its last."""
IMBALANCED = 3.0
"""How many times as many images the largest class has, from which on it is said."""
COLUMNS = ("step", "backbone", "method", "images", "epochs", "seconds", "at", "why")


def suggest(
    config: ConfigFile,
    budget: Annotated[str | None, typer.Option(metavar="10m", help="Time of the whole run; else the YAML's.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Tell what a run within a budget would try on a pipeline's images, how long each step takes here, and why.

    The images are ingested and a few dozen of them pass through a backbone; nothing is learned or registered.

    Example: headstart suggest photos.yaml --budget 10m
    """
    from flows.opening import check, open_workspace

    workspace = open_workspace()
    settings, added = as_auto(config, set_, budget)
    check([settings], workspace, replace=False)
    from flows.console import out, show_table, shown
    from tasks.ingest.door import ingest_images

    with shown():
        dataset = ingest_images(settings.ingest, workspace)
    from flows.anytime import situation_of
    from flows.contenders import contenders
    from tasks.train.anytime.forecast import forecast
    from tasks.train.check import check_pool
    from tasks.train.methods.auto import Auto

    assert isinstance(settings.train, Auto)
    check_pool(settings.train, dataset)
    situation = situation_of(settings, contenders(settings), dataset, workspace)
    for what, value in (*about_data(dataset), *about_machine(settings, situation)):
        out.print(f"{what:<11} {value}", soft_wrap=True)
    out.print()
    steps = forecast(situation, settings.train.seconds - START)
    show_table(plan_table(steps))
    told = conclusion(steps, situation, settings.train, command(config, [*set_, *added]))
    out.print(told, soft_wrap=True)


def as_auto(path: Path, overrides: list[str], budget: str | None) -> tuple[PipelineConfig, list[str]]:
    """A pipeline as it would be with ``train.method: auto``, whatever method it names, and the overrides that make it
    so, beside those that were given."""
    from flows.config import PipelineConfig, read_config
    from tasks.train.methods.auto import Auto

    settings = read_config(path, overrides, PipelineConfig)
    if isinstance(settings.train, Auto):
        added = [f"train.budget={budget}"] if budget else []
    else:
        # The whole section: keys of another method would be unknown to this one.
        added = [f"train={{method: auto, budget: {budget or Auto().budget}}}"]
    return read_config(path, [*overrides, *added], PipelineConfig) if added else settings, added


def command(path: Path, overrides: list[str]) -> str:
    """What runs a pipeline with such overrides, as a shell takes it."""
    return shlex.join(["headstart", "run", str(path), *chain.from_iterable(("-s", each) for each in overrides)])


def about_data(dataset: Dataset) -> list[tuple[str, str]]:
    """Images, classes, how unequal these are, and where held-out images are of another kind by their domain or size."""
    splits = ", ".join(f"{count:,} {split}" for split, count in dataset.counts.items())
    classes = f"{len(dataset.classes):,}" + (", several an image" if dataset.multi_label else "")
    told = [("images", splits), ("classes", f"{classes}{_imbalance(dataset)}"), ("choices", f"on {dataset.choose_on}")]
    return [*told, *(("shift", line) for line in shifts(dataset))]


def _imbalance(dataset: Dataset) -> str:
    labels = dataset.read_manifest().query("split == 'train'")["label"].explode().value_counts()
    if labels.empty or labels.max() < IMBALANCED * labels.min():
        return ""
    most, least = labels.index[0], labels.index[-1]
    return f"; {labels.max():,} of {most} and {labels.min():,} of {least} to learn from: see train.balance"


def shifts(dataset: Dataset) -> list[str]:
    """In what the held-out images differ from those to learn from, as far as the manifest tells: domains, and sizes."""
    manifest = dataset.read_manifest()
    learned = manifest[manifest["split"].isin(("train", "tune"))]
    held_out = manifest[manifest["split"] == dataset.report_on]
    told = []
    if strange := sorted({*held_out["domain"].dropna()} - {*learned["domain"].dropna()}):
        told.append(f"{dataset.report_on} has domains that nothing is learned from: {', '.join(strange)}")
    sides = [part[["width", "height"]].min(axis=1).median() for part in (learned, held_out)]
    if min(sides) > 0 and max(sides) / min(sides) >= 1.5:
        told.append(
            f"images to learn from have {sides[0]:.0f} px in the middle, {dataset.report_on} has {sides[1]:.0f}"
        )
    return told


def about_machine(config: PipelineConfig, situation: Situation) -> list[tuple[str, str]]:
    """What computes, and how long the backbones that compete take over an image."""
    from flows.contenders import passed_over
    from tasks.extract.precision import choose_device, choose_precision
    from tasks.machine import free_memory, usable_cores
    from tasks.wording import shorten

    device = choose_device(config.extract.device)
    precision = str(choose_precision(config.extract.precision, device)).removeprefix("torch.")
    memory = f"{free_memory() / 2**30:.0f} GiB free"
    first, *others = situation.contenders
    speeds = [f"{first.name} {first.milliseconds:.1f} ms an image, measured"]
    speeds += [f"{each.name} {each.milliseconds:.1f} ms" for each in others]
    if left := passed_over(config):
        speeds.append(f"not {shorten(left)}, as others are cheaper")
    return [("machine", f"{device}, {precision}, {usable_cores()} cores, {memory}"), ("backbones", "; ".join(speeds))]


def plan_table(steps: list[Step]) -> Table:
    """The steps with the seconds after which each would be over."""
    from flows.console import plain_table

    table, at = plain_table(*COLUMNS, numbers=COLUMNS[3:7]), START
    for step in steps:
        what = (step.kind, step.backbone or "all", step.method, f"{step.images or ''}", f"{step.epochs or ''}")
        if step.state == "left out":
            table.add_row(*what, "-", "-", f"left out: {step.why}")
        else:
            at += step.predicted
            table.add_row(*what, f"{step.predicted:.0f}", f"{at:.0f}", step.why)
    return table


def conclusion(steps: list[Step], situation: Situation, auto: Auto, command: str) -> str:
    """What is kept for the winner, whether the budget suffices for a model at all, and the command that does it."""
    probe = next(step for step in steps if step.kind == "probe")
    tuned = any(step.kind == "final" and step.state == "done" for step in steps)
    kept = situation.reserve(probe.backbone, tuned)
    if START + probe.predicted > auto.seconds:
        return f"{auto.budget} is too little: the first model takes some {START + probe.predicted:.0f} s here"
    return (
        f"{kept:.0f} s of {auto.budget} are kept to evaluate and register what wins. Backbones are taken to be as good "
        f"as each other and tuning to pay: what is measured decides. `{command}` does it"
    )
