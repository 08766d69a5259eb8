"""From a folder tree to a manifest with splits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tasks.ingest.manifest import assign_splits, check_labels, find_images, findings, take_in

from tasks.errors import DataError


def draw(*paths: Path) -> None:
    """An image of its own at every path."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = int(hashlib.md5(str(path).encode()).hexdigest()[:8], 16)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)).save(path)


def write(path: Path, content: bytes | str = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def labels(root: Path) -> list[tuple[str, str, str | None]]:
    return [(found.relative.as_posix(), found.label, found.split) for found in find_images(root)[0]]


def table(hashes: list[str], split: list[str | None] | None = None, label: list[str] | None = None) -> pd.DataFrame:
    count = len(hashes)
    return pd.DataFrame({
        "path": [f"{index:05d}.png" for index in range(count)],
        "label": label or ["a", "b"] * (count // 2) + ["a"] * (count % 2),
        "split": pd.Series(split or [None] * count, dtype=object),
        "hash": hashes,
    })  # fmt: skip


def md5s(count: int, first: int = 0) -> list[str]:
    return [hashlib.md5(str(number).encode()).hexdigest() for number in range(first, first + count)]


def test_class_folders_give_labels_and_no_split(tmp_path: Path) -> None:
    draw(tmp_path / "cat/1.png", tmp_path / "dog/1.jpg", tmp_path / "dog/2.JPEG")
    assert labels(tmp_path) == [("cat/1.png", "cat", None), ("dog/1.jpg", "dog", None), ("dog/2.JPEG", "dog", None)]


@pytest.mark.parametrize("name, split", [("val", "val"), ("valid", "val"), ("validation", "val"), ("test", "test")])
def test_split_folders_above_classes_give_splits(tmp_path: Path, name: str, split: str) -> None:
    draw(tmp_path / "train/cat/1.png", tmp_path / name / "cat/1.png")
    write(tmp_path / "README.md")
    assert {found[1:] for found in labels(tmp_path)} == {("cat", "train"), ("cat", split)}


@pytest.mark.parametrize("wrapper", ["photos", "photos/inner"])
@pytest.mark.parametrize(
    "beside", [None, "__MACOSX/photos/cat/._1.png", ".DS_Store", "README.txt", "photos/LICENSE.txt"]
)
def test_folder_around_the_layout_is_entered_whatever_lies_beside(
    tmp_path: Path, wrapper: str, beside: str | None
) -> None:
    draw(tmp_path / wrapper / "train/cat/1.png", tmp_path / wrapper / "test/dog/1.png")
    if beside:
        write(tmp_path / beside)
    assert labels(tmp_path) == [("test/dog/1.png", "dog", "test"), ("train/cat/1.png", "cat", "train")]


def test_split_folders_beside_macos_leftovers_stay_split_folders(tmp_path: Path) -> None:
    draw(tmp_path / "train/cat/1.png", tmp_path / "test/dog/1.png")
    write(tmp_path / "__MACOSX/train/cat/._1.png")
    assert {found[1:] for found in labels(tmp_path)} == {("cat", "train"), ("dog", "test")}


def test_hidden_files_and_macos_leftovers_are_ignored(tmp_path: Path) -> None:
    draw(tmp_path / "cat/1.png", tmp_path / "dog/1.png")
    for hidden in ("cat/._1.png", ".git/cat/1.png", "__MACOSX/cat/1.png", ".DS_Store", "dog/.thumbs/1.png"):
        write(tmp_path / hidden)
    images, others = find_images(tmp_path)
    assert [image.relative.as_posix() for image in images] == ["cat/1.png", "dog/1.png"]
    assert others == []


def test_deeper_folders_belong_to_their_class(tmp_path: Path) -> None:
    draw(tmp_path / "cat/indoor/a/1.png", tmp_path / "cat/outdoor/1.png", tmp_path / "dog/1.png")
    assert [found[1] for found in labels(tmp_path)] == ["cat", "cat", "dog"]


def test_other_files_are_told_and_images_outside_class_folders_too(tmp_path: Path) -> None:
    draw(tmp_path / "cat/1.png", tmp_path / "dog/1.png", tmp_path / "stray.png")
    write(tmp_path / "cat/notes.txt")
    write(tmp_path / "labels.csv")
    _, others = find_images(tmp_path)
    assert {path.name for path in others} == {"stray.png", "notes.txt", "labels.csv"}


def test_tree_without_images_in_class_folders_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in class folders"):
        find_images(tmp_path)
    draw(tmp_path / "1.png", tmp_path / "2.png")
    with pytest.raises(DataError, match="2 other files"):
        find_images(tmp_path)


def test_taken_in_images_are_copied_unchanged_and_named_by_their_content(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    draw(*(source / f"{label}/{sub}/{name}.png" for label in "ab" for sub in "xy" for name in "12"))
    write(source / "a/broken.png", b"no image")
    write(source / "b/empty.jpg", b"")
    images, _ = find_images(source)
    manifest, quarantine = take_in(images, target)

    assert len(manifest) + len(quarantine) == len(images) == 10
    assert manifest["path"].is_monotonic_increasing
    for row in manifest.itertuples():
        original = (source / row.path).read_bytes()
        assert (target / row.path).read_bytes() == original
        assert (row.hash, row.size) == (hashlib.md5(original).hexdigest(), len(original))
        assert (row.width, row.height) == (7, 5)
    assert manifest["hash"].nunique() == 8  # same names in different folders did not collide
    assert sorted(Path(path).name for path in quarantine["path"]) == ["broken.png", "empty.jpg"]
    assert quarantine["reason"].str.contains("cannot be decoded").all()
    assert sum(path.is_file() for path in target.rglob("*")) == 8


def test_size_in_the_manifest_is_that_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    Image.new("RGB", (7, 5)).save(tmp_path / "a/turned.jpg", exif=exif)
    manifest, _ = take_in(find_images(tmp_path)[0], tmp_path / "target")
    assert manifest.loc[0, ["width", "height"]].tolist() == [5, 7]


def test_nothing_decodable_at_all_is_a_data_error(tmp_path: Path) -> None:
    write(tmp_path / "a/1.png", b"no image")
    with pytest.raises(DataError, match="none of the 1 images"):
        take_in(find_images(tmp_path)[0], tmp_path / "target")


@settings(max_examples=20, deadline=None)
@given(
    first=st.integers(0, 10_000),
    fewer=st.integers(60, 200),
    more=st.integers(1, 200),
    val=st.floats(0.1, 0.3),
    test=st.floats(0.1, 0.3),
)
def test_adding_images_keeps_old_splits(first: int, fewer: int, more: int, val: float, test: float) -> None:
    before, *_ = assign_splits(table(md5s(fewer, first)), val, test)
    after, *_ = assign_splits(table(md5s(fewer + more, first)).sample(frac=1, random_state=0), val, test)
    old = before.set_index("hash")["split"]
    pd.testing.assert_series_equal(after.set_index("hash")["split"].loc[old.index], old)


@settings(max_examples=20, deadline=None)
@given(
    copies=st.lists(st.integers(0, 80), min_size=300, max_size=300),
    given_splits=st.sampled_from([(), ("train", "val"), ("train", "test")]),
)
def test_equal_images_never_straddle_splits_that_are_made(copies: list[int], given_splits: tuple[str, ...]) -> None:
    known = md5s(81)
    hashes = [known[number] for number in copies] + known
    split = [given_splits[int(hash[-1], 16) < 4] for hash in hashes] if given_splits else None
    manifest, *_ = assign_splits(table(hashes, split), 0.2, 0.2)  # type: ignore[arg-type]
    assert (manifest.groupby("hash")["split"].nunique() == 1).all()


def test_shares_of_made_splits_are_those_asked_for() -> None:
    manifest, choose, report = assign_splits(table(md5s(4000)), 0.15, 0.2)
    shares = manifest["split"].value_counts(normalize=True)
    assert (choose, report) == ("val", "test")
    assert abs(shares["test"] - 0.2) < 0.03 and abs(shares["val"] - 0.15) < 0.03


def test_source_with_train_and_val_keeps_val_as_the_figure_and_chooses_on_a_part_of_train() -> None:
    split = ["train", "train", "train", "val"] * 50
    manifest, choose, report = assign_splits(table(md5s(200), split), 0.2, 0.2)  # type: ignore[arg-type]
    assert (choose, report) == ("tune", "val")
    assert ((manifest["split"] == "val") == (np.array(split) == "val")).all()
    assert 10 <= (manifest["split"] == "tune").sum() <= 50


def test_source_with_train_and_test_gets_a_val_out_of_train() -> None:
    split = ["train", "train", "train", "test"] * 50
    manifest, choose, report = assign_splits(table(md5s(200), split), 0.2, 0.2)  # type: ignore[arg-type]
    assert (choose, report) == ("val", "test")
    assert ((manifest["split"] == "test") == (np.array(split) == "test")).all()
    assert 10 <= (manifest["split"] == "val").sum() <= 50


def test_splits_that_the_source_gives_are_kept() -> None:
    split = ["train", "val", "test", "train"] * 10
    manifest, choose, report = assign_splits(table(md5s(40), split), 0.2, 0.2)  # type: ignore[arg-type]
    assert (choose, report) == ("val", "test")
    assert manifest["split"].tolist() == split


def test_empty_split_is_a_data_error_that_names_it() -> None:
    with pytest.raises(DataError, match="'val'"):
        assign_splits(table(md5s(100), ["train", "test"] * 50), 0.0, 0.2)
    with pytest.raises(DataError, match="'train'"):
        assign_splits(table(md5s(100), ["val", "test"] * 50), 0.2, 0.2)


def test_classes_are_sorted_and_every_one_needs_a_training_image() -> None:
    manifest = table(md5s(4), ["train", "train", "test", "test"], ["b", "a", "b", "a"])
    assert check_labels(manifest) == ("a", "b")
    with pytest.raises(DataError, match="only one class was found \\(a\\)"):
        check_labels(manifest.assign(label="a"))
    with pytest.raises(DataError, match="no training image for c"):
        check_labels(manifest.assign(label=["b", "a", "c", "a"]))


def test_findings_tell_of_copies_two_labels_and_two_splits() -> None:
    manifest = table(
        ["1", "1", "1", "2", "2", "3"], ["train", "train", "test", "val", "val", "val"], ["a", "a", "a", "a", "b", "b"]
    )
    assert findings(manifest) == [
        "3 images are exact copies of others", "1 images stand under two labels", "1 images stand in two splits",
    ]  # fmt: skip
    assert findings(manifest.iloc[[0, 5]]) == []
