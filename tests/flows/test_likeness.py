"""Predictions of two runs held against each other."""

from __future__ import annotations

import pandas as pd
import pytest

from flows.lineage.likeness import Distance, Likeness, distance


def table(**changes: list[object]) -> pd.DataFrame:
    columns = {"path": ["a", "b", "c"], "predicted": ["x", "y", "x"], "probability": [0.9, 0.8, 0.7]}
    return pd.DataFrame(columns | changes).astype({"probability": "float32"})


def test_the_same_predictions_in_another_order_are_identical() -> None:
    assert distance(table(), table().iloc[::-1]) == Distance(3, 0, 0, 0.0)
    assert str(distance(table(), table())) == "identical (3 images)"


def test_one_last_digit_of_a_probability_is_a_difference() -> None:
    found = distance(table(), table(probability=[0.9, 0.8, 0.70000005]))
    assert not found.is_none and 0 < found.largest < 1e-6 and found.changed == 0


def test_other_answers_and_other_images_are_counted() -> None:
    found = distance(table(), table(path=["a", "b", "d"], predicted=["x", "x", "x"]))
    assert (found.images, found.unmatched, found.changed) == (2, 2, 1)
    assert str(found).startswith("different: 1 of 2 answers") and "2 images in one run only" in str(found)


def test_several_labels_are_compared_as_a_whole() -> None:
    then = table(predicted=[["x"], [], ["x", "y"]])
    assert distance(then, then.copy()).is_none
    assert distance(then, table(predicted=[["x"], ["y"], ["x", "y"]])).changed == 1


def test_without_predictions_nothing_is_identical() -> None:
    assert not Likeness({}, {}, True, []).is_identical
    assert Likeness({}, {"test": Distance(3, 0, 0, 0.0)}, True, []).is_identical
    assert not Likeness({}, {"test": Distance(3, 0, 0, 0.0), "val": Distance(3, 0, 1, 0.0)}, True, []).is_identical


def test_numbers_are_compared_to_the_last_bit() -> None:
    columns = {"path": ["a", "b"], "predicted": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, 2.5]}
    then = pd.DataFrame(columns)
    assert distance(then, then.iloc[::-1]).is_none
    found = distance(then, pd.DataFrame(columns | {"predicted": [1.0, 2.25]}))
    assert (found.changed, found.largest) == (1, 0.25)
    assert str(found) == "different: 1 of 2 answers, numbers by 0.25 at most"
    assert distance(then, pd.DataFrame(columns | {"high": [1.5, 3.0]})).largest == 0.5


@pytest.mark.parametrize("column", ["predicted", "low", "high"])
def test_what_is_no_number_is_never_the_same(column: str) -> None:
    columns = {"path": ["a", "b"], "predicted": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, 2.5]}
    then, broken = pd.DataFrame(columns), pd.DataFrame(columns | {column: [1.0, float("nan")]})
    for first, again in ((then, broken), (broken, then), (broken, broken.copy())):
        found = distance(first, again)
        assert not found.is_none and str(found).endswith("of 2 answers, numbers of which some are NaN")


def test_the_probabilities_of_every_class_are_compared() -> None:
    then = pd.DataFrame({"path": ["a"], "predicted": [["x"]], "probability": [[0.9, 0.1]]})
    assert distance(then, then.assign(probability=[[0.9, 0.3]])).largest == pytest.approx(0.2)
