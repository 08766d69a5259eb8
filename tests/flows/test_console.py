"""What a person sees of a dataset."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from flows import cli, console
from flows.commands.history import history_table
from flows.console import classes_table, plain_table
from flows.lineage import tree
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.progress import tell
from tasks.register.ledger import Move
from tasks.workspace import Workspace
from tests.ingest.pictures import png


@pytest.mark.parametrize("most", [30, 2])
def test_classes_are_shown_with_their_images_in_each_split(most: int, tmp_path: Path) -> None:
    names = ["[red]", "cat", "dög"]
    for split, count in (("train", 4), ("val", 1), ("test", 2)):
        for name in names:
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "photos" / split / name / f"{number}.png").write_bytes(png(f"{split} {name} {number}"))
    config = IngestConfig.model_validate({"source": {"folder": "photos"}})
    dataset = ingest_images(config, Workspace(tmp_path), into_data=False)
    screen = Console(width=80, record=True, quiet=False)
    with screen.capture() as shown:
        screen.print(classes_table(dataset, most))
    lines = [" ".join(line.split()) for line in shown.get().splitlines()]
    more = [] if most > 3 else ["and 1 more, in classes.csv"]
    assert lines == ["class train val test", *(f"{name} 4 1 2" for name in names[:most]), *more]


ODD = "[/tmp/x.csv] :cat: [red]"
"""What Rich would take for tags and an emoji."""


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What `out` and `err` write, on a terminal and in a file."""
    file = io.StringIO()
    colours = "standard" if request.param else None
    settings = {"file": file, "width": 120, "force_terminal": request.param, "color_system": colours}
    for module, name in ((console, "out"), (console, "err"), (tree, "out")):
        monkeypatch.setattr(module, name, console.plain_console(**settings))
    return file


def test_names_and_reasons_of_users_are_shown_as_they_are(screen: io.StringIO) -> None:
    console.show_table(history_table([Move("promote", 1, None, "ada", "2026-10-01T08:00:00.000000Z", ODD)]))
    console.show_table(plain_table("a"), f"nothing in {ODD}")
    console.out.print(f"to {ODD}", soft_wrap=True)
    with console.shown():
        tell(f"ingest\t{ODD}\t1 s")
    about = ("run", "candidate", "features", "dataset", "code", "environment", "evaluation", "gates")
    model = {"name": ODD, "version": 1, "held_out": ODD}
    tree.show({"model": model, "moves": [f"why {ODD}"], **{each: {} for each in about}})
    with pytest.raises(SystemExit):
        cli._fail(f"{ODD} is not there")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert shown.count(ODD) == 8 and "\\[" not in shown and "[dim]" not in shown and "[/]" not in shown


def test_lines_of_stages_and_errors_are_coloured_on_a_terminal(screen: io.StringIO) -> None:
    with console.shown():
        tell("ingest\t5 images\t1 s")
    with pytest.raises(SystemExit):
        cli._fail("no such file")
    coloured = "\x1b[32m✓\x1b[0m ingest      5 images \x1b[2m1 s\x1b[0m\n", "\x1b[1;31merror\x1b[0m no such file\n"
    plain = "✓ ingest      5 images 1 s\n", "error no such file\n"
    assert all(line in screen.getvalue() for line in (coloured if console.out.is_terminal else plain))


def rows() -> Table:
    table = plain_table("model", "version", "backbone/weights", numbers=("version",))
    for number in range(3):
        table.add_row("flowers-of-the-alps", f"{number}", f"mobilenet_v2/weights/of/a/long/name/{number}" + 60 * "x")
    return table


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_tells_rows_apart_is_cut(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=file, width=80, force_terminal=terminal, no_color=True))
    console.show_table(rows())
    shown = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert "…" not in shown
    for number in range(3):
        name = f"mobilenet_v2/weights/of/a/long/name/{number}" + 60 * "x"
        assert name in (re.sub(r"\s", "", shown) if terminal else shown)
    assert len(shown.splitlines()) > 4 if terminal else len(shown.splitlines()) == 4
    assert max(map(len, shown.splitlines())) <= 80 or not terminal


def test_an_empty_table_is_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", Console())
    console.show_table(plain_table("model"), "no models yet")
    assert capsys.readouterr().out == "no models yet\n"
