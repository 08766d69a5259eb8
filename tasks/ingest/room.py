"""Room for decoded images: how many pixels may be in memory at once, whoever asks for them.

Requests to a served model come at the same time, and each may bring an image as large as allowed. What a large image
needs must then not add up, and small ones must not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from tasks.limits import ALLOWED
from tasks.machine import usable_cores

PHOTO = 25_000_000
"""Pixels of a camera's photo. More than one of them per core would be decoded no faster."""


class Room:
    """Room for ``most`` pixels. Who finds too little waits for its turn; what is larger than all of it goes alone."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._used = 0
        self._freed = Condition()
        self._turn = Lock()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Take room for an image until the block ends."""
        with self._turn, self._freed:  # the turn: nobody overtakes whoever waits for much
            self._freed.wait_for(lambda: not self._used or self._used + pixels <= self.most)
            self._used += pixels
        try:
            yield
        finally:
            with self._freed:
                self._used -= pixels
                self._freed.notify_all()


_photos = Room(PHOTO * usable_cores())
_larger = Room(max(ALLOWED.pixels, PHOTO * usable_cores()))


def room_for(pixels: int) -> Room:
    """Where an image of so many pixels is decoded: larger ones than a photo wait for each other only."""
    return _photos if pixels <= PHOTO else _larger
