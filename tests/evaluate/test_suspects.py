"""Labels that are likely wrong: planted ones are found, what cannot be known is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.evaluate.neighbours.held_out import held_out_probabilities
from tasks.evaluate.neighbours.suspects import doubt, report_suspects
from tasks.extract.keys import keys_of
from tasks.extract.store import FeatureStore
from tasks.records import Dataset, FeatureSet
from tasks.target import one_task

WIDTH, CLASSES = 8, ("ant", "bee", "cat", "dog")


def make(folder: Path, labels: list, points: np.ndarray, groups: list | None = None) -> tuple[Dataset, FeatureSet]:
    """A dataset whose features are known."""
    hashes = [f"{index:032x}" for index in range(len(labels))]
    several = not isinstance(labels[0], str)
    splits = [("train", "val", "test")[index % 3] for index in range(len(labels))]
    pd.DataFrame({
        "path": [f"{index}.png" for index in range(len(labels))], "label": labels, "split": splits,
        "group": groups or [None] * len(labels), "hash": hashes,
    }).to_parquet(folder / "manifest.parquet", index=False)  # fmt: skip
    store = FeatureStore.open(folder / "space", {})
    store.append(keys_of(hashes), points.astype(np.float32))
    features = FeatureSet(
        fingerprint="f", store=folder / "space", backbone="b", weights="w", digest="0", layers=("x",), pool="avg",
        width=points.shape[1], precision="float32", device="cpu", new=0, reused=0, seconds=0,
    )  # fmt: skip
    dataset = Dataset(
        fingerprint="d", source="pictures", version="v", manifest=folder / "manifest.parquet", report=folder,
        images=folder, targets=one_task(CLASSES, several), counts={}, choose_on="val", report_on="test",
        quarantined=0,
    )  # fmt: skip
    return dataset, features


def apart(targets: np.ndarray, seed: int = 0) -> np.ndarray:
    """Points that know zeros and ones ``[N, C]`` well."""
    points = np.random.default_rng(seed).normal(size=(len(targets), WIDTH))
    points[:, : targets.shape[1]] += 8 * targets
    return points


def listed(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "suspects.csv")


def flipped(count: int, every: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of images, and the labels that they bear: of every so many, one bears another class's."""
    index = np.arange(count)
    true = index % 4
    return true, np.where(index % every == 0, (true + 1 + index // every % 3) % 4, true)


def test_planted_errors_are_listed_with_the_right_label_the_surest_first(tmp_path: Path) -> None:
    true, given = flipped(600, 50)
    dataset, features = make(tmp_path, [CLASSES[label] for label in given], apart(np.eye(4)[true]))
    count, _ = report_suspects(dataset, features, None, 0, tmp_path)
    table = listed(tmp_path)
    wrong = {f"{index}.png": CLASSES[true[index]] for index in np.flatnonzero(true != given)}
    found = dict(zip(table["path"], table["suggested"], strict=True))
    assert len(found) == count and len(set(found) & set(wrong)) >= 0.7 * len(wrong)
    assert set(found) <= set(wrong) and all(wrong[path] == label for path, label in found.items())
    assert table["score"].is_monotonic_decreasing and table["score"].between(0.98, 1).all()
    assert list(table.columns) == ["path", "hash", "split", "label", "suggested", "why", "score"]
    assert table["split"].nunique() == 3


def test_a_clean_set_has_nothing_to_say(tmp_path: Path) -> None:
    true, _ = flipped(400, 25)
    dataset, features = make(tmp_path, [CLASSES[label] for label in true], apart(np.eye(4)[true]))
    assert report_suspects(dataset, features, None, 0, tmp_path) == (0, [])
    assert not (tmp_path / "suspects.csv").exists()


def test_of_several_labels_each_is_doubted_by_itself(tmp_path: Path) -> None:
    there = np.random.default_rng(1).random((600, 4)) < 0.5
    given = there.copy()
    given[5, 0] ^= True
    given[9, [1, 2]] ^= True
    labels = [[CLASSES[place] for place in np.flatnonzero(row)] for row in given]
    dataset, features = make(tmp_path, labels, apart(there * 2.0))
    report_suspects(dataset, features, None, 0, tmp_path)
    table = listed(tmp_path).set_index("path")

    def text(row: np.ndarray) -> str:
        return "[" + ", ".join(f'"{CLASSES[place]}"' for place in np.flatnonzero(row)) + "]"

    assert set(table.index) == {"5.png", "9.png"}
    assert table.loc["9.png", ["label", "suggested"]].tolist() == [text(given[9]), text(there[9])]


def test_a_class_that_was_not_learned_from_is_not_doubted(tmp_path: Path) -> None:
    """Its four images, or its only group, are left out together: every label would look wrong."""
    true = np.arange(300) % 3
    true[:4] = 3
    dataset, features = make(tmp_path, [CLASSES[label] for label in true], apart(np.eye(4)[true]))
    assert report_suspects(dataset, features, None, 0, tmp_path)[0] == 0
    true[:40] = 3
    groups = ["film" if label == 3 else f"g{index // 6}" for index, label in enumerate(true)]
    (other := tmp_path / "groups").mkdir()
    dataset, features = make(other, [CLASSES[label] for label in true], apart(np.eye(4)[true]), groups)
    assert report_suspects(dataset, features, None, 0, other)[0] == 0


@pytest.mark.parametrize("count", [4, 20])
def test_of_few_images_nothing_is_said(tmp_path: Path, count: int) -> None:
    dataset, features = make(tmp_path, [CLASSES[index % 2] for index in range(count)], np.zeros((count, WIDTH)))
    assert report_suspects(dataset, features, None, 0, tmp_path) == (0, [])


def test_look_alikes_of_different_labels_are_listed_both(tmp_path: Path) -> None:
    dataset, features = make(tmp_path, ["ant", "bee", "ant", "ant"], np.eye(4, WIDTH))
    pairs = [("0.png", "1.png", 0.98, True), ("2.png", "3.png", 0.99, True), ("1.png", "2.png", 0.2, False)]
    table = pd.DataFrame(pairs, columns=["first", "second", "cosine", "confirmed"])
    table.to_csv(tmp_path / "look_alikes.csv", index=False)
    for number in range(4):
        (place := dataset.image(f"{number:032x}")).parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)).save(place, "PNG")
    assert report_suspects(dataset, features, tmp_path, 0, tmp_path) == (2, [])
    rows = listed(tmp_path)[["path", "label", "suggested", "why", "score"]].values.tolist()
    assert rows == [
        ["0.png", "ant", "bee", "looks like 1.png, which is bee", 0.98],
        ["1.png", "bee", "ant", "looks like 0.png, which is ant", 0.98],
    ]


