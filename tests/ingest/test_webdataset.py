"""WebDataset shards: samples of members that share a name; what could run code is never opened."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.sources import Item, read_source
from tasks.workspace import Workspace
from tests.ingest.pictures import png, tarred


def items(workspace: Workspace, pattern: str = "*.tar", limit: int = 2**28, **options: Any) -> list[Item]:
    return list(read_source({"webdataset": pattern, **options}).items(workspace, limit))


def shard(workspace: Workspace, name: str, members: dict[str, Any]) -> Path:
    path = workspace.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(tarred(members))
    return path


def samples(*keys: str) -> dict[str, bytes]:
    return {f"{key}.{kind}": content for key in keys for kind, content in (("png", png(key)), ("cls", b"cat\n"))}


class Trap:
    """Unpickled, this leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_members_of_one_name_are_a_sample(workspace: Workspace) -> None:
    shard(
        workspace,
        "a.tar",
        {"x/1.png": png("1"), "x/1.cls": b" 7 \n", "x/1.txt": b"words", "2.cls": b"8", "2.jpg": png("2")},
    )
    found = [(item.path, item.content, item.labels, item.split) for item in items(workspace)]
    assert found == [("x/1.png", png("1"), ("7",), None), ("2.jpg", png("2"), ("8",), None)]


