"""A pipeline's data, looked at by processes of their own."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.schedules import watching
from flows.schedules.store import Schedule, keep
from flows.schedules.timetable import read_timetable
from flows.schedules.watching import Watch
from tasks.workspace import Workspace
from tests.flows.homes import eventually

pytestmark = pytest.mark.slow


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def watch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(workspace.root))
    monkeypatch.setattr(watching, "SETTLE", 0.0)
    (workspace.root / "pets.yaml").write_text("name: pets\ningest: {source: {folder: photos}}\n")
    keep(Schedule("pets", "pets.yaml", read_timetable(None, None, None, "UTC", watches=True), watch=0.01), workspace)
    return Watch("pets", 0.01)


def settles(watch: Watch, workspace: Workspace, unlike: str = "") -> str:
    def look() -> bool:
        watch.look(workspace)
        return watch.settled not in ("", unlike)

    assert eventually(look, 60), watch.trouble
    return watch.settled


def test_a_new_image_and_an_image_that_is_gone_are_seen_and_a_look_that_sees_nothing_says_why(
    watch: Watch, workspace: Workspace
) -> None:
    def is_in_trouble() -> bool:
        watch.look(workspace)
        return bool(watch.trouble)

    assert eventually(is_in_trouble, 60)
    assert "photos" in watch.trouble and len(watch.trouble.splitlines()) == 1 and watch.settled == ""
    for number in range(4):
        picture(workspace.root / "photos" / "ab"[number % 2] / f"{number}.png", number)
    first = settles(watch, workspace)
    assert watch.trouble == ""
    picture(workspace.root / "photos" / "a" / "9.png", 9)
    assert settles(watch, workspace, first) != first
    (workspace.root / "photos" / "a" / "9.png").unlink()
    assert settles(watch, workspace, watch.settled) == first
    watch.end()


def test_data_that_is_still_being_copied_is_waited_for(watch: Watch, workspace: Workspace) -> None:
    picture(workspace.root / "photos" / "a" / "0.png", 0)
    before = settles(watch, workspace)
    for number in range(1, 4):
        began = watch._began
        picture(workspace.root / "photos" / "b" / f"{number}.png", number)

        def has_looked(began: float = began) -> bool:
            watch.look(workspace)
            return watch._began > began and watch._child is None

        assert eventually(has_looked, 60)
        assert watch.settled == before
    assert settles(watch, workspace, before) != before
    watch.end()


def test_a_look_that_hangs_is_ended(watch: Watch, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LONGEST", 0.0)
    watch.look(workspace)
    time.sleep(0.01)
    watch.look(workspace)
    assert "took longer" in watch.trouble and watch._child is None
