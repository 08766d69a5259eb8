"""What people call the splits: folders, cells of a table, shards, splits of a library; paths of Windows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from tasks.ingest.tables.cells import plain_number
from tasks.records import Split

WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "trn": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "validating": "val", "dev": "val",
    "devel": "val", "development": "val", "eval": "val", "evaluation": "val",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test", "heldout": "test",
    "pool": "pool", "unlabelled": "pool", "unlabeled": "pool", "unlabel": "pool", "unannotated": "pool",
    "unsupervised": "pool",
    "entrainement": "train", "apprentissage": "train", "entrenamiento": "train", "addestramento": "train",
    "allenamento": "train", "treino": "train", "treinamento": "train", "trening": "train", "treningowy": "train",
    "treningowe": "train", "обучение": "train", "обучающая": "train", "тренировка": "train", "тренировочная": "train",
    "训练": "train", "訓練": "train", "学習": "train", "훈련": "train", "학습": "train",
    "validierung": "val", "validacion": "val", "validazione": "val", "validacao": "val", "validatie": "val",
    "walidacja": "val", "walidacyjny": "val", "walidacyjne": "val", "валидация": "val", "валидационная": "val",
    "проверка": "val", "проверочная": "val", "验证": "val", "驗證": "val", "検証": "val", "검증": "val",
    "prueba": "test", "teste": "test", "testowy": "test", "testowe": "test", "тест": "test", "тестовая": "test",
    "тестирование": "test", "测试": "test", "測試": "test", "テスト": "test", "테스트": "test",
}  # fmt: skip
"""Words that name a split, in lower case and without accents."""

EVALUATION = frozenset(["eval", "evaluation"])
"""Words of those that name a val split which name the test split where another is val and none is test."""

UNLABELLED = frozenset(word for word, split in WORDS.items() if split == "pool") - {"pool"}
"""Words that say of images that they have no label; a pool may also be one to swim in."""

LABELLED = frozenset(["labelled", "labeled", "annotated", "supervised"])
"""Words that, beside images without labels, name those to learn from; alone they say nothing."""

LEARNT_OR_HELD_OUT: frozenset[Split] = frozenset(["train", "val", "test"])

FILLERS = frozenset(
    """set sets subset subsets data dataset datasets split splits partition part image images img imgs pic pics picture
    pictures photo photos jpg jpeg png file files folder folders dir all full final new old raw orig original clean
    cleaned processed preprocessed resized cropped crop crops px rgb gray grey simple easy hard small large big tiny
    mini public private official labelled labeled label labels class classes version ver copy challenge sample samples
    cross fold the my our daten datensatz bilder jeu donnees conjunto datos dados imagenes imagens dati zbior dane
    данные выборка набор""".split()  # noqa: SIM905 (a wall of quotes)
)
"""Words beside a split's that change nothing: ``test_images``, ``dataset_train``, ``TEST_SIMPLE``, ``01_train``."""

JOINED = (
    "datasets", "dataset", "images", "image", "imgs", "img", "folder", "split", "sets", "set", "data", "s",
    "sdatensatz", "datensatz", "sdaten", "daten", "sbilder", "bilder",
    "数据集", "数据", "集合", "集", "資料集", "画像", "データセット", "データ", "用",
    "데이터셋", "데이터", "세트", "용",
)  # fmt: skip
"""What is written together with a split's word: ``trainset``, ``valimages``, ``tests``, ``Testdaten``, ``训练集``."""


DENYING = frozenset("not non no nor never pre ex except excluding without nicht kein".split())  # noqa: SIM905
"""Words right before a split's that say that this is none: ``not_train``, ``pre-test``."""

REFUSED = frozenset(
    """exclude excluded ignore ignored reject rejected rejects unused deleted removed discarded skip
    skipped""".split()  # noqa: SIM905
)
"""Words beside a split's, but for fillers, that say that its images are not to be used: ``test_unused``."""

LITTLE = frozenset("a an be for from in of part the to use used".split())  # noqa: SIM905
"""Words that may stand between: ``excluded from test``, ``not used for training``."""

ASIDE = frozenset(
    """sample samples example examples demo meta metadata annotation annotations label labels mask masks run runs log
    logs doc docs figure figures fig figs plot plots result results output outputs report reports preview previews tmp
    temp model models checkpoint checkpoints weights script scripts code src notebooks assets misc other
    readme""".split()  # noqa: SIM905 (a wall of quotes)
)
"""What lies beside splits and is none, nor a class beside a folder called ``train`` that holds classes."""

PICTURES = frozenset("image images img imgs photo photos picture pictures jpegimages rgb input inputs".split())  # noqa: SIM905
ANNOTATIONS = frozenset(
    """annotation annotations label labels mask masks gt groundtruth segmentation segmentations segmentationclass
    segmentationobject depth trimap trimaps""".split()  # noqa: SIM905
)
"""What folders are called that hold pictures, and those that hold pictures of what is on them."""

