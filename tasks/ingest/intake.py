"""From a source's items to rows of the journal: every file is read once, by all cores, and never again."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from tasks.encoding import escaped, is_utf8
from tasks.errors import DataError
from tasks.ingest.config import LimitsConfig
from tasks.ingest.examine import Examined, Work, begin_work, examine_all
from tasks.ingest.journal import Journal
from tasks.ingest.kinds import Problem
from tasks.ingest.labels import Label
from tasks.ingest.objects import tell_mended
from tasks.ingest.sources.base import Item
from tasks.ingest.told import cell_of, plain_label
from tasks.limits import Limits
from tasks.machine import usable_cores
from tasks.progress import progress
from tasks.target import Target
from tasks.wording import REASON, brief
from tasks.workspace import LONGEST_NAME

BLOCK_ITEMS = 256
BLOCK_BYTES = 16 * 2**20
"""What one process is handed at once."""

LONGEST_PATH = 3000
"""Bytes of all names on the way to a file below ``data/``."""

Block = list[tuple[Item, Examined | None]]
"""Items, and what is known of them already."""


def take_in(
    items: Iterator[Item],
    total: int,
    journal: Journal,
    store: Path,
    limits: LimitsConfig,
    targets: tuple[Target, ...],
) -> None:
    """Examine all items, put those that can be used into DVC's store, and note each in the journal.

    Raises:
        DataError: the source holds more files or bytes than allowed.
    """
    workers = _Workers(limits.of_an_image, store)
    waiting: deque[tuple[Block, Future[list[Examined]] | None]] = deque()
    files = size = 0
    mended: list[str] = []
    with progress("ingest", total, "img") as advance, workers:

        def finish() -> None:
            nonlocal files, size
            block, future = waiting.popleft()
            examined = _merged(block, workers.result(block, future))
            journal.learn(
                (item.place, item.stamp, new)
                for (item, known), new in zip(block, examined, strict=True)
                if known is None and item.problem is None
            )
            journal.add([_row(item, told, targets) for (item, _), told in zip(block, examined, strict=True)])
            files, size = files + len(block), size + sum(told.size for told in examined)
            mended.extend(item.path for (item, _), told in zip(block, examined, strict=True) if told.mended)
            advance(len(block))
            if files > limits.files or size > limits.total_bytes:
                raise DataError(
                    f"the source holds more than {limits.files:,} files or {limits.total_bytes:,} bytes; "
                    "if it should, raise ingest.limits.files or ingest.limits.total_bytes"
                )

        for block in _blocks(items, journal, store):
            waiting.append((block, workers.submit(block)))
            if len(waiting) > 2 * workers.count:
                finish()
        while waiting:
            finish()
    if mended:
        tell_mended("ingest", mended, "the source", store)


def _blocks(items: Iterator[Item], journal: Journal, store: Path) -> Iterator[Block]:
    block: list[Item] = []
    size = 0
    for item in map(_checked, items):
        block.append(item)
        size += len(item.content or b"")
        if len(block) == BLOCK_ITEMS or size > BLOCK_BYTES:
            yield _with_known(block, journal, store)
            block, size = [], 0
    if block:
        yield _with_known(block, journal, store)


def _checked(item: Item) -> Item:
    """The item, with a problem where its path or what is said of it cannot be written down or checked out."""
    if item.place is not None and not is_utf8(item.place):
        item = replace(item, stamp=None)
    told = [item.split, item.domain, item.group, *_texts(item.labels), *chain(*map(_texts, item.further.values()))]
    if not is_utf8(item.path):
        item = replace(item, path=escaped(item.path), problem=Problem("unsafe_path", "its name is not valid UTF-8"))
    elif not all(is_utf8(text) for text in told if text):
        problem = Problem("bad_row", "what is said of it is not valid Unicode")
        item = replace(item, labels=None, further={}, split=None, domain=None, group=None, problem=problem)
    elif item.problem is not None:
        item = replace(item, problem=Problem(item.problem.kind, escaped(item.problem.reason)))
    elif not _is_relative(item.path):
        item = replace(item, problem=Problem("unsafe_path", "its name leads out of its folder"))
    elif len(item.path) > LONGEST_NAME and _is_too_long(item.path):
        item = replace(item, problem=Problem("unsafe_path", "its name is longer than file systems allow"))
    return item


def _texts(label: Label | None) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else ()


def _with_known(items: list[Item], journal: Journal, store: Path) -> Block:
    """Items, and what is known of them without reading, decoding or writing anything."""
    digests = [
        None if item.content is None else hashlib.md5(item.content, usedforsecurity=False).hexdigest() for item in items
    ]
    contents = journal.known_contents([digest for digest in digests if digest])
    files = journal.known_files([item.place for item in items if item.place and item.stamp and item.content is None])
    block: Block = []
    for item, digest in zip(items, digests, strict=True):
        found = None
        if item.problem is not None:
            found = Examined(None)
        elif digest is not None:
            found = contents.get(digest)
        elif item.place in files and files[item.place][0] == item.stamp:
            found = files[item.place][1]
        if found and found.hash and not found.kind and not _is_stored(found, store):
            found = None  # the store has been tidied or damaged since
        block.append((item, found))
    return block


def _is_stored(known: Examined, store: Path) -> bool:
    """Whether the store has a content, by the size and time that its object had when it was whole."""
    try:
        there = os.stat(f"{store}/{known.hash[:2]}/{known.hash[2:]}")  # type: ignore[index]
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (known.size, known.stored)


def _merged(block: Block, examined: Sequence[Examined]) -> list[Examined]:
    new = iter(examined)
    return [next(new) if known is None else known for _, known in block]


def _row(item: Item, told: Examined, targets: tuple[Target, ...]) -> tuple[Any, ...]:
    problem = item.problem or (Problem(told.kind, told.reason or "") if told.kind else None)
    leading, *others = targets
    for target, labels in ((leading, item.labels), *((each, item.further.get(each.name)) for each in others)):
        if target.kind == "class" and isinstance(labels, tuple) and len(labels) != 1:
            of = "" if target is leading else f" of {target.name}"
            problem = problem or Problem("bad_row", f"{len(labels)} labels{of} where one is expected")
    kind, reason = (problem.kind, brief(problem.reason, REASON)) if problem else (None, None)
    path = item.path if len(item.path) <= LONGEST_PATH else brief(item.path, LONGEST_PATH)
    label = None if item.labels is None else cell_of(plain_label(item.labels, leading))
    found = {each.name: plain_label(item.further[each.name], each) for each in others if each.name in item.further}
    further = json.dumps(found, sort_keys=True) if found else None
    return path, item.layout, item.domain, label, item.split, item.group, told.hash, kind, reason, further


def _is_too_long(path: str) -> bool:
    parts = path.encode().split(b"/")
    return max(map(len, parts)) > LONGEST_NAME or sum(map(len, parts)) > LONGEST_PATH


_UNSAFE = re.compile(r"(?:^|/)(?:\.{0,2}(?:/|$))|\0")


def _is_relative(path: str) -> bool:
    return path != "" and _UNSAFE.search(path) is None


class _Workers:
    """One process per core; threads would wait for each other at every small image."""

    def __init__(self, limits: Limits, store: Path) -> None:
        self.limits, self.store = limits, store
        self.count = usable_cores()
        self._pool: Any = None

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)

    def submit(self, block: Block) -> Future[list[Examined]] | None:
        """Have the items examined that are not known; None where all are."""
        works = [Work(item.place, item.content) for item, known in block if known is None]
        return self._submit(works) if works else None

    def result(self, block: Block, future: Future[list[Examined]] | None) -> list[Examined]:
        """What was found out. A file that makes a decoder crash takes its process with it, not the run."""
        if future is None:
            return []
        try:
            return future.result()
        except BrokenExecutor:
            return [self._alone(item) for item, known in block if known is None]

    def _alone(self, item: Item) -> Examined:
        try:
            return self._submit([Work(item.place, item.content)]).result()[0]
        except BrokenExecutor:
            return Examined(None, kind="undecodable", reason="its decoder crashed")

    def _submit(self, works: list[Work]) -> Future[list[Examined]]:
        try:
            return self._start().submit(examine_all, works, self.limits, self.store)
        except BrokenExecutor:  # by a file that was submitted before
            self._pool = None
            return self._start().submit(examine_all, works, self.limits, self.store)

    def _start(self) -> Any:
        if self._pool is None:
            from loky import ProcessPoolExecutor

            self._pool = ProcessPoolExecutor(self.count, initializer=begin_work, initargs=(os.getpid(),))
        return self._pool
