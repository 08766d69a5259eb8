"""What became of classes between two datasets."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.evaluate.comparison.vocabularies import aligned, compare_classes


def manifest(**contents: str) -> pd.DataFrame:
    """Images by their contents, a letter each."""
    return pd.DataFrame(
        [(name, letter) for name, letters in contents.items() for letter in letters], columns=["label", "hash"]
    )


def test_classes_are_shared_new_or_gone() -> None:
    found = compare_classes(
        ["a", "b", "c"], ["b", "c", "d"], manifest(a="x", b="y", c="z"), manifest(b="y", c="z", d="w")
    )
    assert (found.shared, found.new, found.gone, found.renamed) == (("b", "c"), ("a",), ("d",), {})


def test_a_class_of_the_same_images_under_another_name_was_renamed() -> None:
    before, after = manifest(cat="abcd", dog="efgh"), manifest(Katze="abcij", Hund="efgh", bird="kl")
    found = compare_classes(["Hund", "Katze", "bird"], ["cat", "dog"], after, before)
    assert found.renamed == {"cat": "Katze", "dog": "Hund"}
    assert (found.shared, found.new, found.gone) == (("Hund", "Katze"), ("bird",), ())


def test_a_class_that_was_split_or_merged_was_not_renamed() -> None:
    before, after = manifest(pet="abcd", car="ef"), manifest(cat="ab", dog="cd", car="ef")
    assert compare_classes(["car", "cat", "dog"], ["car", "pet"], after, before).renamed == {}
    assert compare_classes(["car", "pet"], ["car", "cat", "dog"], before, after).renamed == {}
    uneven = manifest(cat="abc", dog="d", car="ef")
    assert compare_classes(["car", "cat", "dog"], ["car", "pet"], uneven, before).renamed == {}
    assert compare_classes(["car", "pet"], ["car", "cat", "dog"], before, uneven).renamed == {}


def test_without_their_data_a_new_name_is_a_new_class() -> None:
    found = compare_classes(["a", "b"], ["a", "c"], manifest(a="x", b="y"), None)
    assert (found.new, found.gone, found.renamed) == (("b",), ("c",), {})


def test_a_renamed_class_of_images_with_several_labels_is_known_likewise() -> None:
    before = pd.DataFrame({"label": [["x", "y"], ["x"], []], "hash": list("abc")})
    after = pd.DataFrame({"label": [["z", "y"], ["z"], ["y"]], "hash": list("abc")})
    assert compare_classes(["y", "z"], ["x", "y"], after, before).renamed == {"x": "z"}


def test_columns_are_put_in_the_order_that_is_asked_for() -> None:
    found = aligned(np.array([[0.1, 0.9]], np.float32), ["b", "a"], ["a", "x", "b"])
    np.testing.assert_allclose(found, [[0.9, 0, 0.1]], rtol=1e-6)