SPARE = frozenset(
    """old older backup backups bak archive archived copy copies augmented augmentation augmentations aug extra extras
    spare unused trash deleted removed discarded rejected excluded ignored skipped raw original originals synthetic
    generated predictions thumbnails heatmaps""".split()  # noqa: SIM905
)
"""Words of what holds the same classes as the splits beside it, and yet is none."""

MORE = frozenset("augmented augmentation augmentations aug extra extras synthetic generated".split())  # noqa: SIM905
"""Those of them that say of a further folder of a split that it has more of its images: ``train_augmented``."""


class Called(NamedTuple):
    """A name that holds the word of one split.

    Attributes:
        rest: its other words that mean something: ``{"tube"}`` of ``test_tube``, nothing of ``test_images``.
        denied: whether they say that this is not the split: ``not_train``, ``test (excluded)``.
    """

    split: Split
    rest: frozenset[str]
    denied: bool


def called(name: str) -> Called | None:
    """How a name reads as that of a split: ``train2017``, ``Test-Set``, ``seg_train``; None where it holds no split's
    word, or those of several."""
    joined = _joined(name)
    splits = {split for word in joined if (split := _split_of(word))}
    split = "pool" if "pool" in splits else next(iter(splits)) if len(splits) == 1 else None
    if split is None:
        return None
    words = [word for word in joined if len(word) > 1 and not word.isdigit() and not _split_of(word)]
    rest = frozenset(words) - FILLERS
    return Called(split, rest, rest == {"bad"} or _is_denied(joined))


def split_called(name: str) -> Split | None:
    """The split that a name means where it is known to be a split's, whatever else it says (``seg_train`` is train),
    but that this is not the split (``not_train``)."""
    found = called(name)
    return found.split if found and not found.denied else None


def splits_called(names: Iterable[str]) -> dict[str, Split]:
    """The splits that the names of one source mean which are known to be splits'; those that mean none are left out."""
    names = set(names)
    return _with_labelled({name: split for name in names if (split := split_called(name))}, names)


def says_evaluation(name: str) -> bool:
    """Whether a name calls its split an evaluation, which is val or test: the other names of a source tell."""
    words = {word for each in _joined(name) if (word := _word_of(each))}
    return bool(words) and words <= EVALUATION


