"""Versions of a model side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.evaluate.scores.paired import detectable, difference_of_shares, p_value
from tasks.report.versions import Version, step, versions_page


def version(
    number: int, right: np.ndarray, first: int = 0, several: bool = False, groups: list[str | None] | None = None,
    grouped: bool = False,
) -> Version:  # fmt: skip
    """Answers on images that are numbered from ``first`` on."""
    labels = [["a", "b"]] * len(right) if several else ["a"] * len(right)
    wrong = ["b"] if several else "b"
    predictions = pd.DataFrame({
        "hash": [f"{first + i}" for i in range(len(right))], "label": labels,
        "predicted": [label if ok else wrong for label, ok in zip(labels, right, strict=True)],
    })  # fmt: skip
    predictions = predictions if groups is None else predictions.assign(group=groups)
    share = float(right.mean())
    metrics = {"test/accuracy": (share, share - 0.1, share + 0.1)}
    return Version(number, {"alias": "–", "data": "v"}, metrics, "test", predictions, grouped)


def test_two_versions_are_compared_on_the_held_out_images_that_both_have_answered() -> None:
    before = version(1, np.arange(100) % 4 > 0)
    after = version(3, np.arange(100) % 10 > 0, first=20)
    both = step(before, after)
    ours, theirs = np.arange(80) % 10 > 0, np.arange(20, 100) % 4 > 0
    assert both.images == 80 and both.difference is not None
    assert both.difference.value == pytest.approx(ours.mean() - theirs.mean())
    assert (both.gained, both.lost) == (int((ours & ~theirs).sum()), int((theirs & ~ours).sum()))
    assert both.difference.low < both.difference.value < both.difference.high and 0 < both.p < 1


@pytest.mark.parametrize("several", [False, True])
def test_an_image_that_stands_in_the_data_several_times_counts_once_for_each_row(several: bool) -> None:
    right = np.arange(30) % 3 > 0, np.arange(30) % 5 > 0
    each = [version(number, side, several=several) for number, side in enumerate(right)]
    once = step(*each)
    often = step(*(replace(one, predictions=pd.concat([one.predictions] * 4)) for one in each))
    assert (often.images, often.gained, often.lost) == (4 * once.images, 4 * once.gained, 4 * once.lost)
    fewer = replace(each[0], predictions=pd.concat([each[0].predictions] * 2))
    assert step(fewer, replace(each[1], predictions=pd.concat([each[1].predictions] * 3))).images == 60
    other = each[1].predictions.assign(label=1.5, predicted=1.0)  # a number, of which nothing is the same
    assert step(each[0], replace(each[1], predictions=other)).images == 0


def test_several_labels_an_image_are_right_where_all_are() -> None:
    both = step(version(1, np.zeros(40, bool), several=True), version(2, np.ones(40, bool), several=True))
    assert both.difference is not None and both.difference.value == 1 and both.gained == 40


def test_too_few_images_in_common_tell_nothing() -> None:
    apart = version(1, np.ones(50, bool)), version(2, np.ones(50, bool), first=40)
    assert step(*apart).difference is None and step(*apart).images == 10
    html = versions_page("m", apart)
    assert "too few held-out images in common to tell" in html and "versions 1, 2" in html


def sides(kept: tuple[bool, bool] = (True, True)) -> tuple[Version, Version]:
    """Two versions of which the later one has all of 8 of 12 groups of 30 images right, the earlier one of 4 others;
    ``kept``: whose file tells the groups."""
    groups = [f"film {i // 30}" for i in range(360)]
    before, after = np.arange(360) // 30 >= 8, np.arange(360) // 30 < 8
    each = [groups if told else None for told in kept]
    return version(1, before, groups=each[0], grouped=True), version(2, after, groups=each[1], grouped=True)


def test_what_is_drawn_is_the_group_where_images_come_in_groups() -> None:
    before, after = sides()
    found = step(before, after)
    ours, theirs, groups = np.arange(360) // 30 < 8, np.arange(360) // 30 >= 8, np.arange(360) // 30
    assert found.groups == 12 and found.difference == difference_of_shares(ours, theirs, groups)
    assert found.difference.low < 0 < found.difference.high, "8 of 12 groups are chance"
    assert found.p == p_value(ours, theirs, groups) > 0.05
    assert found.detectable == detectable(ours, theirs, groups)
    html = versions_page("m", [before, after])
    assert "in 12 groups" in html and 'class="n up"' not in html and "claim too much" not in html


@pytest.mark.parametrize("kept", [(True, False), (False, True)])
def test_one_file_s_groups_are_enough(kept: tuple[bool, bool]) -> None:
    assert step(*sides(kept)) == step(*sides())


def test_an_image_that_the_later_data_has_in_no_group_is_in_the_earlier_one_s() -> None:
    before, after = sides()
    assert after.predictions is not None
    ungrouped = replace(after, predictions=after.predictions.assign(group=None), grouped=False)
    assert step(before, ungrouped) == step(before, after)


def test_groups_that_no_file_tells_are_said_to_be_missing_and_nothing_is_called_better() -> None:
    before, after = sides(kept=(False, False))
    found = step(before, after)
    assert found.is_narrow and found.groups is None and found.p < 0.001
    html = versions_page("m", [before, after])
    assert "1 → 2: these images come in groups" in html and 'class="n up"' not in html
    alone = [replace(each, grouped=False) for each in (before, after)]
    html = versions_page("m", alone)
    assert "come in groups" not in html and 'class="n up"' in html


def test_images_without_groups_are_drawn_one_by_one() -> None:
    right = np.arange(100) % 4 > 0, np.arange(100) % 10 > 0
    first, second = (version(n, each, groups=[None] * 100) for n, each in enumerate(right))
    assert step(first, second) == step(version(0, right[0]), version(1, right[1]))
