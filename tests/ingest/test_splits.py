"""Which images are learned from, chosen on and held out: shares, and what may never be in two splits."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.config import SplitConfig
from tests.ingest.journals import Row, images, md5, settled

WARN = {"duplicate": "warn", "conflicting_label": "warn"}
"""Copies and contradictions are taken in, which is the harder case."""

quick = settings(max_examples=30)
shares = st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4))


def given_splits(*splits: str) -> list[Row]:
    """Images whose splits take turns."""
    return [row._replace(split=splits[number // 2 % len(splits)]) for number, row in enumerate(images(400))]


def test_shares_are_those_asked_for() -> None:
    found = settled(images(4000), val=0.15, test=0.2, learnable=True)
    assert (found.choose_on, found.report_on, found.classes) == ("val", "test", ("a", "b"))
    assert abs(found.count("test") - 800) < 100 and abs(found.count("val") - 600) < 100
    assert found.count("train") + found.count("val") + found.count("test") == 4000


def test_split_by_hash_follows_the_leading_digits_of_the_content() -> None:
    for hash, split in settled(images(500), val=0.15, test=0.2).splits("hash").items():
        position = int(hash, 16) / 16**32
        assert split == ("test" if position < 0.2 else "val" if position < 0.35 else "train")


@quick
@given(
    first=st.integers(0, 10_000), fewer=st.integers(60, 200), more=st.integers(1, 200), share=shares,
    options=st.sampled_from([{}, {"folds": 5, "fold": 2}, {"folds": 3}, {"by": "group"}]),
)  # fmt: skip
def test_adding_images_never_moves_old_ones(
    first: int, fewer: int, more: int, share: tuple[float, float], options: dict[str, Any]
) -> None:
    rows = [row._replace(group=row.path[:-1]) if options.get("by") else row for row in images(fewer + more, first)]
    options = {**options, "val": share[0], "test": share[1]}
    before = settled(rows[:fewer], **options).splits("hash")
    after = settled(random.Random(first).sample(rows, len(rows)), **options).splits("hash")
    assert {hash: after[hash] for hash in before} == before
    assert len(after) == fewer + more


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"by": "hash"}, {"by": "stratified"}, {"by": "group"}, {"folds": 4}, {"folds": 3, "by": "group"},
     {"folds": 5, "by": "stratified"}, {"by": "given"}, {}],
    ids=str,
)  # fmt: skip
@quick
@given(st.data())
def test_copies_are_never_in_two_splits(options: dict[str, Any], data: st.DataObject) -> None:
    source = [["train", "val"], ["train", "test"], ["train", "val", "test", "pool"]]
    said = data.draw(st.sampled_from(source)) if options.get("by") == "given" else [None]
    groups = ["g1", "g2", "g3", "g4", None] if options.get("by") == "group" else [None]
    cells = st.tuples(
        st.integers(0, 40), st.sampled_from(["a", "a", "b", None]), st.sampled_from(said), st.sampled_from(groups)
    )
    rows = [
        Row(f"{number:04d}", label, f"content {content}", split, group)
        for number, (content, label, split, group) in enumerate(data.draw(st.lists(cells, min_size=60, max_size=60)))
    ]
    rows += [Row("x", "a", "another", said[0], "g5"), Row("y", "b", "one more", said[0], "g6")]
    for checks in (WARN, {}):
        settled(rows, checks, **options).splits("hash")


@pytest.mark.slow
@pytest.mark.parametrize("checks", [{}, WARN])
@quick
@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abc"), st.integers(0, 25)), min_size=80, max_size=80))
def test_no_group_is_in_two_splits_and_groups_that_share_an_image_count_as_one(
    checks: dict[str, str], cells: list[tuple[int, str, int]]
) -> None:
    rows = [
        Row(f"{number:04d}", label, f"content {content}", group=f"patient {group}")
        for number, (content, label, group) in enumerate(cells)
    ]
    splits = settled(rows, checks, by="group", val=0.3, test=0.3).splits("group")
    joined: dict[str | None, set[str]] = defaultdict(set)
    for row in rows:
        for other in rows:
            if row.content == other.content:
                joined[row.group].add(str(other.group))
    for group, split in splits.items():
        assert {splits[other] for other in joined[group] if other in splits} == {split}


def test_groups_spread_over_the_splits_as_asked_for() -> None:
    rows = [row._replace(group=f"patient {number // 3}") for number, row in enumerate(images(3000))]
    found = settled(rows, val=0.2, test=0.3, learnable=True)
    groups = Counter(found.splits("group").values())
    assert abs(groups["test"] - 300) < 60 and abs(groups["val"] - 200) < 50


def test_images_without_a_group_are_split_by_content() -> None:
    rows = [*images(400), Row("g1", "a", "one", group="g"), Row("g2", "b", "two", group="g")]
    by_group, by_hash = settled(rows).splits(), settled(rows, by="hash").splits()
    assert by_group["g1"] == by_group["g2"]
    assert {path: by_group[path] for path in by_hash if path[0] != "g"} == {
        path: split for path, split in by_hash.items() if path[0] != "g"
    }


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "train", "test", "val", "val")])
def test_splits_that_the_source_gives_are_kept(splits: tuple[str, ...]) -> None:
    rows = given_splits(*splits)
    found = settled(rows, learnable=True)
    assert (found.choose_on, found.report_on) == ("val", "test")
    assert found.splits() == {row.path: row.split for row in rows}


def test_source_with_train_and_val_keeps_val_as_the_figure_and_chooses_on_a_part_of_train() -> None:
    rows = given_splits("train", "train", "train", "val")
    found = settled(rows, val=0.2, learnable=True)
    assert (found.choose_on, found.report_on) == ("tune", "val")
    assert {row.path for row in rows if row.split == "val"} == {row.path for row in found.used if row.split == "val"}
    assert 40 <= found.count("tune") <= 80 and found.count("train") + found.count("tune") == 300


def test_source_with_train_and_test_gets_a_val_out_of_train() -> None:
    rows = given_splits("train", "train", "train", "test")
    found = settled(rows, val=0.2, learnable=True)
    assert (found.choose_on, found.report_on) == ("val", "test")
    assert {row.path for row in rows if row.split == "test"} == {row.path for row in found.used if row.split == "test"}
    assert 40 <= found.count("val") <= 80 and found.count("train") + found.count("val") == 300


def test_given_splits_may_be_made_anew() -> None:
    rows = given_splits("train", "val")
    assert settled(rows, by="hash").splits() == settled(images(400), by="hash").splits()
    assert settled(rows, folds=4).splits() == settled(images(400), folds=4).splits()


def test_image_without_a_split_is_kept_out_where_others_have_one() -> None:
    rows = [*given_splits("train", "val", "test"), Row("stray", "a", "stray"), Row("unlabelled", None, "unlabelled")]
    found = settled(rows)
    assert found.kept_out == {"stray": "no_split"} and found.splits()["unlabelled"] == "pool"


@pytest.mark.parametrize("options", [{}, {"by": "hash"}, {"by": "stratified"}, {"folds": 3}], ids=str)
def test_pool_is_never_learned_from_nor_held_out(options: dict[str, Any]) -> None:
    pool = [Row(f"pool {number}", label, f"pool {number}", "pool") for number, label in enumerate(["a", "b", None] * 9)]
    for rows in (images(100), given_splits("train", "val", "test")):
        splits = settled(rows + pool, learnable=True, **options).splits()
        assert {splits[row.path] for row in pool} == {"pool"}
        assert splits.items() >= settled(rows, **options).splits().items()


@settings(max_examples=40)
@example({"a": 1, "b": 6}, (0.34375, 0.0625), 0)
@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 60), min_size=2), shares, st.integers(0, 99))
def test_stratified_shares_are_exact_in_every_class_within_one_image(
    sizes: dict[str, int], share: tuple[float, float], seed: int
) -> None:
    rows = [Row(f"{label}/{n}", label, f"{seed} {label} {n}") for label, size in sizes.items() for n in range(size)]
    found = settled(rows, by="stratified", val=share[0], test=share[1])
    for label, size in sizes.items():
        assert abs(found.count("val", label) - size * share[0]) <= 1
        assert abs(found.count("test", label) - size * share[1]) <= 1
        assert found.count("train", label) == size - found.count("val", label) - found.count("test", label)


@pytest.mark.parametrize("folds", [3, 7])
@pytest.mark.parametrize("by", ["hash", "stratified", "group"])
def test_folds_hold_every_image_out_once_and_choose_on_the_next_fold(by: str, folds: int) -> None:
    rows = [row._replace(group=row.path[:-1]) for row in images(300)]
    splits = [settled(rows, by=by, folds=folds, fold=fold).splits() for fold in range(folds)]
    held_out = [{path for path, split in each.items() if split == "test"} for each in splits]
    assert sorted(path for part in held_out for path in part) == sorted(row.path for row in rows)
    assert all(held_out)
    for fold, each in enumerate(splits):
        assert {path for path, split in each.items() if split == "val"} == held_out[(fold + 1) % folds]
        assert set(each.values()) == {"train", "val", "test"}


def test_stratified_folds_are_of_one_size_in_every_class() -> None:
    rows = images(90, classes="aab")
    for fold in range(5):
        found = settled(rows, by="stratified", folds=5, fold=fold)
        assert (found.count("test", "a"), found.count("test", "b")) == (12, 6)


def test_shots_are_exactly_so_many_images_of_each_class() -> None:
    rows = [*images(600, classes="aab"), Row("c1", "c", md5_below(0.9)), Row("c2", "c", md5_below(0.8))]
    plain = settled(rows).splits()
    found = settled(rows, shots=5, learnable=True)
    assert {label: found.count("train", label) for label in "abc"} == {"a": 5, "b": 5, "c": 2}
    for path, split in found.splits().items():
        assert split == plain[path] or (split, plain[path]) == ("pool", "train")


def md5_below(position: float) -> str:
    """A content that stands in the training split, near this position of [0, 1)."""
    return next(text for text in map(str, range(10_000)) if position - 0.1 < int(md5(text), 16) / 16**32 < position)


def test_shots_are_drawn_by_the_seed_alone() -> None:
    def drawn(rows: list[Row], seed: int) -> frozenset[str]:
        found = settled(rows, shots=5, seed=seed)
        return frozenset(row.path for row in found.used if row.split == "train")

    rows = images(200)
    draws = [drawn(rows, seed) for seed in range(10)]
    assert [drawn(rows[::-1], seed) for seed in range(10)] == draws
    assert len(set(draws)) == 10
    assert len(frozenset.union(*draws)) > 40  # not the same few again and again


def test_shots_of_given_splits_leave_val_and_test_alone() -> None:
    rows = given_splits("train", "val", "test")
    found = settled(rows, shots=3, learnable=True)
    assert Counter(row.split for row in found.used) == {"train": 6, "pool": 128, "val": 134, "test": 132}


@pytest.mark.parametrize("by", ["auto", "given"])
def test_source_with_train_only_is_cut_as_one_without_splits(by: str) -> None:
    rows = images(400)
    found = settled([row._replace(split="train") for row in rows], by=by, learnable=True)
    assert found.splits() == settled(rows).splits()
    assert (found.choose_on, found.report_on) == ("val", "test")


def test_source_with_train_only_is_cut_by_group_where_it_gives_groups() -> None:
    rows = [row._replace(split="train", group=f"track {index // 10}") for index, row in enumerate(images(400))]
    found = settled(rows, learnable=True)
    assert {row.split for row in found.used} == {"train", "val", "test"}
    assert found.splits("group")  # or an error: no group is in two splits


def test_pool_stays_the_pool_beside_train_only() -> None:
    pool = [Row(f"pool {number}", None, f"pool {number}", "pool") for number in range(9)]
    found = settled([*[row._replace(split="train") for row in images(100)], *pool], learnable=True)
    assert found.count("pool") == 9 and found.count("test") > 9


def test_image_without_a_split_beside_train_only_is_not_learned_from() -> None:
    found = settled([*[row._replace(split="train") for row in images(100)], Row("x", "a", "x")])
    assert found.kept_out == {"x": "no_split"}


@pytest.mark.parametrize(("splits", "cut"), [(("train", "test"), "val"), (("train", "val"), "tune")])
def test_split_that_is_cut_out_of_train_holds_whole_groups(splits: tuple[str, str], cut: str) -> None:
    rows = [row._replace(split=splits[index // 10 % 4 == 0], group=f"track {index // 10}")
            for index, row in enumerate(images(800))]  # fmt: skip
    found = settled(rows, learnable=True)
    assert found.splits("group") and 0 < found.count(cut) < 300


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_stratified_puts_small_classes_into_every_split(count: int) -> None:
    found = settled(images(50 * count, classes=[f"class {number:02}" for number in range(50)]), by="stratified")
    for number in range(50):
        counts = [found.count(split, f"class {number:02}") for split in ("train", "val", "test")]
        assert min(counts) >= 1 and sum(counts) == count


def test_stratified_learns_from_classes_of_one_image() -> None:
    rows = [Row(f"{number}", f"class {number}", f"{number}") for number in range(9)]
    assert settled(rows, by="stratified").count("train") == 9


def test_stratified_is_advised_where_it_would_help_alone() -> None:
    """Not where no class has an image for each split, as it is then the cut already."""
    for by in ("auto", "stratified"):
        with pytest.raises(DataError, match="no image falls into the split") as told:
            settled([Row(f"{number}", f"class {number}", f"{number}") for number in range(4)], learnable=True, by=by)
        assert "stratified" not in str(told.value)


def test_splits_or_groups_that_the_source_does_not_give_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="by is given, but the source gives no splits"):
        settled(images(50), by="given")
    with pytest.raises(ConfigurationError, match="by is group, but the source gives no groups"):
        settled(images(50), by="group")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"folds": 4, "fold": 4}, "fold 4 is none of 4 folds"),
        ({"folds": 4, "by": "given"}, "by cannot be given"),
        ({"folds": 2}, "greater than or equal to 3"),
        ({"shots": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_splits_are_refused_with_the_configuration(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SplitConfig.model_validate(options)


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (images(100), {"val": 0.0}, "no image falls into the split 'val'"),
        (images(100), {"test": 0.0}, "no image falls into the split 'test'"),
        (given_splits("val", "test"), {}, "no image falls into the split 'train'"),
        (given_splits("train", "test"), {"val": 0.0}, "no image falls into the split 'val'"),
        (images(100, classes="a"), {}, r"only one class was found \(a\)"),
        ([Row("1", None, "1"), Row("2", None, "2")], {}, "no image has a label"),
        ([*given_splits("train", "val", "test"), Row("c", "c", "c", "test")], {}, "no training image for c: give more"),
        (
            [Row(f"{n}", f"class {n}", f"{n}", split) for n in range(1000) for split in ("test",)]
            + given_splits("train", "val", "test"),
            {},
            "class 0, class 1, class 10, class 100, class 101 and 995 more: ",
        ),
        (images(5), {}, "set ingest.split.by to stratified"),
        ([Row("1", "a", "x"), Row("2", "b", "x")], {}, r"no image has a label.*Kept out: 2 copies of one image under"),
    ],
)
def test_what_cannot_be_learned_from_is_a_data_error_that_says_why(
    rows: list[Row], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        settled(rows, learnable=True, **options)


def test_where_groups_are_kept_whole_the_advice_is_not_to_part_them() -> None:
    few = [row._replace(group=f"patient {int(row.path) % 2}") for row in images(40)]
    with pytest.raises(DataError, match=r"falls into the split .*: give images of more groups, or raise") as told:
        settled(few, learnable=True)
    assert "stratified" not in str(told.value)
    rare = [
        *(row._replace(group=f"patient {row.path}") for row in images(100)),
        *images(20, 100, "c", group="patient 1"),
    ]
    with pytest.raises(DataError, match="for c: give images of it from more groups, or remove the class"):
        settled(rare, learnable=True, test=0.3, val=0.3)


def of_domains(*domains: str) -> list[Row]:
    """Images that say in their paths which domain they are of; domains take turns."""
    named = ((domains[number // 2 % len(domains)], row) for number, row in enumerate(images(1200)))
    return [row._replace(path=f"{domain}/{row.path}", domain=domain) for domain, row in named]


def by_domain(rows: list[Row], **split: Any) -> dict[str, Counter[str | None]]:
    """How many images of each domain are in each split."""
    found: dict[str, Counter[str | None]] = defaultdict(Counter)
    for path, where in settled(rows, learnable=True, **split).splits().items():
        found[path.split("/")[0]][where] += 1
    return found


def test_target_domains_are_tested_on_and_adapted_to_and_never_learned_from() -> None:
    rows = of_domains("photo", "sketch", "cartoon")
    found = by_domain(rows, target=["sketch"], unlabelled=0.25, val=0.2)
    assert set(found["sketch"]) == {"test", "pool"} and abs(found["sketch"]["pool"] - 100) < 30
    for source in ("photo", "cartoon"):
        assert set(found[source]) == {"train", "val"} and abs(found[source]["val"] - 80) < 30
    assert by_domain(rows, target=["sketch"], unlabelled=0)["sketch"] == {"test": 400}
    assert set(by_domain(rows, target=["sketch", "photo"])) == {"photo", "sketch", "cartoon"}


def test_splits_of_the_source_give_way_to_target_domains() -> None:
    rows = [row._replace(split="train") for row in of_domains("photo", "sketch")]
    rows[0] = rows[0]._replace(split="test")
    assert set(by_domain(rows, target=["sketch"])["photo"]) == {"train", "val"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (["sketches"], "names sketches, but the domains are photo, sketch"),
        (["photo", "sketch"], "names all domains"),
    ],
)
def test_a_target_that_cannot_be_one_is_refused(target: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        settled(of_domains("photo", "sketch"), target=target)


def test_a_target_of_a_source_without_domains_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the source gives no domains"):
        settled(images(100), target=["sketch"])


@pytest.mark.parametrize("other", [{"folds": 3}, {"by": "given"}])
def test_target_domains_are_the_test_split_and_no_other_way_of_cutting_is(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="target domains"):
        SplitConfig.model_validate({"target": ["sketch"], **other})