def test_samples_of_one_key_beside_each_other_are_told_of(workspace: Workspace) -> None:
    members = [("1.png", png("a")), ("1.cls", b"cat"), ("1.png", png("b")), ("1.cls", b"dog"), ("2.png", png("c"))]
    with tarfile.open(workspace.root / "a.tar", "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    first, second = items(workspace)
    assert first.problem is not None and "several members are called 1.png: give each" in first.problem.reason
    assert second.problem is None


@pytest.mark.parametrize("label", ["target.cls", "json.target", {"age": {"column": "meta.age.txt", "kind": "number"}}])
def test_labels_are_members_of_any_name(label: Any, workspace: Workspace) -> None:
    members = {"1.png": png("a"), "1.target.cls": b"7", "1.json": b'{"target": 7}', "1.meta.age.txt": b"7"}
    shard(workspace, "a.tar", members)
    (item,) = items(workspace, label=label)
    assert item.labels in (("7",), 7.0)


def test_where_no_sample_has_the_label_its_members_are_told(workspace: Workspace) -> None:
    shard(workspace, "a.tar", samples("1", "2"))
    config = IngestConfig.model_validate({"source": {"webdataset": "a.tar", "label": "txt"}})
    with pytest.raises(DataError, match=r"ingest\.source\.label names the member txt; the sample 1 has cls, png"):
        ingest_images(config, workspace)
    both = {"domains": {"day": {"folder": "photos"}, "night": {"webdataset": "a.tar", "label": "txt"}}}
    (workspace.root / "photos" / "unlabelled").mkdir(parents=True)
    (workspace.root / "photos" / "unlabelled" / "3.png").write_bytes(png("3"))
    with pytest.raises(DataError, match=r"domain night: ingest\.source\.label names the member txt"):
        ingest_images(IngestConfig.model_validate({"source": both}), workspace)


@pytest.mark.parametrize(
    "pattern",
    [
        "s/train-{0..2}.tar",
        "s/train-?.tar",
        "s/*.tar",
        "s/train-[0-2].tar",
        "*/*.tar",
        "**/train-*.tar",
        "{s/train-0,s/train-1,s/train-2}.tar",
    ],
)
def test_shards_are_found_by_braces_and_wildcards_in_order(pattern: str, workspace: Workspace) -> None:
    for number in range(3):
        shard(workspace, f"s/train-{number}.tar", samples(f"{number}a", f"{number}b"))
    found = items(workspace, pattern)
    assert [item.path for item in found] == [
        f"train-{number}/{number}{name}.png" for number in range(3) for name in "ab"
    ]
    assert {item.split for item in found} == {"train"}


def test_shards_of_one_name_in_two_folders_stay_apart(workspace: Workspace) -> None:
    for folder in "ab":
        shard(workspace, f"{folder}/train-0.tar", samples("1"))
    paths = [item.path for item in items(workspace, "{a,b}/train-0.tar")]
    assert len(set(paths)) == 2


@pytest.mark.parametrize(
    ("name", "split"),
    [("train-000", "train"), ("val_1", "val"), ("VALID", "val"), ("test-0", "test"), ("photos-0", None)],
)
def test_name_of_a_shard_gives_the_split(name: str, split: str | None, workspace: Workspace) -> None:
    shard(workspace, f"{name}.tar", samples("1"))
    assert [item.split for item in items(workspace)] == [split]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("train/000 test/000", "train test"),
        ("cats-train-0 cats-test-0 dogs-train-0 dogs-test-0", "train test train test"),
        ("train-0 test-0 imagenet_test_v2-0", "train test test"),
        ("imagenet-train-0 imagenetv2-test-0", "train test"),
        ("train-0 test-0 train_rejected-0 more-0", "train test None None"),
        ("day/train-0 night/train-0 night/test-0", "train train test"),
        ("train/a/0 dev/a/0 eval/b/0", "train val test"),
        ("bullet_train-0 beaker-0 test_tube-0", "None None None"),
        ("train/0 bus/0", "None None"),
    ],
)
def test_shards_are_of_the_split_that_they_or_their_folders_are_called(
    names: str, splits: str, workspace: Workspace
) -> None:
    """The folder that all lie in says nothing."""
    for name in names.split():
        (workspace.root / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        shard(workspace, f"test/{name}.tar", samples("1"))
    found = items(workspace, f"test/{{{names.replace(' ', ',')}}}.tar")
    assert [str(item.split) for item in found] == splits.split()


def test_a_shard_called_as_another_split_than_its_folder_stops_the_run(workspace: Workspace) -> None:
    for name in ("train/train-0", "train/val-0", "test/more-0"):
        (workspace.root / name).parent.mkdir(exist_ok=True)
        shard(workspace, f"{name}.tar", samples("1"))
    with pytest.raises(DataError, match=r"val-0\.tar is called as the split val, and its folder as"):
        items(workspace, "{train/train-0,train/val-0,test/more-0}.tar")


def test_labels_may_stand_in_a_member_of_json(workspace: Workspace) -> None:
    told = [{"kind": "cat"}, {"kind": 3}, {"kind": None}, {"other": 1}, {"kind": ["cat", "wild"]}, {"kind": []}]
    members = {f"{n}.{kind}": content for n, entry in enumerate(told)
               for kind, content in (("png", png(f"{n}")), ("json", json.dumps(entry).encode()))}  # fmt: skip
    shard(workspace, "a.tar", members)
    found = items(workspace, label="json.kind", multi_label=True)
    assert [item.labels for item in found] == [("cat",), ("3",), None, None, ("cat", "wild"), ()]


def test_what_says_nothing_in_a_member_of_json_is_no_label(workspace: Workspace) -> None:
    told = ['" "', "NaN", '" cat "', "3.0", '["", " wild "]', '[" "]']
    members = {f"{n}.{kind}": content for n, entry in enumerate(told)
               for kind, content in (("png", png(f"{n}")), ("json", b'{"kind": %s}' % entry.encode()))}  # fmt: skip
    shard(workspace, "a.tar", members)
    found = items(workspace, label="json.kind", multi_label=True)
    assert [item.labels for item in found] == [None, None, ("cat",), ("3",), ("wild",), ()]


def test_text_that_is_a_list_is_several_labels_where_those_are_asked_for(workspace: Workspace) -> None:
    told = {"1": b"['cat', 'wild']", "2": b"cat, wild", "3": b"[]", "4": b"[cat]"}
    shard(workspace, "a.tar", {f"{key}.{kind}": content for key, text in told.items()
                               for kind, content in (("png", png(key)), ("cls", text))})  # fmt: skip
    assert [item.labels for item in items(workspace, multi_label=True)] == [
        ("cat", "wild"), ("cat, wild",), (), ("[cat]",)
    ]  # fmt: skip
    problem = items(workspace)[0].problem
    assert problem is not None and problem.reason.endswith("read by label: {tags: {column: cls, kind: labels}}")


def test_members_of_json_may_be_several_tasks(workspace: Workspace) -> None:
    told = [{"age": 3, "tags": ["x"]}, {"age": "2,5", "tags": []}, {"age": -1}, {"age": "old"}, {"age": [1, 2]}]
    members = {f"{n}.{kind}": content for n, entry in enumerate(told)
               for kind, content in (("png", png(f"{n}")), ("json", json.dumps(entry).encode()), ("cls", b"a"))
               }  # fmt: skip
    shard(workspace, "a.tar", members)
    tasks = {"species": "cls", "age": {"column": "json.age", "kind": "number"},
             "tags": {"column": "json.tags", "kind": "labels"}}  # fmt: skip
    found = items(workspace, label=tasks)
    assert [item.labels for item in found[:3]] == [("a",)] * 3
    assert [item.further for item in found[:3]] == [
        {"age": 3.0, "tags": ("x",)}, {"age": 2.5, "tags": ()}, {"age": -1.0}
    ]  # fmt: skip
    assert [item.problem and item.problem.reason for item in found[3:]] == [
        "its label cannot be read: json.age holds 'old' where a number is expected",
        "its label cannot be read: json.age holds 2 values where a number is expected",
    ]


def test_sample_without_label_is_unlabelled(workspace: Workspace) -> None:
    shard(workspace, "a.tar", {"1.png": png("1"), "2.png": png("2"), "2.cls": b" ", "3.png": png("3"), "3.txt": b"dog"})
    assert [item.labels for item in items(workspace)] == [None, None, None]
    assert [item.labels for item in items(workspace, label="txt")] == [None, None, ("dog",)]


@pytest.mark.parametrize(
    "told",
    [b"{", b"[1]", b'"cat"', b"\xff", b'{"kind": {"a": 1}}', b'{"kind": [["cat"]]}', b'{"kind":' + b"[" * 10**5],
    ids=["broken", "list", "text", "not UTF-8", "object", "list of lists", "deep"],
)
def test_label_that_cannot_be_read_is_a_bad_row(told: bytes, workspace: Workspace) -> None:
    shard(workspace, "a.tar", {"1.png": png("1"), "1.json": told, "2.png": png("2"), "2.json": b'{"kind": "dog"}'})
    bad, good = items(workspace, label="json.kind")
    assert bad.problem is not None and bad.problem.kind == "bad_row"
    assert good.labels == ("dog",)


def test_sample_without_an_image_or_with_two_is_a_bad_row(workspace: Workspace) -> None:
    shard(workspace, "a.tar", {"1.cls": b"cat", "2.png": png("2"), "2.jpg": png("2"), "2.cls": b"cat", **samples("3")})
    found = items(workspace)
    assert [item.problem and item.problem.kind for item in found] == ["bad_row", "bad_row", None]
    assert found[0].problem and "0 images" in found[0].problem.reason and "cls" in found[0].problem.reason


@pytest.mark.parametrize("kind", ["pyd", "pickle", "pkl", "pth", "pt"])
def test_members_that_could_run_code_are_never_opened(kind: str, workspace: Workspace) -> None:
    mark = workspace.root / "ran"
    trap = pickle.dumps(Trap(mark))
    shard(workspace, "a.tar", {f"1.{kind}": trap, **samples("1"), f"2.{kind}": b"dog", "2.png": png("2")})
    found = items(workspace) + items(workspace, label=kind)
    assert [(item.labels, item.problem) for item in found] == [
        (("cat",), None),
        (None, None),
        (None, None),
        (None, None),
    ]
    assert not mark.exists()
    pickle.loads(trap)
    assert mark.exists()


def test_hostile_and_too_large_members_spoil_their_sample_only(workspace: Workspace) -> None:
    members = samples("1") | {"2.png": (tarfile.SYMTYPE, "/etc/hostname"), "2.cls": b"cat", "../3.png": png("3"),
                              "4.png": bytes(9999), "4.cls": b"cat"} | samples("5")  # fmt: skip
    shard(workspace, "a.tar", members)
    found = items(workspace, limit=9000)
    assert [item.problem and item.problem.kind for item in found] == [
        None,
        "unsafe_path",
        "unsafe_path",
        "too_large",
        None,
    ]


def test_truncated_shard_is_a_data_error_that_names_it(workspace: Workspace) -> None:
    shard(workspace, "train-0.tar", samples("1", "2"))
    path = shard(workspace, "train-1.tar", samples("3", "4"))
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(DataError, match=r"train-1\.tar cannot be unpacked"):
        items(workspace)


def test_compressed_shards_are_read(workspace: Workspace) -> None:
    path = shard(workspace, "train-0.tar", samples("1"))
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert [item.path for item in items(workspace)] == ["1.png"]


@pytest.mark.parametrize("pattern", ["nowhere.tar", "train-*.tar", "train-{0..3}.tar"])
def test_missing_shard_is_a_data_error(pattern: str, workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"ingest\.source\.webdataset"):
        items(workspace, pattern)


def test_state_changes_with_a_shard(workspace: Workspace) -> None:
    source = read_source({"webdataset": "*.tar"})
    shard(workspace, "a.tar", samples("1"))
    states = [source.state(workspace)]
    shard(workspace, "a.tar", samples("1", "2"))
    states.append(source.state(workspace))
    shard(workspace, "b.tar", samples("3"))
    states.append(source.state(workspace))
    assert len(set(states)) == 3 and source.state(workspace) == states[-1]


def test_odd_labels_are_kept_out_of_the_dataset_not_the_rest(workspace: Workspace) -> None:
    """What JSON allows but no table or file name does."""
    told = [{"kind": "ab"[n % 2]} for n in range(24)] + [{"kind": []}, {"kind": ["a", "b"]}, {"kind": "\ud800"}]
    members = {f"{n}.{kind}": content for n, entry in enumerate(told)
               for kind, content in (("png", png(f"{n}")), ("json", json.dumps(entry).encode()))}  # fmt: skip
    shard(workspace, "a.tar", members)
    config = IngestConfig.model_validate({"source": {"webdataset": "a.tar", "label": "json.kind"}})
    dataset = ingest_images(config, workspace, into_data=False)
    assert (len(dataset.read_manifest()), dataset.quarantined, dataset.classes) == (24, 3, ("a", "b"))
