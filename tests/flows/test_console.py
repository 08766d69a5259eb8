"""What a person sees of a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from flows.console import classes_table
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
    console = Console(width=80, record=True, quiet=False)
    with console.capture() as shown:
        console.print(classes_table(dataset, most))
    lines = [" ".join(line.split()) for line in shown.get().splitlines()]
    more = [] if most > 3 else ["and 1 more, in classes.csv"]
    assert lines == ["class train val test", *(f"{name} 4 1 2" for name in names[:most]), *more]
