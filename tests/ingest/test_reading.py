"""How trees read to a person: what their splits and classes are, or in which ways they can be read."""

from __future__ import annotations

from collections import Counter

import pytest

from tasks.errors import ConfigurationError
from tasks.ingest.reading import find_layout


def grown(tree: str) -> list[str]:
    """Paths of a tree written as ``train,test/cat,dog:2 samples``: folders, and images in each (one if not said)."""
    paths: list[str] = []
    for branch in tree.split():
        levels, _, count = branch.partition(":")
        folders = [""]
        for level in levels.split("/") if levels != "." else []:
            folders = [f"{above}{name}/" for above in folders for name in level.split(",")]
        paths += [f"{folder}{number}.png" for folder in folders for number in range(int(count or 1))]
    return paths


def read(tree: str, layout: str = "auto") -> tuple[set[str], set[str], int]:
    """Labels and splits that a tree gives, and how many of its images are kept out."""
    paths = grown(tree)
    found = find_layout(layout, Counter(path.rpartition("/")[0] for path in paths))
    placed = [found.place(path) for path in paths]
    used = [each for each in placed if not found.problem(each)]
    labels = {each.label or "" for each in used}
    return labels, {each.split or "" for each in used}, len(placed) - len(used)


CATS_AND_DOGS = {"cat", "dog"}


@pytest.mark.parametrize(
    ("tree", "splits", "kept_out"),
    [
        ("training_set,test_set/cat,dog", "train test", 0),
        ("training,testing/cat,dog", "train test", 0),
        ("TRAIN,TEST,TEST_SIMPLE/cat,dog", "train test", 0),
        ("trainset,valset/cat,dog", "train val", 0),
        ("train_images,val_images/cat,dog", "train val", 0),
        ("Train,Valid,TEST/cat,dog", "train val test", 0),
        ("images_train,images_test/cat,dog", "train test", 0),
        ("train2017,val2017/cat,dog", "train val", 0),
        ("01_train,02_val,03_holdout/cat,dog", "train val test", 0),
        ("train,eval/cat,dog", "train val", 0),
        ("train,dev,eval/cat,dog", "train val test", 0),
        ("training,validation,evaluation,evaluation_foggy/cat,dog", "train val test", 0),
        ("cat,dog/train,dev,eval", "train val test", 0),
        ("seg_train/seg_train/cat,dog seg_test/seg_test/cat,dog seg_pred/seg_pred:3", "train test", 3),
        ("train/train/cat,dog test/test_data/cat,dog", "train test", 0),
        ("asl_train/asl_train/cat,dog asl_test/asl_test/cat,dog", "train test", 0),
        ("train,test,test_foggy/cat,dog", "train test", 0),
        ("train_images,train_labels,test_images,test_labels/cat,dog", "train test", 4),
        ("train,train_old,test/cat,dog", "train test", 2),
        ("train,val,test/cat,dog samples:2", "train val test", 2),
        ("train,val,test/cat,dog runs/exp1", "train val test", 1),
        ("Train,Test/cat,dog Meta:43", "train test", 43),
        ("train,val,test/cat,dog notes/a,b:9", "train val test", 18),
        ("train,val,test/cat,dog extra/cat,dog:9", "train val test", 18),
        ("train,val,test/cat,dog .:2", "train val test", 2),
        ("chest/train,val,test/cat,dog chest/chest/train,val,test/cat,dog", "train val test", 6),
        ("data/train,test/cat,dog docs:2", "train test", 2),
        ("a/b/train,test/cat,dog a/figures:2 readme:1", "train test", 3),
        ("photos/train,test/cat,dog .:2", "train test", 2),
        ("train/cat,dog", "train", 0),
        ("train/cat,dog samples:2", "train", 2),
        ("train,test/cat/a,b train,test/dog", "train test", 0),
        ("Training,Validierung,Test/cat,dog", "train val test", 0),
        ("entraînement,validation,test/cat,dog", "train val test", 0),
        ("训练集,测试集/cat,dog", "train test", 0),
        ("train,test/images/cat,dog", "train test", 0),
        ("train/Images/cat,dog val/images/cat", "train val", 0),
        ("train/images/cat,dog", "train", 0),
        ("train,val/images/cat,dog test/cat,dog", "train val test", 0),
        ("data/train,test/images/cat,dog docs:2", "train test", 2),
        ("train/images/cat,dog test/cat,dog", "train test", 0),
        ("train,val,test,old_backup,augmented/cat,dog:3", "train val test", 12),
        ("train,test,train_rejected,test_heatmaps/cat,dog", "train test", 4),
        ("train,test,not_train,test_unused,excluded/cat,dog", "train test", 6),
        ("train,val,test,train_deleted/cat,dog", "train val test", 2),
        ("train,test,train_rejected,test_rejected/cat,dog", "train test", 4),
        ("train,test,train_heatmaps,test_heatmaps/cat,dog", "train test", 4),
        ("train,test,train_masks,pre-test/cat,dog", "train test", 4),
        ("train,test,train_augmented,train_extra/cat,dog", "train test", 0),
        ("train_thumbnails,test_thumbnails/cat,dog", "train test", 0),
        ("training_data/train,test/cat,dog", "train test", 0),
        ("train/train,val/cat,dog", "train val", 0),
        ("x/test_data/train,val,test/cat,dog", "train val test", 0),
        ("train_val/train,val/cat,dog docs:2", "train val", 2),
        ("cat,dog/train,test", "train test", 0),
        ("cat/train,test,val dog/train,test", "train test val", 0),
    ],
)
def test_splits_and_classes_are_those_that_a_person_sees(tree: str, splits: str, kept_out: int) -> None:
    assert read(tree) == (CATS_AND_DOGS, set(splits.split()), kept_out)


