"""Features are computed once and found again by the image's content."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.extract.store import FeatureStore

ROOT = Path(__file__).parents[2]


def features(numbers: list[int] | range, width: int = 3) -> np.ndarray:
    """Features that tell which image they belong to."""
    return (np.array(list(numbers), np.float32)[:, None] + np.arange(width, dtype=np.float32) / 8).astype(np.float32)


def names(numbers: list[int] | range) -> list[str]:
    return [f"{number:032x}" for number in numbers]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "space", {"size": 32})


@settings(max_examples=25, deadline=None)
@given(blocks=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=5), data=st.data())
def test_features_are_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[int]], data: st.DataObject
) -> None:
    store = FeatureStore.open(tmp_path_factory.mktemp("store") / "space", {})
    for block in blocks:
        store.append(names(block), features(block))
    there = sorted({number for block in blocks for number in block})
    assert store.known() == set(names(there))
    wanted = data.draw(st.lists(st.sampled_from(there), max_size=30))
    np.testing.assert_array_equal(store.read(names(wanted)), features(wanted))
    assert store.read(names(wanted)).dtype == np.float32


def test_unknown_image_is_a_key_error(store: FeatureStore) -> None:
    with pytest.raises(KeyError):
        store.read(names([1]))
    store.append(names([1, 2]), features([1, 2]))
    with pytest.raises(KeyError, match=names([3])[0]):
        store.read(names([1, 3]))


def test_same_image_in_two_files_is_harmless(store: FeatureStore) -> None:
    store.append(names([1, 2]), features([1, 2]))
    store.append(names([2, 3]), features([2, 3]))
    np.testing.assert_array_equal(store.read(names([3, 2, 2, 1])), features([3, 2, 2, 1]))
    assert len(store.known()) == 3


def test_half_written_files_are_ignored(store: FeatureStore) -> None:
    store.append(names([1]), features([1]))
    (whole,) = store.folder.glob("part-*.arrow")
    (store.folder / ".0123456789abcdef").write_bytes(whole.read_bytes()[:50])
    (store.folder / ".part-0.arrow").write_bytes(b"")
    assert store.known() == set(names([1]))
    np.testing.assert_array_equal(store.read(names([1])), features([1]))


def test_space_is_written_down_once_and_opened_again(tmp_path: Path) -> None:
    folder = tmp_path / "features" / "space"
    FeatureStore.open(folder, {"size": 32, "mean": (0.5, 0.5, 0.5)}).append(names([7]), features([7]))
    again = FeatureStore.open(folder, {"size": 32})
    assert json.loads((folder / "space.json").read_text()) == {"size": 32, "mean": [0.5, 0.5, 0.5]}
    assert again.known() == set(names([7]))


def test_processes_that_append_at_the_same_time_lose_nothing(store: FeatureStore) -> None:
    code = """
import sys; from pathlib import Path; import numpy as np
from tasks.extract.store import FeatureStore
store, first = FeatureStore.open(Path(sys.argv[1]), {}), int(sys.argv[2])
print("ready", flush=True); sys.stdin.readline()
for number in range(first, first + 40):
    store.append([f"{number:032x}", f"{1000:032x}"], np.array([[number] * 3, [1000] * 3], np.float32))
    assert f"{number:032x}" in store.known()
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
    assert store.known() == set(names(numbers))
    np.testing.assert_array_equal(store.read(names(numbers))[:, 0], numbers)
    assert not list(store.folder.glob(".[0-9a-f]*"))
