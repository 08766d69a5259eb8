"""What people call splits, what only sounds like it, and which names look alike."""

from __future__ import annotations

import pytest

from tasks.ingest.naming import (
    is_split_list,
    look_alike,
    plainly_called,
    says_unlabelled,
    split_called,
    split_names,
    splits_called,
)

SPELT = {
    "train": ["train", "TRAIN", "training", "training_set", "trainset", "TrainSet", "train_images", "images_train",
              "train-set", "01_train", "train2017", "dataset_train", "Training Data", "train_val", "trainval", "trains",
              "ｔｒａｉｎ", "(train)", "train_v2", "imgs.train"],
    "val": ["val", "Valid", "validation", "valset", "VALset", "val_images", "val2017", "dev", "eval", "Validation-Set",
            "development", "evaluation_set", "cross_validation"],
    "test": ["test", "TEST", "testing", "test_set", "TEST_SIMPLE", "TestImages", "holdout", "hold-out", "held_out",
             "test1", "tests", "Test (public)"],
    "pool": ["pool", "unlabelled", "Unlabeled", "un-labelled", "unlabelled2017", "test_unlabelled", "unsupervised"],
}  # fmt: skip
ABROAD = {
    "train": ["Trainingsdaten", "Entraînement", "entrai\u0302nement", "APPRENTISSAGE", "entrenamiento", "Addestramento",
              "treinamento", "trening", "обучение", "Обучающая_выборка", "训练集", "訓練データ", "学習用", "훈련"],
    "val": ["Validierung", "Validierungsdaten", "Validación", "validazione", "validação", "validatie", "Walidacja",
            "валидация", "验证集", "検証", "검증"],
    "test": ["Testdaten", "prueba", "Pruebas", "teste", "testowy", "Тест", "测试集", "テスト", "テストデータ",
             "테스트"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "split"), [(name, split) for split, names in ABROAD.items() for name in names])
def test_splits_may_be_called_in_other_languages(name: str, split: str) -> None:
    assert plainly_called(name) == split_called(name) == split


@pytest.mark.parametrize(("name", "split"), [(name, split) for split, names in SPELT.items() for name in names])
def test_spellings_of_splits_are_known(name: str, split: str) -> None:
    assert plainly_called(name) == split_called(name) == split


@pytest.mark.parametrize(
    ("name", "split"), [("test_tube", "test"), ("bullet_train", "train"), ("swimming_pool", "pool"), ("seg_val", "val")]
)
def test_name_that_says_more_is_a_splits_only_where_it_is_known_to_be_one(name: str, split: str) -> None:
    assert plainly_called(name) is None and split_called(name) == split


@pytest.mark.parametrize(
    "name", ["latest", "contest", "valley", "valet", "testament", "strain", "retraining", "developer", "train_test", "",
             "2017", "cat", "holdall"]
)  # fmt: skip
def test_other_words_are_no_splits(name: str) -> None:
    assert split_called(name) is None


@pytest.mark.parametrize(
    "name", ["not_train", "NotTrain", "non-train", "no train", "pre-test", "excluded from test", "test (excluded)",
             "test set - excluded: blurry", "not used for training", "train_not_used", "train_rejected", "val ignored",
             "rejected_images_train", "test_unused", "train_deleted", "bad_train", "val_bad", "nicht_train"]
)  # fmt: skip
def test_name_that_says_not_this_split_is_none(name: str) -> None:
    assert split_called(name) is plainly_called(name) is None and splits_called([name, "train"]) == {"train": "train"}


def test_names_that_deny_the_same_of_several_splits_are_none() -> None:
    names = ["train", "test", "train_rejected", "test_rejected", "not_train", "not_test"]
    assert split_names(names) == {"train": "train", "test": "test"}


@pytest.mark.parametrize(
    "name", ["nontrivial_train", "notebook_train", "train_no_mask", "train_bg_removed", "train_bad_weather",
             "pre_processed_train", "preprocessed_train", "train no. 2", "non_iid_train", "train (no label)"]
)  # fmt: skip
def test_what_denies_something_else_denies_no_split(name: str) -> None:
    assert split_called(name) == "train"


def test_what_names_of_several_splits_share_is_no_part_of_the_splits_name() -> None:
    assert split_names(["seg_train", "seg_test", "seg_pred"]) == {"seg_train": "train", "seg_test": "test"}
    assert split_names(["asl_alphabet_train", "asl_alphabet_test", "test_tube"]) == {
        "asl_alphabet_train": "train", "asl_alphabet_test": "test",
    }  # fmt: skip
    assert split_names(["train_cats", "train_dogs", "test_cats", "test_dogs"]) == {}
    assert split_names(["bullet_train", "beaker", "test_tube"]) == {}


def test_a_pool_among_classes_may_be_one_to_swim_in() -> None:
    said = [
        name for name in (*SPELT["pool"], "unlabelled_pool", "Pool", "pools", "swimming_pool") if says_unlabelled(name)
    ]
    assert said == [*SPELT["pool"][1:], "unlabelled_pool"]


def test_one_splits_word_in_a_list_of_classes_is_no_list_of_splits() -> None:
    assert not is_split_list(split_names(["train", "bus", "car"]))
    assert not is_split_list(split_names(["train", "train_2", "unlabelled"]))
    assert is_split_list(split_names(["train", "bus", "test"]))


@pytest.mark.parametrize(
    "names",
    [("Cat", "cat", "CAT ", " cat", "ｃａｔ", "cat\u200b"), ("café", "cafe\u0301", "CAFÉ"),
     ("hot dog", "Hot_Dog", "hot-dog", "hotdog", "hot\u00a0dog"), ("straße", "STRASSE")],
)  # fmt: skip
def test_names_look_alike_whatever_their_case_spaces_and_unicode_form(names: tuple[str, ...]) -> None:
    assert len({look_alike(name) for name in names}) == 1


def test_other_names_do_not_look_alike() -> None:
    names = ["cat", "cats", "cafe", "café", "10", "1 0", "1-0", "-10", "a-1", "a1", "o", "ö"]
    assert len({look_alike(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("training validation evaluation", "train val test"),
        ("train dev eval", "train val test"),
        ("train_set val_set Eval_Set", "train val test"),
        ("asl_train asl_dev asl_eval", "train val test"),
        ("train eval", "train val"),
        ("train eval test", "train val test"),
        ("train val eval test", "train val val test"),
        ("train eval evaluation", "train val val"),
    ],
)
def test_an_evaluation_beside_a_validation_is_the_test_where_there_is_no_other(names: str, splits: str) -> None:
    expected = dict(zip(names.split(), splits.split(), strict=True))
    assert split_names(names.split()) == splits_called(names.split()) == expected
