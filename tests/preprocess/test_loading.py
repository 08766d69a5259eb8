"""Batches that are made ahead, by a thread or by processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tasks.errors import DataError
from tasks.preprocess import loading
from tasks.preprocess.loading import made_ahead


def squared(order: int) -> torch.Tensor:
    if order == 7:
        raise DataError("seven cannot be decoded")
    return torch.tensor([order**2, os.getpid()])


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_what_is_made_comes_in_the_order_it_was_asked_for(processes: int) -> None:
    made = list(made_ahead(squared, iter([3, 1, 2, 6, 5, 4]), processes, size=16))
    assert [int(each[0]) for each in made] == [9, 1, 4, 36, 25, 16]
    assert ({int(each[1]) for each in made} == {os.getpid()}) is (processes == 0)
    assert list(made_ahead(squared, iter([]), processes, size=16)) == []


@pytest.mark.parametrize("processes", [0, 2])
def test_orders_are_taken_as_they_are_needed_and_only_here(processes: int) -> None:
    taken: list[int] = []

    def orders() -> Iterator[int]:
        for order in range(10, 1000):
            taken.append(order)
            yield order

    made = made_ahead(squared, orders(), processes, size=16)
    next(made)
    assert 1 <= len(taken) <= 8
    made.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("processes", [0, 2])
def test_an_image_that_cannot_be_decoded_is_told_as_here(processes: int) -> None:
    with pytest.raises(DataError, match=r"^seven cannot be decoded$"):
        list(made_ahead(squared, iter([6, 7, 8]), processes, size=16))


def test_where_shared_memory_is_small_fewer_processes_or_a_thread_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for room, expected in ((16 * 3 * 2, 2), (16, 0)):
        monkeypatch.setattr(loading, "_room", lambda room=room: room)
        made = list(made_ahead(squared, iter(range(20, 30)), 4, size=16))
        makers = {int(each[1]) for each in made}
        assert [int(each[0]) for each in made] == [order**2 for order in range(20, 30)]
        assert makers == {os.getpid()} if not expected else len(makers) == expected
