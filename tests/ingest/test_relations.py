"""Copies, contradictions and look-alikes: which image is kept, which is kept out, and what is said of it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.errors import DataError
from tasks.ingest import relations
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.examine import examine
from tasks.ingest.kinds import KINDS, RELATIONS
from tasks.ingest.relations import near_pairs
from tasks.limits import Limits
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.journals import Noted, Row, images, settled
from tests.ingest.pictures import encoded, noise

HELD_OUT = ["test", "val", "train", "pool"]
"""The splits in the order in which one of several copies is kept."""


def given_rows(count: int = 12) -> list[Row]:
    """Images that have nothing to do with each other, in all splits."""
    return [row._replace(split=HELD_OUT[number % 3]) for number, row in enumerate(images(count, classes="aaabbb"))]


def row(path: str, content: str, label: str | None = "a", **more: Any) -> Row:
    return Row(path, label, content, **{"split": "train", **more})


def test_copies_under_different_labels_are_all_kept_out() -> None:
    copies = [row("x1", "x"), row("x2", "x", "b"), row("x3", "x", split="test"), row("y1", "y"), row("y2", "y")]
    found = settled([*given_rows(), *copies])
    assert found.kept_out == {path: "conflicting_label" for path in ("x1", "x2", "x3")} | {"y2": "duplicate"}
    assert {placed.reason for placed in found.rows if placed.path[0] == "x"} == {"stands under a,b"}


@pytest.mark.parametrize(
    "splits", [pair for size in (2, 3, 4) for pair in combinations(HELD_OUT, size)], ids="-".join
)  # fmt: skip
def test_of_copies_in_different_splits_the_one_held_out_most_is_kept(splits: tuple[str, ...]) -> None:
    for order in (splits, splits[::-1]):
        copies = [row(f"x{number}", "x", split=split) for number, split in enumerate(order)]
        found = settled([*given_rows(), *copies])
        kept = f"x{order.index(splits[0])}"
        assert found.splits()[kept] == splits[0]
        assert found.kept_out == {copy.path: "straddling" for copy in copies if copy.path != kept}
        assert {placed.reason for placed in found.rows if placed.kind} == {f"copy of {kept} ({splits[0]})"}


def test_labelled_image_is_kept_rather_than_its_unlabelled_copy() -> None:
    copies = [row("1 unlabelled", "x", None, split=None), row("2 labelled", "x", split=None)]
    found = settled([*images(40), *copies])
    assert found.kept_out == {"1 unlabelled": "straddling"}
    assert [placed.reason for placed in found.rows if placed.kind] == ["copy of 2 labelled"]
    in_the_pool = [copy._replace(split="pool") for copy in copies]
    assert settled([*images(40), *in_the_pool]).kept_out == {"1 unlabelled": "duplicate"}


def test_of_exact_copies_in_one_split_the_first_is_kept() -> None:
    copies = [row("c", "x"), row("b", "x"), row("d", "x"), row("e", "y")]
    found = settled([*given_rows(), *copies])
    assert found.kept_out == {"c": "duplicate", "d": "duplicate"}
    assert [placed.reason for placed in found.rows if placed.kind] == ["copy of b"] * 2


def test_policy_warn_takes_copies_and_contradictions_in_and_says_so() -> None:
    copies = [row("c", "x"), row("b", "x"), row("e", "y"), row("f", "y", "b")]
    found = settled([*given_rows(), *copies], {"duplicate": "warn", "conflicting_label": "warn"})
    assert found.kept_out == {}
    assert found.noted == [
        Noted("conflicting_label", "e", "stands under a,b"), Noted("conflicting_label", "f", "stands under a,b"),
        Noted("duplicate", "c", "copy of b"), Noted("duplicate", "f", "copy of e"),
    ]  # fmt: skip


def signed(hash: int) -> int:
    """A hash of 64 bits as it is kept."""
    return hash - (1 << 64) if hash >> 63 else hash


RELATED: dict[str, list[Row]] = {
    "conflicting_label": [row("x1", "x"), row("x2", "x", "b")],
    "straddling": [row("x1", "x", split="test"), row("x2", "x")],
    "respelt_group": [row("x1", "x", group="P 01"), row("x2", "y", group="p01")],
    "parted_group": [row("x1", "x", split="test", group="g"), row("x2", "y", group="g")],
    "duplicate": [row("x1", "x"), row("x2", "x")],
    "near_straddling": [row("x1", "x", split="test", dhash=signed(3 << 62)), row("x2", "y", dhash=signed(7 << 61))],
    "near_duplicate": [row("x1", "x", dhash=0b1111), row("x2", "y", dhash=0b0111)],
}


@pytest.mark.parametrize("kind", RELATED)
def test_policy_fail_stops_the_run_and_names_the_first_image(kind: str) -> None:
    settled([*given_rows(), *RELATED[kind]])
    count, first = (2, "x1") if kind in ("conflicting_label", "parted_group") else (1, "x2")
    with pytest.raises(DataError) as told:
        settled([*given_rows(), *RELATED[kind]], {kind: "fail"})
    assert str(told.value).startswith(f"{count} {KINDS[kind]}, the first: {first} (")
    assert f"ingest.checks.{kind} is fail" in str(told.value)


def test_every_relation_was_made_to_fail() -> None:
    assert {*RELATED, "ungrouped"} == set(RELATIONS)


def test_images_without_a_group_beside_others_that_have_one_are_a_finding() -> None:
    grouped = images(30, group="track 1") + images(30, first=30, group="track 2")
    found = settled([*grouped, row("lonely", "x", split=None), row("unlabelled", "y", None, split=None)])
    assert [note for note in found.noted if note.kind == "ungrouped"] == [
        Noted("ungrouped", "lonely", "has no group; others of the source have one")
    ]
    assert settled([*grouped, row("lonely", "x", split=None)], {"ungrouped": "quarantine"}).kept_out == {
        "lonely": "ungrouped"
    }
    with pytest.raises(DataError, match="1 images without a group in a source that gives groups, the first: lonely"):
        settled([*grouped, row("lonely", "x", split=None)], {"ungrouped": "fail"})
    assert settled(images(60)).noted == []


def test_one_patient_in_several_spellings_is_one_group_in_one_split() -> None:
    spellings = ["P01", "p01", "P 01", "P-01"]
    rows = [row(f"{n}", f"{n}", group=spellings[n % 4] if n < 12 else f"P{n}", split=None) for n in range(60)]
    found = settled([*rows, row("more", "more", group="P01", split=None)], by="group")
    one = [each for each in found.used if each.path == "more" or int(each.path) < 12]
    assert {each.group for each in one} == {"P01"} and len({each.split for each in one}) == 1
    told = {note.path: note.reason for note in found.noted if note.kind == "respelt_group"}
    assert told == {f"{n}": f"its group {spellings[n % 4]} is taken for P01" for n in range(12) if n % 4}
    numbers = [row(f"{n}", f"{n}", group=("3", "3.0")[n % 2], split=("train", "test")[n % 2]) for n in range(20)]
    assert {note.kind for note in settled([*given_rows(), *numbers]).noted} >= {"respelt_group", "parted_group"}


def test_images_whose_group_is_in_several_splits_are_a_finding() -> None:
    rows = [row(f"{number}", f"{number}", group=f"patient {number % 10}", split=None) for number in range(60)]
    assert settled(rows).noted == []
    for by in ("hash", "stratified"):
        found = settled(rows, by=by)
        told = [note for note in found.noted if note.kind == "parted_group"]
        splits = {name: sorted({each.split for each in found.used if each.group == name}) for name in
                  {each.group for each in found.used}}  # fmt: skip
        expected = {each.path: f"its group is in {', '.join(splits[each.group])}" for each in found.used
                    if len(splits[each.group]) > 1}  # fmt: skip
        assert expected and {note.path: note.reason for note in told} == expected
    pooled = [
        row("1", "1", group="g"),
        row("2", "2", None, group="g", split="pool"),
        row("3", "3", split="test", group="h"),
    ]
    assert not any(note.kind == "parted_group" for note in settled([*given_rows(), *pooled]).noted)


ONE_PATH: list[tuple[list[Row], str]] = [
    ([row("x", "1"), row("x", "2")], "conflicting_label"),
    ([row("x", "1"), row("x", "1", "b")], "conflicting_label"),
    ([row("x", "1"), row("x", "1")], "duplicate"),
]


@pytest.mark.parametrize(("rows", "kind"), ONE_PATH)
@pytest.mark.parametrize("policy", ["quarantine", "warn"])
def test_one_path_cannot_stand_for_two_images_labels_or_rows(rows: list[Row], kind: str, policy: str) -> None:
    found = settled([*given_rows(), *rows], {kind: policy})
    left = [placed for placed in found.used if placed.path == "x"]
    assert len(left) == (1 if kind == "duplicate" else 0)
    assert [placed.kind for placed in found.rows if placed.kind] == [kind] * (2 - len(left))


@pytest.mark.parametrize(("rows", "kind"), ONE_PATH)
def test_policy_fail_stops_at_two_rows_of_one_path_too(rows: list[Row], kind: str) -> None:
    with pytest.raises(DataError, match=rf"the first: x .* ingest\.checks\.{kind} is fail"):
        settled([*given_rows(), *rows], {kind: "fail"})


@pytest.mark.parametrize("order", [("train", "test"), ("test", "train"), ("val", "train", "test")])
def test_image_that_is_listed_in_several_splits_is_held_out_most(order: tuple[str, ...]) -> None:
    found = settled([*given_rows(), *(row("x", "x", split=split) for split in order)])
    assert found.splits()["x"] == "test"
    assert [placed.kind for placed in found.rows if placed.kind] == ["straddling"] * (len(order) - 1)
    made_anew = settled([*images(100), *(row("x", "x", split=split) for split in order)], by="hash")
    assert [placed.kind for placed in made_anew.rows if placed.kind] == ["duplicate"] * (len(order) - 1)


def test_file_cannot_be_called_as_a_folder_is() -> None:
    files = [row("x", "1"), row("x/y", "2"), row("x/y/z/w", "3"), row("x/yy", "4"), row("xx", "5")]
    found = settled([*given_rows(), *files])
    assert found.kept_out == {"x": "unsafe_path", "x/y": "unsafe_path"}
    with pytest.raises(DataError, match="the first: x "):
        settled([*given_rows(), *files], {"unsafe_path": "fail"})


def test_name_of_the_manifest_is_its_own() -> None:
    others = [row(name, name) for name in ("a/manifest.parquet", "manifest.parquet.png", "manifest/parquet")]
    for name in ("manifest.parquet", "manifest.parquet/1.png"):
        assert settled([*given_rows(), *others, row(name, name)]).kept_out == {name: "unsafe_path"}


flips = st.lists(st.integers(0, 63), max_size=5)


@settings(max_examples=150)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), flips), max_size=40),
    st.integers(0, 3),
)
def test_near_pairs_are_those_that_comparing_all_finds(
    centres: list[int], spread: list[tuple[int, list[int]]], bits: int
) -> None:
    hashes = list(centres)
    for centre, flipped in spread:
        hashes.append(centres[centre % len(centres)])
        for bit in flipped:
            hashes[-1] ^= 1 << bit
    expected = {
        (first, second, (hashes[first] ^ hashes[second]).bit_count())
        for first, second in combinations(range(len(hashes)), 2)
        if (hashes[first] ^ hashes[second]).bit_count() <= bits
    }
    found = list(zip(*(column.tolist() for column in near_pairs(np.array(hashes, np.uint64), bits)), strict=True))
    assert set(found) == expected and len(found) == len(expected)


def test_no_more_pairs_are_listed_than_anyone_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "MAX_PAIRS", 50)
    first, second, bits = near_pairs(np.zeros(1000, np.uint64), 2)
    assert len(first) == 50 and (first < second).all() and not bits.any()
    assert [len(column) for column in near_pairs(np.zeros(0, np.uint64), 2)] == [0, 0, 0]


ALIKE = [
    row("a1", "1", dhash=0b1111), row("a2", "2", dhash=0b1110), row("a0", "3", dhash=0b1101, split="val"),
    row("b1", "4", dhash=0b1011, split="test"), row("c1", "5", dhash=signed(2**64 - 1)), row("c2", "6", dhash=-4),
    row("d1", "7", dhash=None), row("d2", "8", dhash=None),
]  # fmt: skip


def test_look_alikes_are_told_across_splits_and_within_one() -> None:
    found = settled([*given_rows(), *ALIKE])
    assert found.kept_out == {}
    told = {(each.kind, each.path) for each in found.noted}
    assert told == {
        ("near_straddling", "a0"), ("near_straddling", "a1"), ("near_straddling", "a2"),
        ("near_duplicate", "a2"), ("near_duplicate", "c2"),
    }  # fmt: skip
    reasons = {each.path: each.reason for each in found.noted}
    assert reasons["a0"] == "looks like b1 (test, 2 bits differ)" and reasons["c2"].startswith(
        "looks like c1 (train, 2"
    )


def test_policy_quarantine_keeps_of_look_alikes_the_one_held_out_most_and_the_first() -> None:
    quarantine = {"near_straddling": "quarantine", "near_duplicate": "quarantine"}
    found = settled([*given_rows(), *ALIKE], quarantine)
    across = dict.fromkeys(["a0", "a1", "a2"], "near_straddling")
    assert found.kept_out == across | {"c2": "near_duplicate"} and found.noted == []
    assert settled([*given_rows(), *ALIKE], {**quarantine, "near_bits": 0}).kept_out == {}


def smooth(name: str, side: int = 160) -> Image.Image:
    """A picture of broad shades, as photos are, like no other."""
    small = Image.fromarray(noise(name, 9, 10))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def test_perceptual_hash_says_where_the_picture_brightens_to_the_right() -> None:
    pixels = noise("blocks", 8, 9, 1)[..., 0]
    image = Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1))
    bits = "".join(str(int(row[x + 1] > row[x])) for row in pixels for x in range(8))
    assert examine(encoded(image), Limits(10**6, 10**6)).dhash == signed(int(bits, 2))


@pytest.mark.parametrize(
    ("image", "has_one"),
    [
        (Image.fromarray(noise("small", 31, 400)), False),
        (Image.fromarray(noise("large", 32, 400)), True),
        (Image.new("RGB", (100, 100), "teal"), False),
        (Image.linear_gradient("L").rotate(90), False),
        (smooth("photo"), True),
    ],
    ids=["small", "large enough", "flat", "one slope", "photo"],
)
def test_small_and_flat_images_look_like_nothing(image: Image.Image, has_one: bool) -> None:
    assert (examine(encoded(image), Limits(10**6, 10**6)).dhash is not None) == has_one


def ingested(workspace: Workspace, **checks: str) -> Dataset:
    config = {"source": {"folder": "photos"}, "checks": checks}
    return ingest_images(IngestConfig.model_validate(config), workspace, into_data=False)


def test_recompressed_and_resized_photos_are_found(workspace: Workspace) -> None:
    root = workspace.root / "photos"
    for split in ("train", "val", "test"):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
            smooth(f"{split} {label}").save(root / split / label / "photo.png")
    copies = {"train/a/leak.jpg": ("test a", 160), "train/b/again.jpg": ("train b", 160), "val/a/z.jpg": ("val a", 120)}
    for path, (name, side) in copies.items():
        smooth(name).resize((side, side), Image.Resampling.BICUBIC).save(root / path, quality=70)
    dataset = ingested(workspace)
    assert len(dataset.read_manifest()) == 9
    pairs = pd.read_csv(dataset.report / "near_duplicates.csv")
    assert {tuple(pair) for pair in pairs[["first", "first_split", "second", "second_split"]].to_numpy()} == {
        ("test/a/photo.png", "test", "train/a/leak.jpg", "train"),
        ("train/b/again.jpg", "train", "train/b/photo.png", "train"),
        ("val/a/photo.png", "val", "val/a/z.jpg", "val"),
    }
    kept = ingested(workspace, near_straddling="quarantine").read_manifest()
    assert "train/a/leak.jpg" not in set(kept["path"]) and len(kept) == 8