def settle_evaluation(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Splits by all names of a source: ``eval`` is test where another is val and none is test (train, dev, eval)."""
    evaluations = set(filter(says_evaluation, splits))
    others = {split for name, split in splits.items() if name not in evaluations}
    meant: Split = "test" if "val" in others and "test" not in others else "val"
    return {name: meant if name in evaluations else split for name, split in splits.items()}


def _with_labelled(splits: Mapping[str, Split], names: set[str]) -> dict[str, Split]:
    """Splits, settled: what is called ``labelled`` beside ``unlabelled`` is what there is to learn from, where no split
    is called so."""
    settled = settle_evaluation(splits)
    if "train" not in settled.values() and any(map(says_unlabelled, settled)):
        settled |= dict.fromkeys(filter(says_labelled, names - settled.keys()), "train")
    return settled


def says_labelled(name: str) -> bool:
    """Whether a name says of images that they have labels, and nothing else: ``labeled_images``, ``annotated``."""
    words = set(_joined(name))
    return bool(words & LABELLED) and words <= LABELLED | FILLERS


def plainly_called(name: str) -> Split | None:
    """The split that a name means where it might be anything: not that of ``test_tube``."""
    found = called(name)
    return found.split if found and not found.rest else None


def says_unlabelled(name: str) -> bool:
    """Whether a class's folder is called as one of images without labels: ``unlabelled``, but not ``pool``."""
    return plainly_called(name) == "pool" and any(_word_of(word) in UNLABELLED for word in _joined(name))


def split_names(names: Iterable[str], classes: bool = True) -> dict[str, Split]:
    """Those of several names that are splits', and which: all that say nothing else, and those that say the same else
    beside different splits (``seg_train`` and ``seg_test``).

    Args:
        classes: whether names may also be those of classes, which several such families tell.
    """
    names = set(names)
    read = {name: found for name in names if (found := called(name)) and not found.denied}
    by_rest: dict[frozenset[str], set[Split]] = {}
    for found in read.values():
        by_rest.setdefault(found.rest, set()).add(found.split)
    shared = [rest for rest, splits in by_rest.items() if rest and len(splits & LEARNT_OR_HELD_OUT) > 1]
    # Several such families (train_cats, test_cats, train_dogs...) name classes beside the splits.
    known = {frozenset[str](), *shared} if len(shared) == 1 or not classes else {frozenset[str]()}
    return _with_labelled({name: found.split for name, found in read.items() if found.rest in known}, names)


def splits_without_classes(names: Iterable[str], spare: frozenset[str] = frozenset()) -> dict[str, Split]:
    """Those of several names that are splits', where none of them can be a class's: also those that say something else
    (``imagenet_test``), beside others that are a list of splits or where all names are called so.

    Args:
        spare: words of names that are none all the same, beside the splits that they call.
    """
    names = set(names)
    sure = split_names(names, classes=False)
    likely = settle_evaluation({
        name: found.split
        for name in names
        if (found := called(name)) and not found.denied and (name in sure or spare.isdisjoint(found.rest))
    })  # fmt: skip
    is_list = is_split_list(sure) or (likely.keys() == names and is_split_list(likely))
    return likely if is_list else sure


def is_split_list(splits: Mapping[str, Split]) -> bool:
    """Whether names read as splits are evidence of splits: one such word (``train`` beside ``bus``) is none."""
    return len(LEARNT_OR_HELD_OUT.intersection(splits.values())) > 1


def is_aside(name: str) -> bool:
    """Whether a folder's name is that of something beside the images."""
    return look_alike(name) in ASIDE


def is_spare(name: str) -> bool:
    """Whether a folder beside splits is called as one that nobody takes for a split."""
    if is_aside(name) or not (SPARE | ANNOTATIONS).isdisjoint(words_of(name)):
        return True
    found = called(name)
    return found is not None and found.denied


def without_spare(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Splits but for folders that are called as what nobody learns from beside another of the same split: the
    ``test_heatmaps`` beside ``test``."""
    spare = (SPARE - MORE - (FILLERS - {"old"})) | ANNOTATIONS
    sure = {name: split for name, split in splits.items() if spare.isdisjoint(words_of(name))}
    return {name: split for name, split in splits.items() if name in sure or split not in sure.values()}


def slashed(path: str) -> str:
    """A path with slashes, whichever system wrote it."""
    return path.replace("\\", "/")


def has_drive(path: str) -> bool:
    """Whether a path begins at a drive of Windows: ``C:\\photos``."""
    return re.match(r"[A-Za-z]:", path) is not None


def look_alike(name: str) -> str:
    """What names have in common that differ only in case, spaces, or the form of their Unicode: ``Cat``, ``cat ``."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    text = "".join(sign for sign in text if unicodedata.category(sign) not in ("Cf", "Cc"))
    text = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", text)  # hot dog, hot_dog; but 1-0 is not 10
    return " ".join(text.split())


def one_group(name: str) -> str:
    """What spellings of one group have in common, as exports of the same patients differ: ``P01``, ``p 01``, ``P-01``;
    ``3``, ``3.0``."""
    return plain_number(re.sub(r"(?<=[^\W\d_])[\s_-]+(?=\d)", "", look_alike(name)))


def _is_denied(joined: Sequence[str]) -> bool:
    """Whether the words of a split's name say that this is not the split. Only those beside the split's own: a
    ``train_no_mask`` is one of images without masks."""
    told = ["" if _split_of(word) else word for word in joined if word not in LITTLE]  # nothing for the split's own
    if any(word in DENYING for word, following in pairwise(told) if not following):
        return True
    if any(word in DENYING and following in ("use", "used") for word, following in pairwise(joined)):
        return True
    said = [word for word in told if word not in FILLERS]
    return any(not this and other in REFUSED for pair in pairwise(said) for this, other in (pair, pair[::-1]))


def _joined(name: str) -> list[str]:
    """The words of a name; one of two parts is one."""
    words = list(words_of(name))
    joined: list[str] = []
    while words:
        count = 2 if len(words) > 1 and "".join(words[:2]) in WORDS else 1  # hold-out, un_labelled, train_val
        joined.append("".join(words[:count]))
        words = words[count:]
    return joined


def words_of(name: str) -> Iterable[str]:
    """The words of a name, in lower case and without accents: ``TestSet_01`` has three."""
    for part in re.findall(r"[^\W\d_]+|\d+", _without_accents(name)):
        if _split_of(part.casefold()) or part.isupper() or part.islower():
            yield part.casefold()
        else:
            yield from (word.casefold() for word in re.findall(r"[^\W\d_][a-z]+|[A-Z]+(?![a-z])|[^\W\d_]", part))


def _without_accents(name: str) -> str:
    """A name in one form of Unicode, its letters without marks above or below, but for those that make another sign."""
    parts = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name))
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", parts))


def _split_of(word: str) -> Split | None:
    found = _word_of(word)
    return None if found is None else WORDS[found]


def _word_of(word: str) -> str | None:
    """The split's word that a word is, perhaps with another one joined to it."""
    if word in WORDS:
        return word
    for more in JOINED:
        for bare in (word.removesuffix(more), word.removeprefix(more) if more != "s" else word):
            if bare != word and bare in WORDS:
                return bare
    return None
