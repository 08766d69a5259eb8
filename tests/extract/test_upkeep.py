"""Damage is found, moved aside and computed again; what nobody needs is cleared away under whoever reads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import ConfigurationError, StorageError
from tasks.extract import clearing
from tasks.extract.claims import CLAIM, WRITING, held
from tasks.extract.clearing import DAY, Cleared, clear, merge
from tasks.extract.joined import JoinedStore
from tasks.extract.keys import KEY
from tasks.extract.parts import open_part, write_part
from tasks.extract.store import FeatureStore, keys_of
from tasks.extract.upkeep import describe, move_aside, space_folders, verify
from tasks.records import FeatureSet

ROOT = Path(__file__).parents[2]
WIDTH = 5


def keys(numbers: list[int] | range) -> np.ndarray:
    return keys_of([f"{number:032x}" for number in numbers])


def features(numbers: list[int] | range) -> np.ndarray:
    return np.repeat(np.array(list(numbers), np.float32)[:, None], WIDTH, 1)


def computed(mine: np.ndarray) -> np.ndarray:
    return features([int.from_bytes(key.tobytes()) for key in mine.view("V16")])


def whole(store: FeatureStore, numbers: range) -> bool:
    return bool((FeatureStore(store.folder).read(keys(numbers)) == features(numbers)).all())


def feature_set(space: Path, variants: tuple[Path, ...] = ()) -> FeatureSet:
    return FeatureSet(
        fingerprint="f", store=space, variants=variants, backbone="resnet_32px", weights="builtin", digest="d",
        layers=("flatten",), pool="avg", width=WIDTH, precision="float32", device="cpu", new=12, reused=0, seconds=1.0,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def store(root: Path) -> FeatureStore:
    """Twelve images in three files."""
    store = FeatureStore.open(root / "0123456789abcdef", {"backbone": "resnet_32px"})
    store.fill(keys(range(12)), 4, computed)
    return store


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def buffers(path: Path) -> list[range]:
    """Bytes of a file that hold keys and features."""
    content, part = path.read_bytes(), open_part(path)
    starts = [(content.index(array.tobytes()), array.nbytes) for array in (part.keys, part.features)]
    return [range(start, start + length) for start, length in starts]


def test_sound_store_is_found_sound(store: FeatureStore) -> None:
    health = verify(store.folder)
    assert (health.parts, health.images, health.damage, health.remarks) == (3, 12, (), ())
    space = describe(store.folder)
    assert (space.about, space.images, space.unreadable) == ({"backbone": "resnet_32px"}, 12, 0)
    assert space.nbytes == store.nbytes and abs(space.used - time.time()) < 60


@settings(max_examples=150)
@given(data=st.data())
def test_bit_that_flips_in_keys_or_features_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = FeatureStore.open(tmp_path_factory.mktemp("store") / "space", {})
    store.append(keys(range(1, 20)), features(range(1, 20)))
    path = store.parts[0]
    byte = data.draw(st.sampled_from(data.draw(st.sampled_from(buffers(path)))))
    flip(path, 8 * byte + data.draw(st.integers(0, 7)))
    (damage,) = verify(store.folder).damage
    assert damage.path == path


@pytest.mark.slow
@settings(max_examples=300)
@given(data=st.data())
def test_bits_that_flip_anywhere_are_found_or_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Some bytes of a file mean nothing; and whatever they say, no process dies of them."""
    store = FeatureStore.open(tmp_path_factory.mktemp("store") / "space", {})
    store.append(keys(range(1, 20)), features(range(1, 20)))
    path = store.parts[0]
    for bit in data.draw(st.lists(st.integers(0, 8 * path.stat().st_size - 1), min_size=1, max_size=4, unique=True)):
        flip(path, bit)
    if not verify(store.folder).damage:
        assert whole(store, range(1, 20))
    else:
        with suppress(StorageError, KeyError):
            FeatureStore(store.folder).read(keys(range(1, 20)))


