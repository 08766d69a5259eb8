"""Which images belong together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.groups import group_numbers


def numbers(*rows: tuple[str, str | None]) -> list[int] | None:
    found = group_numbers(pd.DataFrame(rows, columns=["hash", "group"]))
    return None if found is None else found.tolist()


def test_images_of_a_group_are_together_and_one_without_is_alone() -> None:
    assert numbers(("a", "x"), ("b", None), ("c", "y"), ("d", "x"), ("e", None)) == [0, 1, 2, 0, 3]


def test_without_any_group_there_are_none() -> None:
    assert numbers(("a", None), ("b", None)) is None


def test_groups_that_share_a_content_are_one_and_a_copy_without_a_group_is_in_it() -> None:
    assert numbers(("a", "x"), ("a", "y"), ("b", "y"), ("c", "z"), ("c", None), ("d", "w")) == [0, 0, 0, 1, 1, 2]


def test_many_groups_are_numbered_without_gaps() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"hash": np.arange(5000).astype(str), "group": random.integers(0, 900, 5000).astype(str)})
    found = group_numbers(rows)
    assert found is not None and found.dtype == np.int64
    assert sorted(set(found)) == list(range(rows["group"].nunique()))
    assert (rows.assign(found=found).groupby("group")["found"].nunique() == 1).all()
