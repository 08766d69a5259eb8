"""What a process may use, within the limits of a container."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.machine import free_memory, freed_memory_kept, usable_cores, user_name

GIB = 2**30


def group(folder: Path, names: tuple[str, str], limit: str, used: int, stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip((*names, "memory.stat"), (limit, str(used), stat), strict=True):
        (folder / name).write_text(f"{text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def test_cores_are_those_of_the_process(tmp_path: Path) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from tasks.machine import usable_cores; print(usable_cores())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "1" <= str(usable_cores())


def test_memory_is_the_machines_where_nothing_limits_it(root: Path) -> None:
    available = psutil.virtual_memory().available
    assert free_memory(root / "none") == pytest.approx(available, rel=0.2)
    (root / "proc/self/cgroup").write_text("0::/a/b\n")
    group(root / "sys/fs/cgroup/a/b", ("memory.max", "memory.current"), "max", GIB, "inactive_file 0")
    assert free_memory(root) == pytest.approx(available, rel=0.2)


@pytest.mark.parametrize(
    ("line", "folder", "names", "stat"),
    [
        ("0::/a/b", "a/b", ("memory.max", "memory.current"), "anon 7\ninactive_file 1048576"),
        ("0::/a/b", "a", ("memory.max", "memory.current"), "anon 7\ninactive_file 1048576"),
        ("0::/", "", ("memory.max", "memory.current"), "anon 7\ninactive_file 1048576"),
        ("4:memory:/a/b", "memory/a/b", ("memory.limit_in_bytes", "memory.usage_in_bytes"),
         "inactive_file 0\ntotal_inactive_file 1048576"),
        # A container that does not see where it lies: its own group is mounted at the top.
        ("4:cpu,memory:/docker/f00", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"),
         "total_inactive_file 1048576"),
    ],
)  # fmt: skip
def test_memory_is_what_a_group_leaves(root: Path, line: str, folder: str, names: tuple[str, str], stat: str) -> None:
    (root / "proc/self/cgroup").write_text(f"5:devices:/x\n{line}\n")
    group(root / "sys/fs/cgroup" / folder, names, str(64 << 20), 16 << 20, stat)
    assert free_memory(root) == (64 << 20) - (16 << 20) + (1 << 20)


def test_a_group_that_is_over_its_limit_leaves_nothing(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/\n")
    group(root / "sys/fs/cgroup", ("memory.max", "memory.current"), "1000", 5000, "inactive_file 0")
    assert free_memory(root) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_kept_for_the_block_and_then_given_back() -> None:
    code = """
import numpy as np, psutil
from tasks.machine import freed_memory_kept
memory = lambda: psutil.Process().memory_info().rss >> 20
start = memory()
def use():
    pieces = [np.ones(40 << 17) for _ in range(5)]
use(); print(memory() - start)
with freed_memory_kept():
    use(); print(memory() - start)
print(memory() - start)
use(); print(memory() - start)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, inside, after, later = map(int, told.stdout.split())
    assert before < 60 and inside >= 195 and after < 60 and later < 60


def test_an_allocator_that_cannot_be_told_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        pass


def test_a_user_without_a_name_is_called_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert user_name() == "ada"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 98_765)
    assert user_name() == "uid 98765"