@settings(max_examples=50)
@given(st.floats(0, 1, exclude_max=True))
def test_file_cut_short_anywhere_is_found(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    store = FeatureStore.open(tmp_path_factory.mktemp("store") / "space", {})
    store.append(keys(range(20)), features(range(20)))
    path = store.parts[0]
    os.truncate(path, int(share * path.stat().st_size))
    (damage,) = verify(store.folder).damage
    assert damage.path == path and describe(store.folder).unreadable == 1
    with pytest.raises(StorageError, match="verify"):
        FeatureStore(store.folder).missing(keys([1]))


def test_repaired_store_computes_what_was_damaged_again_and_nothing_else(store: FeatureStore) -> None:
    first, second, _ = store.parts
    lost = set(open_part(first).keys.tolist()) | set(open_part(second).keys.tolist())
    flip(first, 8 * buffers(first)[1].start + 3)
    second.write_bytes(second.read_bytes()[:100])
    health = verify(store.folder)
    assert [damage.path for damage in health.damage] == [first, second] and (health.parts, health.images) == (1, 4)
    seen = feature_set(store.folder)
    assert seen.is_complete()
    move_aside(health.damage)
    assert verify(store.folder).damage == () and not seen.is_complete()  # found in a cache, it would be short of these
    again: list[bytes] = []

    def compute(mine: np.ndarray) -> np.ndarray:
        again.extend(mine.tolist())
        return computed(mine)

    assert store.fill(keys(range(12)), 4, compute) == 8 and set(again) == lost  # by one who has had the old files open
    assert whole(store, range(12))


def test_file_of_another_width_is_damage_wherever_its_name_stands(store: FeatureStore, root: Path) -> None:
    other = FeatureStore.open(root / "other", {})
    other.append(keys(range(50, 53)), np.ones((3, WIDTH + 1), np.float32))
    for name in ("part-0.arrow", "part-z.arrow"):
        (store.folder / name).write_bytes(other.parts[0].read_bytes())
    assert [damage.path.name for damage in verify(store.folder).damage] == ["part-0.arrow", "part-z.arrow"]
    assert "6 features an image, and 5 elsewhere" in verify(store.folder).damage[0].what


def test_features_that_are_not_finite_are_told_and_no_damage(store: FeatureStore) -> None:
    odd = features(range(20, 24))
    odd[1, 2], odd[3, 0] = np.nan, np.inf
    store.append(keys(range(20, 24)), odd)
    health = verify(store.folder)
    assert not health.damage and health.remarks == (
        "2 images have features that are not finite: infinite, or no numbers",
    )


@pytest.mark.parametrize("text", [None, b"{", b"[1]"])
def test_lost_description_is_told_and_no_damage(store: FeatureStore, text: bytes | None) -> None:
    path = store.folder / "space.json"
    path.unlink() if text is None else path.write_bytes(text)
    health = verify(store.folder)
    assert not health.damage and "space.json is missing or not legible" in health.remarks[0]
    assert describe(store.folder).about is None and describe(store.folder).used > 0


def test_space_is_named_by_the_beginning_of_its_fingerprint(store: FeatureStore, root: Path) -> None:
    FeatureStore.open(root / "0199", {})
    assert space_folders(root) == space_folders(root, "01") == [store.folder, root / "0199"]
    assert space_folders(root, "0123") == [store.folder]
    with pytest.raises(ConfigurationError, match="no feature space begins with '77'"):
        space_folders(root, "77")
    assert space_folders(root / "nowhere") == []


def done(cleared: Iterator[Cleared]) -> list[str]:
    return [each.what for each in cleared]


def test_small_files_become_one_and_the_features_stay(store: FeatureStore, root: Path) -> None:
    early = FeatureStore(store.folder)
    early.missing(keys([1]))
    before = store.nbytes
    (cleared,) = clear(root)
    assert cleared.what == "3 files merged into 1" and cleared.nbytes == before - store.nbytes > 0
    assert len(store.parts) == 1 and verify(store.folder).damage == ()
    for reader in (early, store, FeatureStore(store.folder)):
        np.testing.assert_array_equal(reader.read(keys(range(12))), features(range(12)))
    assert done(clear(root)) == []


@settings(max_examples=40)
@given(
    blocks=st.lists(st.lists(st.integers(0, 15), min_size=1, max_size=6), min_size=1, max_size=9),
    small=st.integers(0, 2000), large=st.integers(1, 4000),
)  # fmt: skip
def test_merging_changes_no_feature_that_anybody_reads(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[int]], small: int, large: int
) -> None:
    """Also where one image stands in several files with different features."""
    store = FeatureStore.open(tmp_path_factory.mktemp("store") / "space", {})
    for number, block in enumerate(blocks):
        store.append(keys(block), np.full((len(block), WIDTH), number, np.float32))
    there = keys(sorted({number for block in blocks for number in block}))
    before, files = store.read(there), len(store.parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clearing, "SMALL", small)
        patch.setattr(clearing, "LARGE", large)
        list(merge(store.folder))
        for reader in (store, FeatureStore(store.folder)):
            np.testing.assert_array_equal(reader.read(there), before)
        assert len(store.parts) <= files
        assert sum(len(open_part(path).keys) for path in store.parts) == len(there)


