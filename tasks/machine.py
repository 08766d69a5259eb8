"""What this process may use of the machine it runs on, whose limits a container or a scheduler may have narrowed."""

from __future__ import annotations

import ctypes
import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/")

# Of glibc's `mallopt`, which takes them as numbers.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4


def usable_cores() -> int:
    """Cores that this process may use at the same time: of its affinity and within its quota."""
    import joblib  # half a second, which those who ask for a name do without

    return int(joblib.cpu_count())


def user_name() -> str:
    """Who runs this process; the number of a user without a name, as containers have them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def free_memory(root: Path = ROOT) -> int:
    """Bytes that can still be taken: of the machine's memory, and below the limits of all control groups (Linux, both
    versions) that this process is in.

    Args:
        root: where ``/proc`` and ``/sys`` lie.
    """
    import psutil  # which a machine that only computes may lack

    return max(0, min([psutil.virtual_memory().available, *_left_in_groups(root)]))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Have the allocator keep what is freed, where it is glibc's, and give it back to the system at the end.

    By default it gives large pieces back at once, and the system fills them with zeros before it hands them out again:
    a third of the time of training a network on a CPU, which asks for the same gigabytes at every step.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, malloc_trim = library.mallopt, library.malloc_trim
    except (OSError, TypeError, AttributeError):
        yield
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        # What glibc itself comes to, which adapts both until one is set.
        mallopt(MMAP_MAX, 65536)
        mallopt(MMAP_THRESHOLD, 32 << 20)
        mallopt(TRIM_THRESHOLD, 64 << 20)
        malloc_trim(0)


def _left_in_groups(root: Path) -> Iterator[int]:
    for folder, limit, used in _groups(root):
        try:
            limited = (folder / limit).read_text().strip()
            taken = int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limited.isdecimal():
            # Files that were read are counted, and are given up for whoever needs the memory.
            cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            yield int(limited) - taken + cached


def _groups(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Folders of the groups and of those around them, and the files of their limit and use."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, files = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount, files = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            yield mount / group, *files
