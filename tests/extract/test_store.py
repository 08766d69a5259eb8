"""Features are computed once and found again by the image's content."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import StorageError
from tasks.extract.keys import KEY, find, in_order
from tasks.extract.parts import open_part
from tasks.extract.store import FeatureStore, keys_of
from tests.disks import small_disk

ROOT = Path(__file__).parents[2]


def features(numbers: list[int] | range, width: int = 3) -> np.ndarray:
    """Features that tell which image they belong to."""
    return (np.array(list(numbers), np.float32)[:, None] + np.arange(width, dtype=np.float32) / 8).astype(np.float32)


def names(numbers: list[int] | range) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def stored(store: FeatureStore, numbers: range) -> set[int]:
    """Those of some images that are in the store."""
    return set(np.array(numbers)[~store.missing(names(numbers))].tolist())


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "space", {"size": 32})


HASHES = st.lists(st.binary(min_size=16, max_size=16) | st.integers(0, 9).map(lambda n: bytes(15) + bytes([n])))


@given(HASHES)
def test_keys_are_the_bytes_of_the_hex_digits_whatever_holds_them(contents: list[bytes]) -> None:
    hashes = [content.hex() for content in contents]
    array = pa.array(hashes, pa.string())
    holders = [
        hashes, pd.Series(hashes, dtype=object), pd.Series(hashes, dtype="string"), np.array(hashes, object), array,
        pa.array(hashes, pa.large_string()), pa.chunked_array([array, array[:0]]), array.dictionary_encode(),
        pa.concat_arrays([pa.array(["another"]), array])[1:],
    ]  # fmt: skip
    for holder in holders:
        keys = keys_of(holder)
        assert keys.dtype == KEY and keys.tobytes() == b"".join(contents)
        assert keys_of(keys) is keys


@pytest.mark.parametrize("wrong", ["", "ab12", "0" * 31, "0" * 33, "0" * 30 + "xy", "00 " * 10 + "00", "é" * 32, None])
def test_what_is_no_md5_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        keys_of([*names([1]), wrong])
    with pytest.raises(ValueError):
        keys_of([wrong] * 4)


@given(HASHES, HASHES)
def test_keys_are_found_among_others_by_all_their_bytes(some: list[bytes], others: list[bytes]) -> None:
    keys, wanted = (np.frombuffer(b"".join(contents), KEY) for contents in (some, others + some[:3]))
    ordered, first = in_order(keys)
    assert [key.tobytes() for key in ordered.view("V16")] == sorted(set(some))
    assert [some.index(content) for content in sorted(set(some))] == first.tolist()
    at, found = find(ordered, wanted)
    assert found.tolist() == [content in some for content in others + some[:3]]
    assert at.tolist() == [sum(each < content for each in set(some)) for content in others + some[:3]]


@settings(max_examples=25)
@given(blocks=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=5), data=st.data())
def test_features_are_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[int]], data: st.DataObject
) -> None:
    store = FeatureStore.open(tmp_path_factory.mktemp("store") / "space", {})
    for block in blocks:
        store.append(names(block), features(block))
    there = sorted({number for block in blocks for number in block})
    assert stored(store, range(50)) == set(there) and store.count == len(there)
    wanted = data.draw(st.lists(st.sampled_from(there), max_size=30))
    read = store.read(names(wanted))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, features(wanted))
    out = np.full((len(wanted), 3), np.nan, np.float32)
    assert store.read(keys_of(names(wanted)), out) is out
    np.testing.assert_array_equal(out, features(wanted))


@pytest.mark.parametrize("order", ["as written", "reversed", "shuffled"])
def test_large_matrices_are_read_in_any_order(store: FeatureStore, order: str) -> None:
    keys = np.frombuffer(np.random.default_rng(0).bytes(16 * 3000), KEY)
    matrix = np.random.default_rng(1).random((3000, 700), np.float32)
    for start in range(0, 3000, 700):
        store.append(keys[start : start + 700], matrix[start : start + 700])
    rows = {"as written": np.arange(3000), "reversed": np.arange(3000)[::-1]}.get(
        order, np.random.default_rng(2).permutation(3000)
    )
    np.testing.assert_array_equal(store.read(keys[rows]), matrix[rows])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.booleans()), min_size=1, max_size=8))
def test_whoever_sees_the_same_files_reads_the_same_features(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[list[int], bool]]
) -> None:
    """One image in several files with different features: the first by name counts, whenever one has looked."""
    folder = tmp_path_factory.mktemp("store") / "space"
    writer, watching, oracle = FeatureStore.open(folder, {}), FeatureStore(folder), {}
    for number, (block, look) in enumerate(blocks):
        writer.append(names(block), np.full((len(block), 1), number, np.float32))
        if look:
            watching.read(names(block))
    for path in sorted(folder.glob("part-*"), reverse=True):
        part = open_part(path)
        hashes = [key.tobytes().hex() for key in part.keys.view("V16")]
        oracle |= dict(zip(hashes[::-1], part.features[::-1, 0], strict=True))
    for store in (watching, writer, FeatureStore(folder)):
        np.testing.assert_array_equal(store.read(list(oracle))[:, 0], list(oracle.values()))


def test_what_others_append_is_found_without_opening_the_store_again(store: FeatureStore) -> None:
    other = FeatureStore(store.folder)
    assert (other.width, other.count, other.nbytes, other.parts) == (None, 0, 0, [])
    assert other.read([]).shape == (0, 0)
    store.append(names([1, 2]), features([1, 2], width=5))
    assert (other.width, other.count) == (5, 2)
    assert other.missing(names([2, 3])).tolist() == [False, True]
    store.append(names([3]), features([3], width=5))
    np.testing.assert_array_equal(other.read(names([3, 1])), features([3, 1], width=5))
    assert other.parts == sorted(store.folder.glob("part-*")) and len(other.parts) == 2
    assert other.nbytes == sum(path.stat().st_size for path in other.parts)


def test_unknown_image_is_a_key_error(store: FeatureStore) -> None:
    with pytest.raises(KeyError):
        store.read(names([1]))
    store.append(names([1, 2]), features([1, 2]))
    with pytest.raises(KeyError, match=names([256])[0]):
        store.read(names([1, 256, 3]))


def test_shapes_that_do_not_fit_are_refused(store: FeatureStore) -> None:
    store.append([], features([]))
    assert store.parts == []
    with pytest.raises(ValueError, match="2 images"):
        store.append(names([1, 2]), features([1]))
    store.append(names([1]), features([1]))
    with pytest.raises(ValueError, match="4 features an image"):
        store.append(names([2]), features([2], width=4))
    with pytest.raises(ValueError, match="to be read"):
        store.read(names([1]), np.empty((1, 4), np.float32))


def test_same_image_in_two_files_is_harmless(store: FeatureStore) -> None:
    store.append(names([1, 2]), features([1, 2]))
    store.append(names([2, 3]), features([2, 3]))
    np.testing.assert_array_equal(store.read(names([3, 2, 2, 1])), features([3, 2, 2, 1]))
    assert store.count == 3


def test_half_written_files_are_ignored(store: FeatureStore) -> None:
    store.append(names([1]), features([1]))
    (whole,) = store.folder.glob("part-*.arrow")
    (store.folder / ".writing-0123456789abcdef").write_bytes(whole.read_bytes()[:50])
    (store.folder / ".part-0.arrow").write_bytes(b"")
    assert stored(store, range(9)) == {1}
    np.testing.assert_array_equal(store.read(names([1])), features([1]))


def test_space_is_written_down_once_and_opened_again(tmp_path: Path) -> None:
    folder = tmp_path / "features" / "space"
    FeatureStore.open(folder, {"size": 32, "mean": (0.5, 0.5, 0.5)}).append(names([7]), features([7]))
    again = FeatureStore.open(folder, {"size": 32})
    assert json.loads((folder / "space.json").read_text()) == {"size": 32, "mean": [0.5, 0.5, 0.5]}
    assert stored(again, range(9)) == {7}


@pytest.mark.parametrize("text", [None, b"", b'{"size": 3', b"[]", b"\xff\xfe"])
def test_space_whose_description_is_lost_is_written_down_anew(store: FeatureStore, text: bytes | None) -> None:
    store.append(names([7]), features([7]))
    path = store.folder / "space.json"
    path.unlink() if text is None else path.write_bytes(text)
    FeatureStore.open(store.folder, {"size": 32})
    assert json.loads(path.read_text()) == {"size": 32}
    assert sorted(os.listdir(store.folder)) == sorted(["space.json", store.parts[0].name])


def test_files_say_what_they_hold_and_who_wrote_them(store: FeatureStore) -> None:
    store.append(names([1, 2]), features([1, 2]))
    with pa.ipc.open_file(str(store.parts[0])) as file:
        schema = file.schema
    assert schema.names == ["key", "features"]
    assert schema.field("key").type == pa.binary(16) and schema.field("features").type == pa.list_(pa.float32(), 3)
    assert f"numpy {np.__version__}" in schema.metadata[b"written by"].decode()


def test_many_files_are_open_at_once(store: FeatureStore) -> None:
    """More than a process may have descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(300):
        store.append(names([number]), features([number]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, before[1]))
    try:
        np.testing.assert_array_equal(FeatureStore(store.folder).read(names(range(300))), features(range(300)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_index_of_600_000_images_costs_some_bytes_each(store: FeatureStore) -> None:
    count = 600_000
    keys = np.frombuffer(hashlib.shake_256(b"images").digest(16 * count), KEY)
    for start in range(0, count, 200_000):
        store.append(keys[start : start + 200_000], np.zeros((200_000, 1), np.float32))
    reader = FeatureStore(store.folder)
    tracemalloc.start()
    try:
        assert not reader.missing(keys).any()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 26 * count and most < 100 * count
    assert reader.missing(np.frombuffer(hashlib.shake_256(b"others").digest(1600), KEY)).all()


@pytest.mark.parametrize("damage", ["empty", "short", "text", "other columns", "footer"])
def test_damaged_file_is_told_with_its_name_and_what_to_do(store: FeatureStore, damage: str) -> None:
    store.append(names([1, 2]), features([1, 2]))
    path = store.parts[0]
    whole = path.read_bytes()
    if damage == "other columns":
        table = pa.table({"hash": names([1]), "features": [[1.0]]})
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        broken = {
            "empty": b"",
            "short": whole[:-9],
            "text": b"hello",
            "footer": whole[:-40] + b"\xff" * 30 + whole[-10:],
        }
        path.write_bytes(broken[damage])
    for use in (FeatureStore(store.folder).missing, FeatureStore(store.folder).read):
        with pytest.raises(StorageError, match="headstart features verify") as error:
            use(names([1]))
        assert str(path) in str(error.value)


def test_files_of_different_widths_are_told(store: FeatureStore, tmp_path: Path) -> None:
    other = FeatureStore.open(tmp_path / "other", {})
    store.append(names([1]), features([1]))
    other.append(names([2]), features([2], width=4))
    shutil.copy(other.parts[0], store.folder)
    with pytest.raises(StorageError, match="features an image, and"):
        FeatureStore(store.folder).missing(names([1]))


def test_space_that_was_removed_meanwhile_is_told(store: FeatureStore) -> None:
    shutil.rmtree(store.folder)
    with pytest.raises(StorageError, match="has gone"):
        store.missing(names([1]))
    with pytest.raises(StorageError, match="has gone"):
        store.append(names([1]), features([1]))


def test_link_to_nowhere_ends_in_words(store: FeatureStore) -> None:
    (store.folder / "part-0.arrow").symlink_to("nowhere")
    with pytest.raises(StorageError, match="link to nowhere"):
        store.missing(names([1]))


SMALL_DISK = """
import json, os, sys; from pathlib import Path; import numpy as np
from tasks.errors import StorageError
from tasks.extract.store import FeatureStore, keys_of
from tests.disks import small_disk
store = FeatureStore.open(Path(sys.argv[1]) / "space", {})
ballast = Path(sys.argv[1]) / "ballast"; ballast.write_bytes(bytes(2 << 20))
keys = keys_of([f"{number:032x}" for number in range(60)])
def compute(mine):
    numbers = np.array([int.from_bytes(key.tobytes()) for key in mine.view("V16")], np.float32)
    return np.repeat(numbers[:, None], 12_000, 1)
try:
    store.fill(keys, 6, compute)
except StorageError as error:
    told = str(error)
kept, files = store.count, [name for name in os.listdir(store.folder) if name[:5] != "part-"]
ballast.unlink()
later = FeatureStore.open(store.folder, {})
computed = later.fill(keys, 6, compute)
right = bool((later.read(keys)[:, 7] == np.arange(60)).all())
print(json.dumps({"told": told, "kept": kept, "files": files, "computed": computed, "right": right}))
"""


def test_full_disk_is_told_and_a_later_run_goes_on(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=4m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$0" "{tmp_path}"'
    done = subprocess.run([*small_disk(), "sh", "-c", script, SMALL_DISK], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "the disk is full: 0.3 MiB are needed and 0." in result["told"]
    assert str(tmp_path / "space") in result["told"] and "Make room" in result["told"]
    assert 0 < result["kept"] < 60 and result["kept"] + result["computed"] == 60 and result["right"]
    assert sorted(result["files"]) == [".lock", "space.json"]


def test_limit_to_the_size_of_files_is_told(store: FeatureStore) -> None:
    code = """
import resource, sys; from pathlib import Path; import numpy as np
from tasks.extract.store import FeatureStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
FeatureStore(Path(sys.argv[1])).append([f"{1:032x}"], np.ones((1, 100_000), np.float32))
"""
    done = subprocess.run([sys.executable, "-c", code, store.folder], cwd=ROOT, capture_output=True, text=True)
    assert "StorageError" in done.stderr and "0.4 MiB is larger than allowed" in done.stderr
    assert os.listdir(store.folder) == ["space.json"]


def test_processes_that_append_at_the_same_time_lose_nothing(store: FeatureStore) -> None:
    code = """
import sys; from pathlib import Path; import numpy as np
from tasks.extract.store import FeatureStore
store, first = FeatureStore.open(Path(sys.argv[1]), {}), int(sys.argv[2])
print("ready", flush=True); sys.stdin.readline()
for number in range(first, first + 40):
    store.append([f"{number:032x}", f"{1000:032x}"], np.array([[number] * 3, [1000] * 3], np.float32))
    assert not store.missing([f"{number:032x}"])[0]
"""
    command = [sys.executable, "-c", code, str(store.folder)]
    writers = [
        subprocess.Popen([*command, str(first)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for first in (0, 100)
    ]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    numbers = [*range(40), *range(100, 140), 1000]
    assert stored(store, range(1010)) == set(numbers)
    np.testing.assert_array_equal(store.read(names(numbers))[:, 0], numbers)
    assert not list(store.folder.glob(".writing-*"))