def test_look_alikes_of_which_a_model_believes_the_labels_are_not_listed(tmp_path: Path) -> None:
    true, _ = flipped(400, 25)
    dataset, features = make(tmp_path, [CLASSES[label] for label in true], apart(np.eye(4)[true]))
    pairs = pd.DataFrame([("0.png", "1.png", 0.98, True)], columns=["first", "second", "cosine", "confirmed"])
    pairs.to_csv(tmp_path / "look_alikes.csv", index=False)
    for number in range(2):
        (place := dataset.image(f"{number:032x}")).parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)).save(place, "PNG")
    assert report_suspects(dataset, features, tmp_path, 0, tmp_path)[0] == 0


def test_one_picture_in_two_files_of_different_labels_is_listed_whatever_a_model_believes(tmp_path: Path) -> None:
    true, _ = flipped(400, 25)
    dataset, features = make(tmp_path, [CLASSES[label] for label in true], apart(np.eye(4)[true]))
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)
    another = Image.fromarray(random.integers(0, 256, (90, 120, 3), np.uint8))
    smaller = picture.resize((60, 45))
    drawn = [(picture, "PNG"), (picture, "BMP"), (smaller, "JPEG"), (another, "PNG")]
    for number, (image, kind) in enumerate(drawn):
        (place := dataset.image(f"{number:032x}")).parent.mkdir(exist_ok=True)
        image.save(place, kind)
    pairs = [("0.png", "1.png", 0.99, True), ("0.png", "2.png", 0.98, True), ("0.png", "3.png", 0.97, True)]
    table = pd.DataFrame(pairs, columns=["first", "second", "cosine", "confirmed"])
    table.to_csv(tmp_path / "look_alikes.csv", index=False)
    assert report_suspects(dataset, features, tmp_path, 0, tmp_path)[0] == 3
    found = listed(tmp_path)
    assert found[["path", "label", "suggested", "why"]].values.tolist() == [
        ["0.png", "ant", "bee", "has the pixels of 1.png, which is bee"],
        ["1.png", "bee", "ant", "has the pixels of 0.png, which is ant"],
        ["2.png", "cat", "ant", "is nearly the same picture as 0.png, which is ant"],
    ]
    assert found["score"].tolist()[:2] == [1, 1] and 0.97 < found["score"][2] < 1


def test_images_of_a_group_are_left_out_together() -> None:
    """Two copies of each image: one that was learned from would give its twin's wrong label away."""
    random = np.random.default_rng(0)
    points = np.repeat(random.normal(size=(100, 120)), 2, axis=0)
    labels = torch.from_numpy(np.repeat(random.integers(0, 2, 100), 2))
    apart = held_out_probabilities(torch.from_numpy(points).float(), labels, 2)
    together = held_out_probabilities(torch.from_numpy(points).float(), labels, 2, np.repeat(np.arange(100), 2))
    assert apart is not None and together is not None
    right = [(found.argmax(1) == labels.numpy()).mean() for found in (apart, together)]
    assert right[0] > 0.8 and abs(right[1] - 0.5) < 0.12


def test_as_many_are_expected_as_a_calibrated_model_meets() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([0.1] * 5, size=20_000)
    labels = (probabilities.cumsum(1) > random.random((20_000, 1))).argmax(1)
    doubts = doubt(np.eye(5)[labels] > 0, probabilities, several=False)
    assert doubts.doubted.sum() == pytest.approx(doubts.expected, abs=4 * doubts.expected**0.5)
    assert not doubts.is_noteworthy
    labels[:1000] = (labels[:1000] + random.integers(1, 5, 1000)) % 5
    assert doubt(np.eye(5)[labels] > 0, probabilities, several=False).is_noteworthy
    each = random.beta(0.1, 0.3, size=(20_000, 5))
    doubts = doubt(random.random(each.shape) < each, each, several=True)
    assert doubts.doubted.sum() == pytest.approx(doubts.expected, abs=4 * doubts.expected**0.5)
