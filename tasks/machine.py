"""What this process may use of the machine it runs on, whose limits a container or a scheduler may have narrowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import joblib

ROOT = Path("/")


def usable_cores() -> int:
    """Cores that this process may use at the same time: of its affinity and within its quota."""
    return int(joblib.cpu_count())


def free_memory(root: Path = ROOT) -> int:
    """Bytes that can still be taken: of the machine's memory, and below the limits of all control groups (Linux, both
    versions) that this process is in.

    Args:
        root: where ``/proc`` and ``/sys`` lie.
    """
    import psutil  # which a machine that only computes may lack

    return max(0, min([psutil.virtual_memory().available, *_left_in_groups(root)]))


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
