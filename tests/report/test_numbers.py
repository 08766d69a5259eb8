"""The page of a run that tells a number, and tasks beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.evaluate.scores.paired import detectable, p_value
from tasks.report.page import page
from tasks.report.versions import Version, step, versions_page
from tests.report.runs import facts_of_numbers
from tests.report.test_page import Reading


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Reading(page(facts_of_numbers(tmp_path_factory.mktemp("run"))))


def test_errors_stand_in_the_unit_of_the_number(read: Reading) -> None:
    assert read.open == [] and "test mean absolute error of age, 95% interval [" in read.words
    figures = read.words.partition("Figures Further tasks")[2]
    assert " years [" in figures and "within the 90% interval" in figures and "R² 0.9" in figures
    assert "The largest errors on test" in read.words and "taken for" in read.words and "31.25" in read.words
    assert "domain night domain 12" in read.words and "surest mistakes" not in read.words


def test_tasks_have_a_section_of_their_own(read: Reading) -> None:
    assert "further" in read.sections and "species: 3 classes" in read.words
    assert (
        "test (12 images) 95% interval" in read.words and "Each class of species, the worst first (test)" in read.words
    )
    assert "weight: a number in kg" in read.words and "12,346 kg [11,000, 14,000]" in read.words
    assert "age: a number in years; labelled: 40 test" in read.words and "labelled: 12 test, 3 partial" in read.words


def test_less_of_an_error_is_better_and_tasks_are_compared(read: Reading) -> None:
    assert "−1 against the champion, version 2 [−1.5, −0.5]" in read.words
    [gain] = [of["class"] for tag, of in read.tags if tag == "p" and str(of.get("class", "")).startswith("gain")]
    assert gain == "gain up"
    assert "30 images told more exactly, 10 less (p < 0.001)" in read.words and "a difference of 0.25" in read.words
    assert "test species accuracy 12 0.9000 0.5000 −0.4000 [−0.6000, −0.2000] 0.002" in read.words


def version(number: int, noise: float) -> Version:
    random = np.random.default_rng(number)
    labels = np.arange(60.0)
    predictions = pd.DataFrame(
        {"hash": [str(n) for n in range(60)], "label": labels, "predicted": labels + random.normal(0, noise, 60)}
    )
    return Version(number, {"data": "v"}, {"test/mae": (noise, noise / 2, noise * 2)}, "test", predictions)


def test_versions_are_compared_by_how_much_less_errors_are() -> None:
    before, after = version(1, 5.0), version(2, 1.0)
    found = step(before, after)
    assert found.difference is not None and found.difference.low > 0 and found.p < 0.001
    errors = [np.abs(each.predictions["predicted"] - each.predictions["label"]) for each in (before, after)]
    assert found.difference.value == pytest.approx((errors[0] - errors[1]).mean())
    assert found.gained + found.lost == 60 and found.gained > 40
    assert "by how much less the mean absolute error is" in versions_page("ages", [before, after])


def test_errors_of_versions_are_drawn_by_group() -> None:
    groups = np.arange(60) // 6
    sides = []
    for number in (1, 2):
        given = version(number, 1.0)
        off = np.where((groups < 7) == (number == 2), 1.0, 2.0)  # the later one is better in 7 of 10 groups
        told = given.predictions.assign(predicted=np.arange(60) + off, group=[f"g{n}" for n in groups])
        sides.append(replace(given, predictions=told, grouped=True))
    found = step(*sides)
    errors = [np.abs(each.predictions["predicted"] - each.predictions["label"]).to_numpy() for each in sides]
    assert found.groups == 10 and found.p == p_value(errors[1], errors[0], groups) > 0.05
    assert found.difference is not None and found.difference.low < 0 < found.difference.value
    assert found.detectable == detectable(errors[1], errors[0], groups)
