"""Several who fill one store compute nothing twice, whoever of them is killed and when."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import StorageError
from tasks.extract import claims as claims_module
from tasks.extract.claims import CLAIM, WRITING, held, is_dead
from tasks.extract.store import FeatureStore, keys_of

ROOT = Path(__file__).parents[2]

COMPUTER = """
import os, sys, time; from pathlib import Path; import numpy as np
from tasks.extract.store import FeatureStore, keys_of
store = FeatureStore.open(Path(sys.argv[1]), {})
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
count, most, seconds = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])

def compute(mine):
    for key in mine.view("V16"):
        os.write(log, f"{os.getpid()} {int.from_bytes(key.tobytes())}\\n".encode())
        time.sleep(seconds)
    numbers = np.array([int.from_bytes(key.tobytes()) for key in mine.view("V16")], np.float32)
    return np.repeat(numbers[:, None], 3, 1)

store.fill(keys_of([f"{number:032x}" for number in range(count)]), most, compute)
"""


def names(numbers: list[int] | range) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def numbers_of(keys: np.ndarray) -> list[int]:
    return [int.from_bytes(key.tobytes()) for key in keys.view("V16")]


def features(keys: np.ndarray) -> np.ndarray:
    return np.repeat(np.array(numbers_of(keys), np.float32)[:, None], 3, 1)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "space", {})


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    running = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


CLAIMER = """
import sys; from pathlib import Path
from tasks.extract.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]))
with store.claim([f"{number:032x}" for number in range(int(sys.argv[2]))], int(sys.argv[3])) as mine:
    print(len(mine), flush=True)
    sys.stdin.readline()
"""


@contextmanager
def claimer(store: FeatureStore, count: int, most: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that claims some images until it is told or killed."""
    with process(CLAIMER, store.folder, count, most) as other:
        assert other.stdout and int(other.stdout.readline()) == min(count, most)
        yield other


def test_what_is_claimed_or_here_is_not_claimed_again(store: FeatureStore) -> None:
    store.append(names([0, 1]), features(keys_of(names([0, 1]))))
    with store.claim(names(range(8)), 3) as first, store.claim(names(range(8)), 3) as second:
        assert (numbers_of(first), numbers_of(second)) == ([2, 3, 4], [5, 6, 7])
        with FeatureStore(store.folder).claim(names(range(8)), 3) as third:
            assert third.dtype == "S16" and len(third) == 0
    with store.claim(names(range(8)), 99) as again:
        assert numbers_of(again) == [2, 3, 4, 5, 6, 7]
    assert not list(store.folder.glob(f"{CLAIM}*"))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 300), max_size=40), st.sets(st.integers(0, 300)), st.integers(1, 30))
def test_claimed_are_the_first_that_are_missing_each_once(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[int], here: set[int], most: int
) -> None:
    store = FeatureStore.open(tmp_path_factory.mktemp("store") / "space", {})
    store.append(names(sorted(here)), features(keys_of(names(sorted(here)))).reshape(-1, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.extract.store.LOOKED_THROUGH", 7)
        with store.claim(names(wanted), most) as mine:
            assert numbers_of(mine) == [n for n in dict.fromkeys(wanted) if n not in here][:most]


def test_claim_ends_when_its_block_fails(store: FeatureStore) -> None:
    with pytest.raises(KeyboardInterrupt), store.claim(names([1]), 1):
        raise KeyboardInterrupt
    with store.claim(names([1]), 1) as mine:
        assert numbers_of(mine) == [1]


def test_claim_of_a_living_process_counts_and_that_of_a_killed_one_does_not(store: FeatureStore) -> None:
    with claimer(store, 9, 4) as other:
        with store.claim(names(range(9)), 9) as mine:
            assert numbers_of(mine) == [4, 5, 6, 7, 8]
        other.kill()
        other.wait()
        assert len(list(store.folder.glob(f"{CLAIM}*"))) == 1
        with store.claim(names(range(9)), 9) as mine:
            assert numbers_of(mine) == list(range(9))
            assert len(list(store.folder.glob(f"{CLAIM}*"))) == 1  # this one's, and not the dead one's


FORKER = """
import os, sys, time; from pathlib import Path
from tasks.extract.store import FeatureStore
with FeatureStore(Path(sys.argv[1])).claim([f"{1:032x}"], 1):
    if child := os.fork():
        print(child, flush=True)
    time.sleep(60)
"""


def test_claim_does_not_live_on_in_a_fork_of_the_process_that_held_it(store: FeatureStore) -> None:
    with process(FORKER, store.folder) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            with store.claim(names([1]), 1) as mine:
                assert len(mine) == 0
            parent.kill()
            parent.wait()
            store.wait(names([1]))  # the fork may not have come to its first step yet
            with store.claim(names([1]), 1) as mine:
                assert len(mine) == 1
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_waiting_ends_when_others_append(store: FeatureStore) -> None:
    waited = threading.Event()

    def wait() -> None:
        FeatureStore(store.folder).wait(names([1, 2]), poll=0.02)
        waited.set()

    with store.claim(names([1, 2]), 2):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not waited.wait(0.3)
        store.append(names([2]), features(keys_of(names([2]))))
        assert waited.wait(10)
    waiting.join()


def test_waiting_ends_when_others_are_killed(store: FeatureStore) -> None:
    with claimer(store, 2, 2) as other:
        waiting = threading.Thread(target=store.wait, args=(names([0, 1]), 0.02))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        other.kill()
        waiting.join(10)
        assert not waiting.is_alive()
    store.wait([])


def test_threads_of_one_process_compute_nothing_twice(store: FeatureStore) -> None:
    computed: list[int] = []
    keys = keys_of(names(range(200)))

    def compute(mine: np.ndarray) -> np.ndarray:
        computed.extend(numbers_of(mine))
        time.sleep(0.002)
        return features(mine)

    stores = [store, store, FeatureStore(store.folder), FeatureStore(store.folder)]
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda each: each.fill(np.roll(keys, 50), 3, compute), stores))
    assert sorted(computed) == list(range(200)) and sum(counts) == 200
    np.testing.assert_array_equal(store.read(keys), features(keys))


