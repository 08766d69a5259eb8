"""Every content is examined once, ever; what crashes a decoder or is lost meanwhile does not stop a run."""

from __future__ import annotations

import builtins
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

from tasks.ingest import intake, sources
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.examine import Examined
from tasks.ingest.journal import Journal, scratch_folder
from tasks.ingest.sources import SOURCES, Item, Source
from tasks.limits import Limits
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import noise, png, tarred
from tests.ingest.workers import CRASHES, crashing, logging


def examined(workspace: Workspace) -> list[str]:
    """Names of the files that were examined since this was last asked."""
    log = workspace.root / "examined"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(names)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An ingested workspace of 24 files of two classes, one of them broken, with a copy of it beside."""
    workspace = Workspace(tmp_path_factory.mktemp("home") / "workspace")
    for label in "ab":
        (workspace.root / "photos" / label).mkdir(parents=True)
        for number in range(12):
            (workspace.root / "photos" / label / f"{label}{number}.png").write_bytes(png(f"{label} {number}"))
    (workspace.root / "photos/a/a3.png").write_bytes(png("a 3")[:300])
    members = {path.relative_to(workspace.root).as_posix(): path.read_bytes() for path in photos(workspace)}
    (workspace.root / "photos.tar").write_bytes(tarred(dict(members)))
    ingested(workspace)
    shutil.copytree(workspace.root, workspace.root.with_name("copy"))
    return workspace


@pytest.fixture
def known(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace in which everything is known; `examined` tells what is looked at again."""
    shutil.rmtree(home.root)
    shutil.copytree(home.root.with_name("copy"), home.root)  # files keep their times
    monkeypatch.setattr(intake, "examine_all", logging)
    return home


def photos(workspace: Workspace) -> list[Path]:
    return sorted(path for path in (workspace.root / "photos").rglob("*") if path.is_file())


def ingested(workspace: Workspace, into_data: bool = True, **sections: Any) -> Dataset:
    config = {"source": {"folder": "photos"}, "split": {"val": 0.3, "test": 0.3}, **sections}
    return ingest_images(IngestConfig.model_validate(config), workspace, into_data)


def same(first: Dataset, second: Dataset) -> bool:
    """Whether two ingestions came to the same end."""
    return first.model_dump(exclude={"made"}) == second.model_dump(exclude={"made"}) and all(
        (first.report / name).read_bytes() == (second.report / name).read_bytes()
        for name in ("checks.json", "quarantine.csv", "manifest.parquet")
    )


