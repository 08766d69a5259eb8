"""Room for decoded images: large ones wait for each other, and nobody waits for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from PIL import Image

from tasks.ingest import decode as module
from tasks.ingest import room
from tasks.ingest.decode import pixels_of
from tasks.ingest.room import PHOTO, Room, room_for

SOON = 0.05
"""Seconds in which whoever does not wait would begin, as a rule."""


@contextmanager
def held(place: Room, pixels: int) -> Iterator[threading.Event]:
    """A thread that asks for room and keeps it until the block ends; the event tells that it has it."""
    began, end = threading.Event(), threading.Event()

    def ask() -> None:
        with place.hold(pixels):
            began.set()
            end.wait(10)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert began.wait(10)
        yield began
    finally:
        end.set()
        thread.join()


def taken(place: Room, pixels: int) -> bool:
    with place.hold(pixels):
        return True


def is_waited_for(place: Room) -> bool:
    """Whether somebody comes to wait for room."""
    deadline = time.monotonic() + 10
    while not place._turn.locked() and time.monotonic() < deadline:
        time.sleep(0.001)
    return place._turn.locked()


def test_what_fits_is_let_in_together_and_the_rest_waits_until_there_is_room() -> None:
    place = Room(100)
    with ThreadPoolExecutor(1) as pool:
        with held(place, 60) as first, held(place, 40) as second:
            third = pool.submit(taken, place, 10)
            time.sleep(SOON)
            assert first.is_set() and second.is_set() and not third.done()
        assert third.result(5)


def test_what_is_larger_than_the_room_goes_alone() -> None:
    place = Room(100)
    with held(place, 300) as first:
        assert first.is_set()
    assert taken(place, 1)


def test_nobody_overtakes_whoever_waits_for_much() -> None:
    place, order = Room(100), []

    def ask(pixels: int) -> None:
        with place.hold(pixels):
            order.append(pixels)

    with held(place, 50):
        threads = [threading.Thread(target=ask, args=(pixels,)) for pixels in (90, 20)]
        threads[0].start()
        assert is_waited_for(place)  # the other one comes after it
        threads[1].start()
        time.sleep(SOON)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [90, 20]


def test_room_is_given_back_when_the_work_fails() -> None:
    place = Room(100)
    with pytest.raises(ValueError), place.hold(100):
        raise ValueError
    assert taken(place, 100)


def test_a_photo_does_not_wait_for_a_larger_image() -> None:
    assert room_for(PHOTO) is not room_for(PHOTO + 1)
    with held(room_for(100_000_000), 100_000_000), pixels_of(Image.new("RGB", (64, 64))) as pixels:
        assert pixels.shape == (64, 64, 3)


def test_large_images_of_many_threads_are_decoded_within_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads, each with an image of 64×64 pixels, where there is room for two of them."""
    monkeypatch.setattr(room, "_photos", Room(2 * 64 * 64))
    inside, most, to_rgb, lock = 0, [], module.to_rgb, threading.Lock()

    def count(change: int) -> None:
        nonlocal inside
        with lock:
            inside += change
            most.append(inside)

    def slow(opened: Image.Image) -> Image.Image:
        count(1)
        time.sleep(0.01)
        return to_rgb(opened)

    def decode(_: int) -> None:
        with pixels_of(Image.new("RGB", (64, 64))):
            time.sleep(0.01)
            count(-1)

    monkeypatch.setattr(module, "to_rgb", slow)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(8)))
    assert max(most) == 2 and inside == 0
