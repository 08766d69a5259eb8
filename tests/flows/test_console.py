"""What a person sees of a dataset."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from flows import console
from flows.console import classes_table, plain_table
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
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