def test_filling_computes_what_is_missing_in_the_given_order_and_each_once(store: FeatureStore) -> None:
    asked: list[list[int]] = []

    def compute(mine: np.ndarray) -> np.ndarray:
        asked.append(numbers_of(mine))
        return features(mine)

    store.append(names([5]), features(keys_of(names([5]))))
    assert store.fill(names([7, 5, 3, 7, 9, 1]), 2, compute) == 4
    assert asked == [[7, 3], [9, 1]]
    assert store.fill(names([7, 5, 3, 7, 9, 1]), 2, compute) == 0
    assert store.fill([], 2, compute) == 0


@pytest.mark.slow
def test_processes_some_of_them_killed_compute_nothing_twice_but_what_the_killed_had_in_hand(
    store: FeatureStore, tmp_path: Path
) -> None:
    count, most, log = 400, 9, tmp_path / "log"
    log.touch()
    with ExitStack() as stack:
        running = [
            stack.enter_context(process(COMPUTER, store.folder, log, count, most, seconds))
            for seconds in (0.004, 0.004, 0.004, 0.012)
        ]
        killed = []
        for victim, when in zip(running, (60, 140, 240), strict=False):
            while len(log.read_text().splitlines()) < when:
                time.sleep(0.001)
            time.sleep(random.random() / 50)
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)
        assert running[-1].wait(60) == 0
    keys = keys_of(names(range(count)))
    np.testing.assert_array_equal(store.read(keys), features(keys))
    computed: dict[int, list[int]] = {}
    for pid, number in (map(int, line.split()) for line in log.read_text().splitlines()):
        computed.setdefault(number, []).append(pid)
    assert set(computed) == set(range(count))
    lost = [pid for pids in computed.values() for pid in pids[:-1]]
    assert set(lost) <= set(killed)
    assert all(lost.count(pid) <= most for pid in killed)


@pytest.mark.parametrize("when", ["before writing", "while writing", "before it has its name"])
def test_what_a_writer_killed_in_the_middle_has_left_is_removed_when_the_store_is_opened(
    store: FeatureStore, when: str
) -> None:
    code = f"""
import os, signal, sys; from pathlib import Path; import numpy as np, pyarrow as pa
from tasks.extract.store import FeatureStore
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
{{"before writing": lambda: setattr(pa, "OSFile", die), "while writing": lambda: setattr(os, "fsync", die),
  "before it has its name": lambda: setattr(os, "replace", die)}}[{when!r}]()
FeatureStore(Path(sys.argv[1])).append([f"{{1:032x}}"], np.ones((1, 3), np.float32))
"""
    with process(code, store.folder) as writer:
        assert writer.wait(60) == -signal.SIGKILL
    assert len(list(store.folder.glob(f"{WRITING}*"))) == 1
    assert store.missing(names([1])).all()
    with held(store.folder, WRITING) as (mine, _):
        FeatureStore.open(store.folder, {})
        assert list(store.folder.glob(f"{WRITING}*")) == [mine]
    store.append(names([1]), features(keys_of(names([1]))))
    assert sorted(os.listdir(store.folder)) == sorted([store.parts[0].name, "space.json"])


def test_file_taken_for_a_dead_ones_before_it_was_locked_is_begun_again(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = claims_module.fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not removed and how == claims_module.fcntl.LOCK_EX:
            (path,) = store.folder.glob(f"{WRITING}*")
            removed.append(path)
            path.unlink()
        lock(descriptor, how)

    monkeypatch.setattr(claims_module.fcntl, "flock", late)
    with held(store.folder, WRITING) as (path, _):
        assert path.exists() and removed != [path] and not is_dead(path)
    assert not path.exists()


def test_claims_count_where_a_network_gives_locks_to_processes(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, a process that asks for a lock that it has is granted it, and loses it by closing the file anywhere."""
    monkeypatch.setattr(claims_module.fcntl, "flock", claims_module.fcntl.lockf)
    code = "import fcntl; fcntl.flock = fcntl.lockf\n" + CLAIMER
    with held(store.folder, WRITING) as (writing, _), store.claim(names(range(5)), 2) as first:
        FeatureStore.open(store.folder, {})
        assert writing.exists()
        with store.claim(names(range(5)), 2) as second:
            assert (numbers_of(first), numbers_of(second)) == ([0, 1], [2, 3])
        with process(code, store.folder, 5, 5) as other:
            assert other.stdout and other.stdout.readline() == "3\n"
            with store.claim(names(range(5)), 5) as none:
                assert len(none) == 0


@pytest.mark.parametrize(
    ("code", "told"),
    [(errno.ENOLCK, "no file locks"), (errno.EDQUOT, "quota is used up"), (errno.EACCES, "cannot be written")],
    ids=["no locks", "quota", "permission"],
)
def test_what_keeps_a_claim_from_being_written_is_told(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, code: int, told: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(claims_module.fcntl, "flock", refused)
        with pytest.raises(StorageError, match=told) as error, store.claim(names([1]), 1):
            pass
    assert str(store.folder) in str(error.value)