def test_files_are_merged_up_to_a_size_and_large_ones_left(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = store.parts[0].stat().st_size
    monkeypatch.setattr(clearing, "SMALL", size + 1)
    monkeypatch.setattr(clearing, "LARGE", 2 * size)
    store.append(keys(range(100, 200)), features(range(100, 200)))
    (large,) = [path for path in store.parts if path.stat().st_size > size]
    assert done(merge(store.folder)) == ["2 files merged into 1"]
    assert len(store.parts) == 3 and large in store.parts


def test_what_a_merge_that_was_killed_has_doubled_is_merged_again(store: FeatureStore) -> None:
    old = {path: path.read_bytes() for path in store.parts}
    list(merge(store.folder))
    for path, content in list(old.items())[:2]:
        path.write_bytes(content)
    assert done(merge(store.folder)) == ["3 files merged into 1"]
    assert whole(store, range(12)) and len(open_part(store.parts[0]).keys) == 12


def test_damaged_file_is_not_merged(store: FeatureStore, root: Path) -> None:
    path = store.parts[1]
    flip(path, 8 * buffers(path)[1].start)
    (told,) = done(clear(root))
    assert told.startswith(f"not merged, for {path.name} is damaged")
    assert len(store.parts) == 3 and [damage.path for damage in verify(store.folder).damage] == [path]


READER = """
import sys; from pathlib import Path; import numpy as np
from tasks.extract.store import FeatureStore, keys_of
folder, stays, rounds = Path(sys.argv[1]), FeatureStore(Path(sys.argv[1])), 0
keys, random = keys_of([f"{number:032x}" for number in range(60)]), np.random.default_rng()
print("ready", flush=True)
while not (folder / ".stop").exists():
    wanted = random.permutation(60)[:40]
    for store in (stays, FeatureStore(folder)):
        assert (store.read(keys[wanted])[:, 0] == wanted).all()
        with store.claim(keys, 60) as mine:
            assert len(mine) == 0, len(mine)
    rounds += 1
print(rounds)
"""


@pytest.mark.slow
def test_merging_under_readers_takes_nothing_from_them(root: Path) -> None:
    store = FeatureStore.open(root / "space", {})
    for number in range(60):
        store.append(keys([number]), features([number]))
    command = [sys.executable, "-c", READER, str(store.folder)]
    readers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for reader in readers:
        assert reader.stdout and reader.stdout.readline() == "ready\n"
    until = time.monotonic() + 4
    for number in range(60, 10_000):
        store.append(keys([number]), features([number]))
        if number % 5 == 0:
            list(merge(store.folder))
        if time.monotonic() > until:
            break
    (store.folder / ".stop").touch()
    for reader in readers:
        told, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0 and int(told) > 10
    assert whole(store, range(number + 1))


def test_who_misses_what_is_just_being_merged_waits_for_it(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be listed while the old files are gone and the new one is not met with yet."""
    results: list[Any] = []

    def claim() -> None:
        with FeatureStore(store.folder).claim(keys(range(12)), 12) as mine:
            results.append(len(mine) == 0)

    def read() -> None:
        results.append(whole(store, range(12)))

    def slowly(*arguments: Any) -> Path:
        old = {path: path.rename(path.with_name(f"hidden {path.name}")) for path in store.parts}
        for other in others:
            other.start()
        for other in others:
            other.join(0.2)
            assert other.is_alive()
        for path, hidden in old.items():
            hidden.rename(path)
        return write_part(*arguments)

    others = [threading.Thread(target=claim), threading.Thread(target=read)]
    monkeypatch.setattr(clearing, "write_part", slowly)
    list(merge(store.folder))
    for other in others:
        other.join(10)
    assert results == [True, True]


def test_what_dead_writers_and_repairs_have_left_is_removed(store: FeatureStore, root: Path) -> None:
    list(merge(store.folder))
    for name in (f"{WRITING}1", f"{CLAIM}2"):
        (store.folder / name).write_bytes(bytes(1000))
    (store.folder / "damaged-part-1.arrow").write_bytes(bytes(500))
    before = sorted(os.listdir(store.folder))
    told = [
        "2 half-written files and claims of dead processes removed",
        "1 damaged files that were moved aside removed",
    ]
    with held(store.folder, WRITING) as (alive, _):
        planned = list(clear(root, dry_run=True))
        assert [each.what for each in planned] == told and [each.nbytes for each in planned] == [2000, 500]
        assert sorted(os.listdir(store.folder)) == sorted([*before, alive.name])
        assert done(clear(root)) == told
        assert sorted(os.listdir(store.folder)) == sorted([".lock", store.parts[0].name, "space.json", alive.name])


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY,) * 2)


def test_features_without_the_spaces_of_their_views_are_not_believed_and_others_count_as_used(
    store: FeatureStore, root: Path
) -> None:
    views = FeatureStore.open(root / "views", {})
    views.append(keys([1]), features([1]))
    seen = feature_set(store.folder, (views.folder,))
    for each in (store, views):
        age(each.folder / "space.json", 50)
    assert seen.is_complete()
    seen.note_use()
    assert not [each for each in clear(root, unused_for=30) if "not used" in each.what]
    age(views.folder / "space.json", 50)
    assert "not used for 50 days: removed" in done(clear(root, unused_for=30)) and not seen.is_complete()


def test_spaces_out_of_use_are_removed_and_no_others(store: FeatureStore, root: Path) -> None:
    list(merge(store.folder))
    old = FeatureStore.open(root / "old", {})
    old.append(keys([1]), features([1]))
    nbytes = sum(path.stat().st_size for path in old.folder.iterdir())
    age(old.folder / "space.json", 31)
    assert done(clear(root)) == done(clear(root, unused_for=40)) == []
    (planned,) = clear(root, unused_for=30, dry_run=True)
    assert (planned.folder, planned.what, planned.nbytes) == (old.folder, "not used for 31 days: removed", nbytes)
    assert old.folder.exists()
    assert [each.nbytes for each in clear(root, unused_for=30)] == [nbytes]
    assert os.listdir(root) == [store.folder.name]


@pytest.mark.parametrize("use", ["opening", "appending", "reading"])
def test_space_that_is_opened_written_to_or_read_counts_as_used(store: FeatureStore, root: Path, use: str) -> None:
    list(merge(store.folder))
    age(store.folder / "space.json", 50)
    if use == "opening":
        FeatureStore.open(store.folder, {})
    elif use == "reading":
        JoinedStore(feature_set(store.folder))
    else:
        store.append(keys([99]), features([99]))
    assert done(clear(root, unused_for=1, dry_run=True)) == ([] if use != "appending" else ["2 files merged into 1"])


def test_space_in_which_somebody_computes_is_kept(store: FeatureStore, root: Path) -> None:
    list(merge(store.folder))
    age(store.folder / "space.json", 50)
    with store.claim(keys([99]), 1) as mine:
        age(store.folder / "space.json", 50)
        assert done(clear(root, unused_for=1)) == ["kept, for it is being used"]
        store.append(mine, features([99]))
    assert whole(store, range(12))


def test_folders_that_were_begun_or_half_removed_go_after_a_day(store: FeatureStore, root: Path) -> None:
    list(merge(store.folder))
    for name, days in ((".0123-begun", 2.0), (".4567-begun", 0.5)):
        (root / name).mkdir()
        (root / name / "space.json").write_text("{}")
        age(root / name, days)
    assert done(clear(root)) == ["left by a process that was killed"]
    assert sorted(os.listdir(root)) == [".4567-begun", store.folder.name]


def test_bytes_of_keys_that_end_in_zeros_survive(root: Path) -> None:
    store = FeatureStore.open(root / "space", {})
    endings = np.frombuffer(b"".join(bytes([number]) + bytes(15) for number in range(20)), KEY)
    for start in range(0, 20, 5):
        store.append(endings[start : start + 5], features(range(start, start + 5)))
    list(merge(store.folder))
    np.testing.assert_array_equal(store.read([f"{number:02x}" + "0" * 30 for number in range(20)]), features(range(20)))
    assert verify(store.folder).images == 20
