"""The differences between two versions: every image that came, went or changed, and nothing else."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest.compare import compare


def manifest(*rows: tuple[str, str, str | None, str]) -> pd.DataFrame:
    """A manifest of (path, content, label, split)."""
    return pd.DataFrame(rows, columns=["path", "hash", "label", "split"], dtype=object)


def changes(before: pd.DataFrame, after: pd.DataFrame) -> list[tuple[str, str, str | None, str | None]]:
    found = compare(before, after).astype(object)
    return [tuple(None if pd.isna(cell) else cell for cell in row) for row in found.to_numpy()]


OLD = manifest(("a/1", "x", "a", "train"), ("a/2", "y", "a", "test"), ("b/1", "z", "b", "train"))


def test_a_version_does_not_differ_from_itself() -> None:
    assert changes(OLD, OLD) == []


def test_images_that_came_and_went_are_told_with_their_labels() -> None:
    new = manifest(*OLD.to_numpy()[1:], ("c/1", "w", "c", "val"))
    assert changes(OLD, new) == [("came", "c/1", None, "c"), ("went", "a/1", "a", None)]


def test_another_label_or_split_of_the_same_image_is_told() -> None:
    new = manifest(("a/1", "x", "b", "train"), ("a/2", "y", "a", "train"), ("b/1", "z", None, "pool"))
    assert changes(OLD, new) == [
        ("relabelled", "a/1", "a", "b"), ("relabelled", "b/1", "b", None),
        ("resplit", "a/2", "test", "train"), ("resplit", "b/1", "train", "pool"),
    ]  # fmt: skip


def test_another_content_under_the_same_path_is_told() -> None:
    new = manifest(("a/1", "q", "a", "train"), *OLD.to_numpy()[1:])
    assert changes(OLD, new) == [("replaced", "a/1", "x", "q")]


def test_an_image_in_another_class_folder_has_moved_and_is_relabelled() -> None:
    new = manifest(("b/9", "x", "b", "train"), *OLD.to_numpy()[1:])
    assert changes(OLD, new) == [("moved", "b/9", "a/1", "b/9"), ("relabelled", "b/9", "a", "b")]


def test_of_two_copies_of_which_one_goes_only_one_has_gone() -> None:
    before = manifest(("a/1", "x", "a", "train"), ("a/2", "x", "a", "train"))
    after = manifest(("a/3", "x", "a", "train"))
    assert changes(before, after) == [("went", "a/2", "a", None), ("moved", "a/3", "a/1", "a/3")]


def test_several_labels_are_compared_as_a_whole() -> None:
    before, after = OLD.copy(), OLD.copy()
    before["label"] = [["a", "b"], ["a"], ["b"]]
    after["label"] = [["a"], ["a"], ["b"]]
    assert changes(before, after) == [("relabelled", "a/1", "a, b", "a")]


rows = st.dictionaries(
    st.sampled_from([f"p{number}" for number in range(8)]),
    st.tuples(st.sampled_from("vwxyz"), st.sampled_from("ab"), st.sampled_from(["train", "test"])),
)


@pytest.mark.slow
@given(rows, rows)
def test_applied_to_the_old_paths_the_changes_give_the_new_ones(old: dict, new: dict) -> None:
    before, after = (manifest(*((path, *cells) for path, cells in each.items())) for each in (old, new))
    told = changes(before, after)
    paths = {path: cells[0] for path, cells in old.items()}
    for change, path, was, _ in told:
        if change in ("went", "moved"):
            del paths[str(was) if change == "moved" else path]
    for change, path, was, now in told:
        if change == "replaced":
            assert paths[path] == was
            paths[path] = str(now)
        elif change in ("came", "moved"):
            paths[path] = new[path][0]
    assert paths == {path: cells[0] for path, cells in new.items()}
    assert {path for change, path, *_ in told if change == "relabelled"} >= {
        path for path in old.keys() & new.keys() if old[path][1] != new[path][1]
    }
