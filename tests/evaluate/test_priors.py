"""Shares of classes are found again through what a model confuses."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluate.shift.priors import estimate_priors
from tasks.model.reference import count_answers

MIXED = np.array([[0.8, 0.1, 0.1], [0.15, 0.7, 0.3], [0.05, 0.2, 0.6]])
"""Shares of the answers (rows) to images of each class (columns)."""


def test_planted_shares_are_found_where_answers_are_mixed_up() -> None:
    shares = np.array([0.7, 0.05, 0.25])
    found = estimate_priors(1000 * MIXED, 2000 * MIXED @ shares, ["ant", "bee", "cat"])
    assert found["now"].tolist() == pytest.approx(shares, abs=0.01)
    assert found["before"].tolist() == pytest.approx([1 / 3] * 3)
    assert (found["low"] < shares).all() and (shares < found["high"]).all()
    assert (found["high"] - found["low"]).max() < 0.2


def test_intervals_hold_the_truth() -> None:
    random, shares, held = np.random.default_rng(0), np.array([0.5, 0.2, 0.3]), []
    for seed in range(40):
        table = np.stack([random.multinomial(150, column) for column in MIXED.T], axis=1).astype(float)
        answers = random.multinomial(200, MIXED @ shares)
        found = estimate_priors(table, answers, ["ant", "bee", "cat"], seed)
        held += [(found["low"] <= shares) & (shares <= found["high"])]
    assert 0.85 < np.mean(held) <= 1


def test_each_of_several_labels_is_estimated_by_itself() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((4000, 2)) < [0.5, 0.2]).astype(np.float32)
    is_given = np.where(targets > 0, random.random((4000, 2)) < 0.8, random.random((4000, 2)) < 0.1)
    table = count_answers(targets, is_given.astype(np.float32))
    assert table.shape == (2, 2, 2) and table.sum((1, 2)).tolist() == [4000, 4000]
    shares = np.array([0.1, 0.6])
    given = 0.8 * shares + 0.1 * (1 - shares)
    found = estimate_priors(table, 1000 * np.stack([1 - given, given], axis=1), ["ant", "bee"])
    assert found["now"].tolist() == pytest.approx(shares, abs=0.03)


def test_a_class_that_the_reference_never_saw_is_taken_to_be_known() -> None:
    table = np.zeros((3, 3))
    table[:2, :2] = [[90, 10], [10, 90]]
    found = estimate_priors(table, np.array([0, 0, 50]), ["ant", "bee", "cat"])
    assert found["now"].tolist() == pytest.approx([0, 0, 1], abs=1e-6)