@pytest.mark.parametrize(
    ("tree", "kept_out"),
    [("cat,dog:6 augmented/cat,dog:6", 12), ("cat,dog:6 raw,backup/cat,dog", 4), ("cat,dog old_backup/cat", 1),
     ("cell/cat,dog cell/cell/cat,dog", 2), ("photos/cat,dog photos/masks/Cat,Dog", 2),
     ("cat,dog augmented/cat,dog .:1", 3)],
)  # fmt: skip
def test_folder_that_holds_the_classes_once_more_and_says_so_is_kept_out(tree: str, kept_out: int) -> None:
    assert read(tree) == (CATS_AND_DOGS, {""}, kept_out)
    assert read(tree, "label")[2] == tree.count(".:1")  # what is written is obeyed


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ("dataset/train,val/cat,dog:6 test/cat,dog:6", "dataset/ holds splits, and test beside it"),
        ("cat,dog:30 backup/train,test/cat,dog:6", "backup/ holds splits, and cat, dog beside it"),
        ("day/train,test/cat,dog:6 night/cat,dog:30", "day/ holds splits, and night beside it"),
        ("data/train,valid/cat,dog test/test:6", "data/ holds splits, and test beside it"),
        ("internal/train,val,test/cat,dog external/cat,dog", "internal/ holds splits, and external beside it"),
        ("dataset/train,val/cat,dog unlabelled:9", "dataset/ holds splits, and unlabelled beside it"),
    ],
)
def test_what_lies_beside_the_folder_around_splits_and_may_be_one_stops_the_run(tree: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{told} may be one of them, .* alone as the source"):
        read(tree)


def test_images_that_are_kept_out_beside_classes_name_the_folder() -> None:
    layout = find_layout("auto", {"x/cat": 1, "x/dog": 1, "x/raw/cat": 1, "x/raw/dog": 1})
    found = layout.problem(layout.place("x/raw/cat/0.png"))
    assert found == ("no_label", "stands in raw/, which holds the classes beside it once more and is none itself")


@pytest.mark.parametrize(
    "tree", ["cat,dog:6 animals/cat,dog", "P,U:6 cell/P,U", "photos/cat,dog:6 photos/new/Cat,DOG",
             "cat,dog:9 raw/cat,dog,fox,owl,emu"]
)  # fmt: skip
def test_folder_that_holds_the_classes_once_more_and_may_be_one_stops_the_run(tree: str) -> None:
    told = r"^folders in (animals|cell|new|raw) are called as those beside, .* ingest\.source\.layout: label"
    with pytest.raises(ConfigurationError, match=told):
        read(tree)
    assert len(read(tree, "label")[0]) == 3


def test_a_few_images_of_a_class_in_folders_called_as_those_beside_are_its_own() -> None:
    assert read("cat,dog,fox:9 dog/cat,fox:1")[0] == CATS_AND_DOGS | {"fox"}


def test_unlabelled_images_are_the_pool_whatever_their_folders_are_called() -> None:
    for below in ("cat,dog", "train,test"):
        assert read(f"cat,dog:6 unlabelled/{below}") == (CATS_AND_DOGS | {""}, {"", "pool"}, 0)


@pytest.mark.parametrize(
    "test",
    ["test:6", "test/test:6", "test_images:6", "test/images:6", "test/photos:6", "unlabelled:6", "test/unlabelled:6"],
)
def test_images_of_a_split_without_class_folders_beside_one_with_them_are_the_pool(test: str) -> None:
    assert read(f"train/cat,dog {test}") == (CATS_AND_DOGS | {""}, {"train", "pool"}, 0)
    assert read(f"train/cat,dog {test}", "split/label") == (CATS_AND_DOGS | {""}, {"train", "pool"}, 0)


@pytest.mark.parametrize(
    "tree",
    ["train/images/cat,dog test/images:6", "train/labelled/cat,dog train/unlabelled:6 test/cat,dog",
     "train,test/labelled/cat,dog train/unlabelled:6", "train,test/images/cat,dog pool:6"],
)  # fmt: skip
def test_a_folder_around_the_classes_of_a_split_is_no_class(tree: str) -> None:
    labels, splits, kept_out = read(tree)
    assert labels == CATS_AND_DOGS | {""} and {"train", "pool"} <= splits and not kept_out


@pytest.mark.parametrize(
    ("tree", "classes"),
    [
        ("train,bus,car", "train bus car"),
        ("test_tube,beaker,flask", "test_tube beaker flask"),
        ("test_tube,bullet_train,car,flask", "test_tube bullet_train car flask"),
        ("valid,invalid", "valid invalid"),
        ("beach,kitchen,pool", "beach kitchen pool"),
        ("beach,pools", "beach pools"),
        ("development,production", "development production"),
        ("cat,dog,bird/images", "cat dog bird"),
        ("train,bus,car/images", "train bus car"),
        ("cat/indoor,outdoor dog:5", "cat dog"),
        ("cat/p1,p2 dog/p3,p4", "cat dog"),
        ("cat:9 dog:9 cat,dog/odd", "cat dog"),
        ("photos/cat,dog", "cat dog"),
        ("photos/cat,dog .:2", "cat dog"),
        ("cat,dog .:1", "cat dog"),
    ],
)
def test_classes_are_classes_whatever_they_sound_like(tree: str, classes: str) -> None:
    labels, splits, _ = read(tree)
    assert (labels, splits) == (set(classes.split()), {""})


@pytest.mark.parametrize(
    "tree",
    [
        "images,masks", "train,val/images,masks", "JPEGImages,SegmentationClass,SegmentationObject", "rgb,depth",
        "data/Images,Ground_Truth",
    ],
)  # fmt: skip
def test_pictures_and_what_is_marked_on_them_are_no_classes_unless_that_is_written(tree: str) -> None:
    with pytest.raises(ConfigurationError, match=r"look like pictures and what is marked on them, not like classes"):
        read(tree)
    written = "split/label" if "train" in tree else "label"
    assert len(read(tree, written)[0]) > 1
    assert read(f"{tree} cat,dog" if "/" not in tree else "masks,cat")[0]  # beside classes of other names


@pytest.mark.parametrize(
    ("tree", "readings"),
    [
        ("a,b/cat,dog", {"label": "classes a (2), b (2)", "domain/label": "classes cat (2), dog (2); domains a (2)"}),
        ("a,b/images/cat,dog", {"label": "classes a (2), b (2)", "domain/*/label": "classes cat (2), dog (2)"}),
        (
            "train,test/a,b/images/cat,dog",
            {"split/label": "classes a (4), b (4)", "split/domain/*/label": "classes cat (4), dog (4)"},
        ),
        ("a/2020/cat,dog b/2021/cat,dog", {"label": "classes a (2)", "domain/*/label": "classes cat (2), dog (2)"}),
        ("cat,dog/indoor,outdoor", {"label": "classes cat (2), dog (2)", "domain/label": "classes indoor (2), out"}),
        ("a/cat,dog,bird b/CAT,Dog", {"label": "classes a (3), b (2)", "domain/label": "classes"}),
        ("train,test:4", {"split/label": "no classes: a table could", "label": "classes test (4), train (4)"}),
        ("train,plane,test:4", {"split/label": "no classes", "label": "classes plane (4), test (4), train (4)"}),
        ("north_train,south_test/cat,dog", {"split/label": "classes cat (2), dog (2); splits", "label": "classes"}),
        ("train_cats,train_dogs,test_cats,test_dogs", {"split/label": "no classes", "label": "classes test_cats (1)"}),
        ("train/steam,diesel bus:3 car:3", {
            "split/label": "classes diesel (1), steam (1); splits train (2); 6 images kept out",
            "label": "classes bus (3), car (3), train (2)",
        }),
        ("train,test/day,night/cat,dog", {
            "split/label": "classes day (4), night (4); splits test (4), train (4)",
            "split/domain/label": "classes cat (4), dog (4); splits test (4), train (4); domains day (4), night (4)",
        }),
        ("photo,sketch/train,test/cat,dog", {
            "domain/split/label": "classes cat (4), dog (4); splits test (4), train (4); domains photo (4), sketch (4)",
            "label/split": "classes photo (4), sketch (4)", "label": "classes photo (4), sketch (4)",
        }),
        ("train,test,sprong/cat,dog", {
            "split/label": "classes cat (2), dog (2); splits test (2), train (2); 2 images kept out",
            "domain/label": "classes cat (3), dog (3); domains sprong (2), test (2), train (2)",
        }),
        ("train,test/images/cat,dog train:1", {
            "split/label": "classes images (4)", "split/*/label": "classes cat (2), dog (2); splits test (2), train",
        }),
        ("train/day,night/cat,dog test/cat,dog", {"split/label": "", "split/domain/label": ""}),
        ("one,two/train/cat,dog", {"domain/split/label": "classes cat (2), dog", "label/split": "", "label": ""}),
        ("cat,dog/images/train,test", {
            "label/*/split": "classes cat (2), dog (2); splits test (2), train (2)", "label": "classes cat (2), dog",
        }),
        ("cat/cam1/train cat/cam2/test dog/cam1/train dog/cam3/test", {
            "label/*/split": "classes cat (2), dog (2); splits test (2), train (2)", "label": "",
            "domain/label/split": "classes cam1 (2), cam2 (1), cam3 (1); splits test (2), train (2); domains cat (2)",
        }),
        ("animals/cat/train,test plants/oak/train,test", {
            "label/*/split": "classes animals (2), plants (2); splits test (2)", "label": "classes animals (2), plants",
            "domain/label/split": "classes cat (2), oak (2); splits test (2), train (2); domains animals (2), plants",
        }),
        ("art,clip/cat,dog/train,test", {
            "label/*/split": "classes art (4), clip (4)", "label": "",
            "domain/label/split": "classes cat (4), dog (4); splits test (4), train (4); domains art (4), clip (4)",
        }),
        ("cat,dog/a/b/train,test dog:9", {
            "label/*/*/split": "classes cat (2), dog (2); splits test (2), train (2); 9 images kept out", "label": "",
        }),
        ("cat/x/train,test dog/x:20", {
            "label/*/split": "classes cat (2); splits test (1), train (1); 20 images kept out", "label": "",
        }),
        ("cat/train,test dog/indoor,outdoor:5", {
            "label/split": "classes cat (2); splits test (1), train (1); 10 images kept out", "label": "",
        }),
        ("cat/train:4 cat/test:2 dog,bird:20", {
            "label/split": "classes cat (6); splits test (2), train (4); 40 images kept out", "label": "classes bird",
        }),
    ],
)  # fmt: skip
def test_tree_that_can_be_read_in_several_ways_stops_with_each_and_its_layout(
    tree: str, readings: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"can be read in [23] ways; say in ingest\.source\.layout") as stopped:
        read(tree)
    told = dict(line.strip().removeprefix("layout: ").split(maxsplit=1) for line in str(stopped.value).splitlines()[1:])
    assert told.keys() == readings.keys()
    for layout, beginning in readings.items():
        assert told[layout].startswith(beginning)


@pytest.mark.parametrize("layout", ["label", "domain/label", "*/label", "group/label", "label/domain"])
def test_layout_that_is_written_is_obeyed_where_several_would_fit(layout: str) -> None:
    expected = {"a", "b"} if layout.startswith("label") else CATS_AND_DOGS
    assert read("a,b/cat,dog", layout) == (expected, {""}, 0)


@pytest.mark.parametrize(
    ("tree", "layout", "splits", "kept_out"),
    [
        ("photos/cat,dog/indoor,outdoor", "*/label", "", 0),
        ("photos/train,test/cat,dog/a,b", "*/split/label", "train test", 0),
        ("photos/day,night/cat,dog/a", "*/domain/label", "", 0),
        ("all/photos/train,test/cat,dog/a", "*/split/label", "train test", 0),
        ("photos/train,test/cat,dog photos/samples:2", "split/label", "train test", 2),
        ("photos/cat,dog .:2 photos:3", "label", "", 5),
        ("photos/cat/x/train,test photos/dog:2", "label/*/split", "train test ", 0),
        ("day/cat,dog/a,b", "domain/label/*", "", 0),
        ("day/cat,dog day/cat/a,b", "domain/label", "", 0),
        ("all/day,night/cat,dog", "*/domain/label", "", 0),
        ("x/y/day,night/cat,dog", "*/*/domain/label", "", 0),
        ("x/y/cat,dog/a,b", "*/group/label/*", "", 0),
    ],
)
def test_layout_that_is_written_is_obeyed_however_deep_the_tree_is(
    tree: str, layout: str, splits: str, kept_out: int
) -> None:
    assert read(tree, layout) == (CATS_AND_DOGS, set(splits.split(" ")), kept_out)


@pytest.mark.parametrize("word", ["domain", "group"])
@pytest.mark.parametrize("tree", ["all/day,night/cat,dog", "x/all/day,night/cat,dog", "all/day,night/cat,dog/deep"])
def test_folder_around_several_domains_or_groups_need_not_be_counted(tree: str, word: str) -> None:
    assert read(tree, f"{word}/label") == (CATS_AND_DOGS, {""}, 0)


def test_readings_of_a_tree_in_a_folder_can_be_written_as_they_are_told() -> None:
    for tree in ("photos/a,b/cat,dog", "x/photos/a,b/cat,dog", "photos/a,b/cat,dog/train,test"):
        with pytest.raises(ConfigurationError, match="can be read in") as stopped:
            read(tree)
        for line in str(stopped.value).splitlines()[1:]:
            layout, told = line.split(maxsplit=2)[1:]
            expected = CATS_AND_DOGS if told.startswith("classes cat") else {"a", "b"}
            assert read(tree, layout)[0] == expected


def test_a_pool_is_one_of_images_without_labels_only_where_a_split_is_expected() -> None:
    assert read("train,test/cat,dog pool:3") == (CATS_AND_DOGS | {""}, {"train", "test", "pool"}, 0)
    assert read("train,test/cat,pool") == ({"cat", "pool"}, {"train", "test"}, 0)
    assert read("beach,pools", "label") == ({"beach", "pools"}, {""}, 0)


def test_splits_are_classes_where_that_is_written() -> None:
    assert read("train,test/cat,dog", "label") == ({"train", "test"}, {""}, 0)


@pytest.mark.parametrize(
    ("tree", "kept_out"),
    [("train,test,spring/cat,dog", 2), ("a,b/cat,dog", 4), ("train/cat,dog samples:3", 3),
     ("train,test,not_train,test_unused,test_heatmaps/cat,dog", 6)],
)  # fmt: skip
def test_folder_that_is_no_splits_where_one_is_written_is_kept_out(tree: str, kept_out: int) -> None:
    assert read(tree, "split/label")[2] == kept_out


def test_written_splits_may_say_more_than_the_split() -> None:
    assert read("north_train,south_test/cat,dog", "split/label") == (CATS_AND_DOGS, {"train", "test"}, 0)
    assert read("train/cat,dog/deep", "split/label") == (CATS_AND_DOGS, {"train"}, 0)


def test_splits_of_a_written_layout_mean_what_they_mean_beside_each_other() -> None:
    assert read("train,dev,eval/cat,dog", "split/label") == (CATS_AND_DOGS, {"train", "val", "test"}, 0)
    assert read("day,night/train,val,eval/cat,dog", "domain/split/label")[1] == {"train", "val", "test"}
    assert read("train,eval/cat,dog", "split/label") == (CATS_AND_DOGS, {"train", "val"}, 0)


def test_message_is_never_longer_than_a_screen() -> None:
    names = ",".join(f"a class with a name that goes on and on {number}".replace(" ", "_") for number in range(1000))
    with pytest.raises(ConfigurationError) as stopped:
        read(f"a,b/{names}")
    assert "and 994 more" in str(stopped.value) and len(str(stopped.value)) < 800


def test_message_names_the_folder_that_may_be_a_split() -> None:
    with pytest.raises(ConfigurationError, match=r"which is right, or give sprong the name of a split, such as train"):
        read("train,test,sprong/cat,dog extra/cat,dog")


def test_message_names_the_layout_of_the_domain_that_it_is_about() -> None:
    with pytest.raises(ConfigurationError, match=r"say in ingest\.source\.domains\.day\.layout which is right"):
        find_layout("auto", {"a/cat": 1, "a/dog": 1, "b/cat": 1, "b/dog": 1}, "ingest.source.domains.day.layout")


@pytest.mark.parametrize(
    ("tree", "splits"),
    [
        ("labeled/cat,dog unlabeled:5", "pool train"),
        ("data/labelled_images/cat,dog data/unlabelled_images:5 data/test/cat,dog", "pool test train"),
        ("annotated/cat,dog unannotated/batch1,batch2 val/cat,dog", "pool train val"),
        ("train,test/cat,dog unlabelled:3", "pool test train"),
    ],
)
def test_what_is_called_labelled_beside_unlabelled_is_learned_from(tree: str, splits: str) -> None:
    labels, found, kept_out = read(tree)
    assert (labels - {"", "batch1", "batch2"}, found, kept_out) == (CATS_AND_DOGS, set(splits.split()), 0)


def test_labelled_is_a_class_where_nothing_is_called_unlabelled() -> None:
    assert read("labelled,plain:3") == ({"labelled", "plain"}, {""}, 0)


@pytest.mark.parametrize(
    ("tree", "readings"),
    [
        ("part1/cat,dog part2/bird,fish", "label */label"),
        ("batch_1/cat batch_2/dog", "label */label"),
        ("train/part1/cat,dog train/part2/bird,fish test/part1/cat,dog", "split/label split/*/label"),
        ("a/abbey,airport b/bar,beach c/cafe", "label */label"),
        ("HAM10000_images_part_1,HAM10000_images_part_2:9", "label */label"),
        ("images_001,images_002,images_003/images:9", "label */label"),
    ],
)
def test_folders_that_only_part_the_images_are_not_taken_for_classes(tree: str, readings: str) -> None:
    with pytest.raises(ConfigurationError, match="the folders can be read in 2 ways") as stopped:
        read(tree)
    for reading in readings.split():
        assert f"layout: {reading} " in str(stopped.value)
    assert read(tree, readings.split()[0])[2] == 0


@pytest.mark.parametrize(
    "tree", ["a,b,c:9", "class1,class2,class3:9", "0/v,w 1/x,y", "grade_1,grade_2:4", "a/b,c b/d,e"]
)
def test_letters_and_numbers_may_be_classes(tree: str) -> None:
    assert len(read(tree)[0]) == len(read(tree, "label")[0])
