"""Versions of a model side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tasks.report.versions import Version, step, versions_page


def version(number: int, right: np.ndarray, first: int = 0, several: bool = False) -> Version:
    """Answers on images that are numbered from ``first`` on."""
    labels = [["a", "b"]] * len(right) if several else ["a"] * len(right)
    wrong = ["b"] if several else "b"
    predictions = pd.DataFrame({
        "hash": [f"{first + i}" for i in range(len(right))], "label": labels,
        "predicted": [label if ok else wrong for label, ok in zip(labels, right, strict=True)],
    })  # fmt: skip
    share = float(right.mean())
    metrics = {"test/accuracy": (share, share - 0.1, share + 0.1)}
    return Version(number, {"alias": "–", "data": "v"}, metrics, "test", predictions)


def test_two_versions_are_compared_on_the_held_out_images_that_both_have_answered() -> None:
    before = version(1, np.arange(100) % 4 > 0)
    after = version(3, np.arange(100) % 10 > 0, first=20)
    both = step(before, after)
    ours, theirs = np.arange(80) % 10 > 0, np.arange(20, 100) % 4 > 0
    assert both.images == 80 and both.difference is not None
    assert both.difference.value == pytest.approx(ours.mean() - theirs.mean())
    assert (both.gained, both.lost) == (int((ours & ~theirs).sum()), int((theirs & ~ours).sum()))
    assert both.difference.low < both.difference.value < both.difference.high and 0 < both.p < 1


def test_several_labels_an_image_are_right_where_all_are() -> None:
    both = step(version(1, np.zeros(40, bool), several=True), version(2, np.ones(40, bool), several=True))
    assert both.difference is not None and both.difference.value == 1 and both.gained == 40


def test_too_few_images_in_common_tell_nothing() -> None:
    apart = version(1, np.ones(50, bool)), version(2, np.ones(50, bool), first=40)
    assert step(*apart).difference is None and step(*apart).images == 10
    html = versions_page("m", apart)
    assert "too few held-out images in common to tell" in html and "versions 1, 2" in html