def test_unchanged_folder_is_known_without_opening_a_file(known: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before, opened = ingested(known), []
    folder = str(known.root / "photos")
    for module, name in ((os, "open"), (builtins, "open"), (io, "open")):
        plain = getattr(module, name)

        def watched(path: Any, *args: Any, plain: Any = plain, **more: Any) -> Any:
            opened.append(str(path))
            return plain(path, *args, **more)

        monkeypatch.setattr(module, name, watched)
    monkeypatch.setattr(intake._Workers, "_start", lambda self: pytest.fail("workers were started"))
    again = ingested(known)
    assert same(again, before) and examined(known) == []
    assert opened and not [path for path in opened if path.startswith(folder)]


def test_members_of_an_unchanged_archive_are_known_by_their_content(known: Workspace) -> None:
    archive = {"source": {"archive": "photos.tar"}}
    assert ingested(known, **archive).version == ingested(known).version
    assert examined(known) == []


def test_only_changed_and_new_files_are_read(known: Workspace) -> None:
    before = ingested(known).read_manifest().set_index("path")["hash"]
    folder = known.root / "photos" / "a"
    (folder / "a1.png").write_bytes(png("changed"))
    (folder / "new.png").write_bytes(png("new"))
    (folder / "a5.png").rename(folder / "moved.png")
    after = ingested(known).read_manifest().set_index("path")["hash"]
    assert examined(known) == ["a1.png", "moved.png", "new.png"]
    assert set(after.index) - set(before.index) == {"a/new.png", "a/moved.png"}
    assert after["a/moved.png"] == before["a/a5.png"] and after["a/a1.png"] != before["a/a1.png"]
    kept = before.index.intersection(after.index).drop("a/a1.png")
    assert after[kept].equals(before[kept])


def test_file_of_the_same_size_and_another_time_is_read_again(known: Workspace) -> None:
    path = known.root / "photos/b/b2.png"
    content, size = png("another"), path.stat().st_size
    assert len(content) == size
    path.write_bytes(content)
    assert content in [ingested(known).image(hash).read_bytes() for hash in ingested(known).read_manifest()["hash"]]
    assert examined(known) == ["b2.png"]


def test_content_that_the_store_has_lost_is_put_there_again(known: Workspace) -> None:
    before = ingested(known)
    manifest = before.read_manifest().set_index("path")
    lost = before.image(manifest.loc["b/b7.png", "hash"])
    lost.unlink()
    again = ingested(known)
    assert same(again, before) and examined(known) == ["b7.png"]
    assert lost.read_bytes() == (known.root / "photos/b/b7.png").read_bytes()


def test_store_that_was_deleted_as_a_whole_is_filled_again(known: Workspace) -> None:
    before = ingested(known)
    shutil.rmtree(known.root / ".dvc" / "cache")
    assert same(ingested(known), before)
    assert len(list(before.images.glob("??/*"))) == 23 + 2


@pytest.mark.parametrize("limit", [{"pixels": 40 * 40}, {"bytes": 100_000}])
def test_other_limits_examine_everything_anew(limit: dict[str, int], known: Workspace) -> None:
    before = ingested(known)
    assert same(ingested(known), before) and examined(known) == []
    after = ingested(known, limits=limit)
    assert after.version == before.version and len(examined(known)) == 24
    assert same(ingested(known), before) and examined(known) == []


def test_tighter_limits_keep_known_images_out(known: Workspace) -> None:
    (known.root / "photos/a/large.png").write_bytes(png("large", 41))
    assert "a/large.png" in set(ingested(known).read_manifest()["path"])
    after = ingested(known, limits={"pixels": 40 * 40})
    assert "a/large.png" not in set(after.read_manifest()["path"])
    assert "a/large.png" in set(ingested(known).read_manifest()["path"])


def garbage(path: Path) -> None:
    path.write_bytes(noise("garbage", 100, 100).tobytes())


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def holes(path: Path) -> None:
    """Keeps the head, so that only reading its tables tells that it is damaged."""
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * len(content[4096:])
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize("harm", [garbage, truncated, holes, emptied, Path.unlink])
def test_damaged_journal_is_begun_anew(harm: Callable[[Path], None], known: Workspace) -> None:
    before = ingested(known)
    assert not (known.cache / "ingest.db-wal").exists()
    harm(known.cache / "ingest.db")
    assert same(ingested(known), before)
    assert len(examined(known)) == 24
    assert same(ingested(known), before) and examined(known) == []


def test_journal_that_is_locked_is_not_taken_for_a_damaged_one(
    known: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, connect = ingested(known), sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **_: connect(file, timeout=0.1))
    with closing(connect(known.cache / "ingest.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            ingested(known)
    assert same(ingested(known), before) and examined(known) == []


def test_run_keeps_what_it_knows_while_another_one_examines_by_other_limits(tmp_path: Path) -> None:
    scratch = [tmp_path / name for name in ("one", "other")]
    for folder in scratch:
        folder.mkdir()
    count = "SELECT COUNT(*) FROM rows JOIN contents USING (hash)"
    with Journal.open(tmp_path / "ingest.db", scratch[0], Limits(1, 1)) as one:
        one.learn([(None, None, Examined("x", 1, 1, 1))])
        one.add([("a/1", None, None, "a", None, None, "x", None, None, None)])
        with Journal.open(tmp_path / "ingest.db", scratch[1], Limits(2, 2)) as other:
            assert other.known_contents(["x"]) == {}
            other.learn([(None, None, Examined("y", 1, 1, 1))])
            assert one.one(count) == 1 and one.known_contents(["x", "y"]).keys() == {"x"}


CROWD = """
import os, sys, time
from pathlib import Path
from tasks.ingest.examine import Examined
from tasks.limits import Limits
from tasks.ingest.journal import Journal, scratch_folder

def run(cache, number):
    with scratch_folder(cache) as scratch, Journal.open(cache / "ingest.db", scratch, Limits(number % 2, 1)) as journal:
        for content in range(20):
            journal.learn([(f"/{content}", "stamp", Examined(f"{number} {content}", 1, 1, 1))])
            journal.add([(f"a/{content}", None, None, "a", None, None, f"{number} {content}", None, None, None)])
        assert journal.one("SELECT COUNT(*) FROM rows JOIN contents USING (hash)") == 20

failed = 0
for attempt in range(30):
    begin, children = time.time() + 0.1, []
    for number in range(8):
        children.append(os.fork())
        if children[-1] == 0:
            time.sleep(max(0, begin - time.time()))
            run(Path(sys.argv[1], str(attempt)), number)
            os._exit(0)
    failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
sys.exit(failed)
"""
"""Runs that begin at the same time in workspaces where there has been none, eight at once."""


@pytest.mark.slow
def test_runs_that_begin_and_end_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CROWD, str(tmp_path)]
    finished = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert not [path for path in tmp_path.glob("*/*") if path.is_dir()]


def test_folders_of_dead_runs_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "ingest-dead" / "report").mkdir(parents=True)
    with scratch_folder(tmp_path) as one:
        (one / "rows.db").touch()
        with scratch_folder(tmp_path) as other:
            assert {path for path in tmp_path.iterdir() if path.is_dir()} == {one, other}
            assert (one / "rows.db").exists()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


class Slowly(Source):
    """Images with two between that crash their decoder."""

    slowly: int
    """Images before and after them."""
    waits: bool
    """Whether the source waits until one has."""
    remembers: ClassVar[bool] = False

    def items(self, workspace: Workspace, limit: int = 2**28) -> Iterator[Item]:
        """The images."""
        for index in range(2 * self.slowly):
            if index == self.slowly:
                for number in range(2):
                    yield Item(f"a/crash {number}.png", content=CRASHES, labels=("a",))
                    yield Item(f"a/beside {number}.png", content=png(f"beside {number}"), labels=("a",))
                while self.waits and not (workspace.root / "crashed").exists():
                    time.sleep(0.05)
                time.sleep(self.waits)  # until the pool has noticed
            label = "ab"[index % 2]
            yield Item(f"{label}/{index}.png", content=png(f"slow {index}"), labels=(label,))


@pytest.mark.slow
@pytest.mark.parametrize("block", [4, 256], ids=["many blocks", "one block"])
def test_file_that_crashes_its_decoder_is_kept_out_and_all_others_come_in(
    block: int, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SOURCES", (*SOURCES, Slowly))
    monkeypatch.setattr(intake, "examine_all", crashing)
    monkeypatch.setattr(intake, "BLOCK_ITEMS", block)
    dataset = ingested(workspace, source={"slowly": 12, "waits": block == 4})
    expected = {f"{'ab'[index % 2]}/{index}.png" for index in range(24)} | {"a/beside 0.png", "a/beside 1.png"}
    assert set(dataset.read_manifest()["path"]) == expected
    kept_out = pd.read_csv(dataset.report / "quarantine.csv")
    assert kept_out[["path", "kind", "reason"]].to_numpy().tolist() == [
        [f"a/crash {number}.png", "undecodable", "its decoder crashed"] for number in range(2)
    ]
    assert json.loads((dataset.report / "checks.json").read_text())["items"] == 28
