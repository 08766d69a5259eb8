"""Tables that list images: what they look like, how labels are written, and where rows may not lead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.sources import Item, read_source
from tasks.ingest.storage import read
from tasks.workspace import Workspace
from tests.ingest.pictures import png, turned
from tests.ingest.serving import served

ROWS = [("a/1.png", "cat", "train", "day", "p1"), ("a/2.png", "dog", "Validation", "night", "p2"),
        ("b/3.png", "", "", "", ""), ("b/4 ü.png", "cat, wild", "TEST", "day", "p1")]  # fmt: skip
HEAD = ("path", "label", "split", "domain", "group")
TOLD = [(("cat",), "train", "day", "p1"), (("dog",), "val", "night", "p2"), (None, None, None, None),
        (("cat, wild",), "test", "day", "p1")]  # fmt: skip


@pytest.fixture
def listed(workspace: Workspace) -> Path:
    """The folder of a table, with the images that `ROWS` names."""
    folder = workspace.root / "listed"
    for name, *_ in ROWS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(name))
    return folder


def items(workspace: Workspace, text: str | bytes | None = None, name: str = "t.csv", **options: Any) -> list[Item]:
    path = workspace.root / "listed" / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_source({"table": f"listed/{name}", **options}).items(workspace))


def problems(found: list[Item]) -> dict[str, str | None]:
    return {item.path: item.problem and item.problem.kind for item in found}


def csv(delimiter: str = ",", newline: str = "\n") -> str:
    return newline.join(delimiter.join(f'"{cell}"' for cell in row) for row in (HEAD, *ROWS)) + newline


TABLES: dict[str, bytes] = {
    "t.csv": csv().encode(), "t.tsv": csv("\t").encode(), "semicolons.csv": csv(";").encode(),
    "bom.csv": "\ufeff".encode() + csv().encode(), "windows.csv": csv(newline="\r\n").encode(),
    "UPPER.CSV": csv().encode(), "no end.csv": csv().rstrip("\n").encode(),
    "blank lines.csv": csv(newline="\n\n").encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_text_table_is_read(name: str, listed: Path, workspace: Workspace) -> None:
    found = items(workspace, TABLES[name], name)
    assert [(item.labels, item.split, item.domain, item.group) for item in found] == TOLD
    assert [(item.path, item.place) for item in found] == [(row[0], str(listed / row[0])) for row in ROWS]
    assert all(item.stamp and item.problem is None for item in found)


@pytest.mark.parametrize("options", [{}, {"row_group_size": 1}, {"compression": "zstd"}])
def test_parquet_tables_are_read(options: dict[str, Any], listed: Path, workspace: Workspace) -> None:
    frame = pd.DataFrame(ROWS, columns=list(HEAD)).replace("", None)
    frame.to_parquet(listed / "t.parquet", **options)
    found = items(workspace, name="t.parquet")
    assert [(item.labels, item.split, item.domain, item.group) for item in found] == TOLD
    frame.assign(label=pd.Categorical([3, 4, None, 3])).drop(columns="split").to_parquet(listed / "n.parquet")
    assert [item.labels for item in items(workspace, name="n.parquet")][:2] == [("3",), ("4",)]


def test_quoted_cells_may_hold_delimiters_quotes_and_newlines(listed: Path, workspace: Workspace) -> None:
    (listed / "new\nline.png").write_bytes(png("new line"))
    text = '"path","a ""label"", of a kind"\n"new\nline.png","cat ""x"", y"\na/1.png,dog\n'
    found = items(workspace, text, label='a "label", of a kind')
    assert [(item.path, item.labels) for item in found] == [("new\nline.png", ('cat "x", y',)), ("a/1.png", ("dog",))]


def test_columns_may_have_any_name_and_others_are_ignored(listed: Path, workspace: Workspace) -> None:
    text = "n,Datei,Art,Teil,Ort,Wer\n1,a/1.png,Katze,test,hier,ich\n"
    columns = {"image": "Datei", "label": "Art", "split": "Teil", "domain": "Ort", "group": "Wer"}
    (item,) = items(workspace, text, **columns)
    assert (item.labels, item.split, item.domain, item.group) == (("Katze",), "test", "hier", "ich")


def test_missing_column_is_a_configuration_error_that_names_the_columns(listed: Path, workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="has no column path, label; it has file, class, x"):
        items(workspace, "file,class,x\na/1.png,cat,1\n")
    pd.DataFrame({"path": ["a/1.png"], "klass": ["cat"]}).to_parquet(listed / "t.parquet")
    with pytest.raises(ConfigurationError, match="has no column label; it has path, klass"):
        items(workspace, name="t.parquet")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
@pytest.mark.parametrize("key", ["split", "domain", "group"])
def test_a_column_that_the_configuration_calls_by_a_name_of_its_own_must_be_there(
    key: str, name: str, listed: Path, workspace: Workspace
) -> None:
    frame = pd.DataFrame({"path": ["a/1.png"], "label": ["cat"], "patient_id": ["p1"]})
    frame.to_csv(listed / "t.csv", index=False)
    frame.to_json(listed / "t.jsonl", orient="records", lines=True)
    frame.to_parquet(listed / "t.parquet")
    told = rf"has no column patient; it has path, label, patient_id. Name its own in ingest\.source\.{key}, or leave"
    with pytest.raises(ConfigurationError, match=told):
        read_source({"table": f"listed/{name}", key: "patient"}).check(workspace)
    source = read_source({"table": f"listed/{name}"})
    again = read_source(source.model_dump(mode="json"))  # as a saved configuration has it: with every key
    assert [item.path for item in again.items(workspace)] == ["a/1.png"]


@pytest.mark.parametrize(
    ("called", "splits"),
    [("train eval dev Train", "train test val train"), ("train eval test", "train val test"),
     ("eval train", "val train")],
)  # fmt: skip
def test_splits_mean_what_their_names_mean_beside_each_other(
    called: str, splits: str, listed: Path, workspace: Workspace
) -> None:
    rows = [f"{name},cat,{split}" for split, (name, *_) in zip(called.split(), ROWS, strict=False)]
    found = items(workspace, "\n".join(["path,label,split", *rows]))
    assert [item.split for item in found] == splits.split()


FOLDS = "path,label,fold\na/1.png,cat,{}\na/2.png,dog,{}\nb/3.png,cat,{}\n"


@pytest.mark.parametrize(
    ("cells", "told", "splits"),
    [
        ("0 1 2", {"val": 1, "test": 2}, ["train", "val", "test"]),
        ("0.0 1.0 2.0", {"test": [1, "2"]}, ["train", "test", "test"]),
        ("True FALSE false", {"val": True}, ["val", "train", "train"]),
        ("1 0 0", {"train": True, "test": False}, ["train", "test", "test"]),
        ("a b b", {"pool": "B"}, ["train", "pool", "pool"]),
        ("0 labelled unlabelled", {"test": 0, "train": "labelled", "pool": "unlabelled"}, ["test", "train", "pool"]),
    ],
)
def test_cells_of_folds_and_truths_are_of_the_splits_that_are_said(
    cells: str, told: dict[str, Any], splits: list[str], listed: Path, workspace: Workspace
) -> None:
    found = items(workspace, FOLDS.format(*cells.split()), split={"column": "fold", **told})
    assert [item.split for item in found] == splits


def test_what_is_wrong_with_folds_is_told(listed: Path, workspace: Workspace) -> None:
    table = FOLDS.format(0, 1, "")
    held_out = items(workspace, table, split={"column": "fold", "val": 1})
    assert [item.split for item in held_out] == ["train", "val", None]
    with pytest.raises(DataError, match=r"no row of .* has in fold: test: 5; it has 0, 1"):
        items(workspace, table, split={"column": "fold", "test": 5})
    with pytest.raises(ConfigurationError, match="has no column folds; it has path, label, fold"):
        items(workspace, table, split={"column": "folds", "test": 1})
    other = items(workspace, table, split={"column": "fold", "train": 1, "test": 0})
    assert problems(items(workspace, table, split="fold"))["a/1.png"] == "bad_row"
    assert [item.split for item in other] == ["test", "train", None]
    partly = items(workspace, FOLDS.format(0, 1, 2), split={"column": "fold", "train": 1, "test": 0})[2].problem
    assert partly and "'2' in fold is of no split" in partly.reason


def test_labelled_rows_beside_unlabelled_ones_are_learned_from(listed: Path, workspace: Workspace) -> None:
    table = "path,label,split\na/1.png,cat,labelled\na/2.png,dog,Labelled\nb/3.png,,unlabelled\n"
    assert [item.split for item in items(workspace, table)] == ["train", "train", "pool"]


def test_several_labels_stand_in_one_cell(listed: Path, workspace: Workspace) -> None:
    text = "path,label\na/1.png,cat; wild ;\na/2.png,dog\nb/3.png,\nb/4 ü.png,;\n"
    found = items(workspace, text, separator=";")
    assert [item.labels for item in found] == [("cat", "wild"), ("dog",), None, None]
    assert read_source({"table": "x", "separator": ";"}).is_multi_label()


def test_several_labels_stand_in_columns_of_0_and_1(listed: Path, workspace: Workspace) -> None:
    text = "path,cat,dog,wild\na/1.png,1,0,True\na/2.png,0.0,1.0,-1\nb/3.png,,,\nb/4 ü.png,0,0,no\na/1.png,1,2,0\n"
    found = items(workspace, text, label=["cat", "dog", "wild"])
    assert [item.labels for item in found] == [("cat", "wild"), ("dog",), None, (), None]
    assert found[-1].problem == ("bad_row", "row 5: column dog holds '2' where 0 or 1 is expected")


def test_bad_rows_are_told_by_their_number_and_the_others_are_read(listed: Path, workspace: Workspace) -> None:
    rows = ["a/1.png,cat,train", "a/2.png", "gone.png,cat,train", "a/2.png,dog,train,more", "b/3.png,dog,spring",
            ",cat,train", "b/4 ü.png,cat,train", "a,cat,tent"]  # fmt: skip
    found = items(workspace, "\n".join(["path,label,split", *rows]))
    assert len(found) == len(rows)
    told = {item.problem.reason.partition(":")[0]: item.problem.kind for item in found if item.problem}
    bad = {f"row {number}": "bad_row" for number in (2, 4, 5, 6, 8)}
    assert told == bad | {"row 3": "missing"}
    assert [item.path for item in found if item.problem is None] == ["a/1.png", "b/4 ü.png"]


def test_rows_of_a_table_longer_than_what_is_held_at_once_keep_their_numbers(
    listed: Path, workspace: Workspace
) -> None:
    kinds = {7: "a/1.png", 11: "a/1.png,cat,and,more", 13: "gone.png,cat"}
    numbers = range(1, 15_001)
    rows = [next((row for every, row in kinds.items() if number % (every * 101) == 0), f"a/1.png,{'x' * 250}") for
            number in numbers]  # fmt: skip
    found = items(workspace, "\n".join(["path,label", *rows]))
    told = {int(item.problem.reason.split(":")[0].removeprefix("row ")) for item in found if item.problem}
    assert told == {number for number in numbers if any(number % (every * 101) == 0 for every in kinds)}
    assert len(found) == len(rows) and len("\n".join(rows)) > 3 * 2**20


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("content", [b"\xff\xfe\0\0", b"PAR1\0\0PAR1", b"path,label\n\xe9.png,cat\n"])
def test_damaged_table_is_a_data_error_that_names_it(
    name: str, content: bytes, listed: Path, workspace: Workspace
) -> None:
    with pytest.raises((DataError, ConfigurationError), match=name):
        items(workspace, content, name)


@pytest.mark.parametrize("start", [4, 40, 80])
def test_parquet_damaged_in_the_middle_is_a_data_error(start: int, listed: Path, workspace: Workspace) -> None:
    pd.DataFrame({"path": [f"{index}.png" for index in range(50)], "label": "cat"}).to_parquet(listed / "t.parquet")
    content = bytearray((listed / "t.parquet").read_bytes())
    content[start : start + 40] = bytes(40)
    with pytest.raises(DataError, match="cannot be read as a table"):
        items(workspace, bytes(content), "t.parquet")


def test_what_is_wrong_with_a_head_is_known_before_a_run_begins(listed: Path, workspace: Workspace) -> None:
    (listed / "t.csv").write_text("file,class\na/1.png,cat\n")
    source = read_source({"table": "listed/t.csv"})
    with pytest.raises(ConfigurationError, match="has no column path, label; it has file, class"):
        source.check(workspace)
    read_source({"table": "listed/t.csv", "image": "file", "label": "CLASS"}).check(workspace)


def test_state_changes_with_images_beside_a_table_that_might_hold_them(listed: Path, workspace: Workspace) -> None:
    cells = [{"bytes": None, "path": "a/1.png"}, {"bytes": None, "path": "a/2.png"}]
    pd.DataFrame({"image": cells, "label": ["x", "y"]}).to_parquet(listed / "t.parquet")
    source = read_source({"table": "listed/t.parquet"})
    assert [item.path for item in source.items(workspace)] == ["a/1.png", "a/2.png"]
    before = source.state(workspace)
    (listed / "a" / "2.png").write_bytes(png("another"))
    assert source.state(workspace) != before


def test_missing_table_or_a_folder_for_one_is_a_data_error(listed: Path, workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"t\.csv does not exist: ingest\.source\.table"):
        items(workspace)
    with pytest.raises(DataError, match="listed is a folder"):
        list(read_source({"table": "listed"}).items(workspace))


@pytest.mark.parametrize("root", [None, "other", "ABSOLUTE"])
def test_rows_lead_only_below_the_table_and_the_roots(root: str | None, listed: Path, workspace: Workspace) -> None:
    for name in ("other/5.png", "outside.png"):
        (workspace.root / name).parent.mkdir(exist_ok=True)
        (workspace.root / name).write_bytes(png(name))
    (listed / "link.png").symlink_to("../outside.png")
    (listed / "inner.png").symlink_to("a/1.png")
    (listed / "circle").symlink_to("circle")
    other = workspace.root / "other"
    inside = ["a/1.png", "inner.png", str(listed / "a" / "2.png"), "b/../b/3.png"]
    below_root = [f"{other}/5.png", "../other/5.png"]
    outside = ["../outside.png", "link.png", "/etc/hostname", "a/../../outside.png", "file:///etc/hostname",
               f"file://{listed}/../outside.png", f"file://{listed}/%2e%2e/outside.png", f"file://nas{listed}/a/1.png",
               "http://localhost/1.png", "simplecache::file:///etc/hostname", "memory://x.png"]  # fmt: skip
    others = ["circle/1.png", "~/1.png", "x" * 5000]
    rows = [f"{row},cat" for row in (*inside, *below_root, *outside, *others)]
    roots = [] if root is None else [root.replace("ABSOLUTE", str(other))]
    found = items(workspace, "\n".join(["path,label", *rows]), roots=roots)
    assert [item.path for item in found[:4]] == ["a/1.png", "inner.png", "a/2.png", "b/3.png"]
    assert [(item.path if roots else item.problem[0]) for item in found[4:6]] == [
        "5.png" if roots else "unsafe_path"
    ] * 2
    kinds = [item.problem and item.problem.kind for item in found]
    assert kinds[:4] == [None] * 4
    assert kinds[6:] == ["unsafe_path"] * len(outside) + ["missing", "missing", "bad_row"]


@pytest.mark.parametrize(
    ("roots", "above"),
    [(["r1", "r2"], ["r1/", "r2/"]), (["x/photos", "y/photos"], ["1-photos/", "2-photos/"]),
     (["x", "x/", "./listed", "y"], ["x/", "", "y/"]), (["one", "one/"], [""])],
)  # fmt: skip
def test_images_of_one_path_below_two_roots_stay_apart(
    roots: list[str], above: list[str], listed: Path, workspace: Workspace
) -> None:
    folders = [workspace.root / root for root in dict.fromkeys(str(Path(root)) for root in roots)]
    for folder in folders:
        (folder / "cat").mkdir(parents=True)
        (folder / "cat" / "0.png").write_bytes(png(str(folder)))
    found = items(workspace, "\n".join(["path,label", *(f"{folder}/cat/0.png,cat" for folder in folders)]), roots=roots)
    assert [item.path for item in found] == [f"{name}cat/0.png" for name in above]
    assert [item.place for item in found] == [f"{folder}/cat/0.png" for folder in folders]


def test_images_of_one_path_below_two_urls_stay_apart(listed: Path, workspace: Workspace) -> None:
    urls = ["https://images.example.org/", "https://example.org/photos", "s3://bucket/more"]
    found = items(workspace, "\n".join(["path,label", *(f"{url.rstrip('/')}/1.png,cat" for url in urls)]), roots=urls)
    assert [item.path for item in found] == ["images.example.org/1.png", "photos/1.png", "more/1.png"]


def test_paths_of_windows_are_read_with_slashes_and_drives_are_told_of(listed: Path, workspace: Workspace) -> None:
    (listed / "a\\1.png").write_bytes(png("a name with a backslash"))
    rows = [
        r"a\1.png",
        r"a\2.png",
        r".\b\3.png",
        r"b\..\a/2.png",
        r"C:\photos\1.png",
        "d:/1.png",
        r"..\1.png",
        r"\\nas\1.png",
    ]
    found = items(workspace, "\n".join(["path,label", *(f"{row},cat" for row in rows)]))
    assert [item.path for item in found[:4]] == [r"a\1.png", "a/2.png", "b/3.png", "a/2.png"]
    assert [item.problem and item.problem.kind for item in found] == [None] * 4 + ["unsafe_path"] * 4
    assert "row 5: C:\\photos\\1.png is on a drive of Windows; write paths relative" in found[4].problem.reason


def test_a_name_without_its_ending_is_told_which_file_is_meant(listed: Path, workspace: Workspace) -> None:
    found = items(workspace, "path,label\na/1,cat\na/7,cat\n")
    assert found[0].problem.reason.endswith(
        "a/1: No such file or directory; 1.png is there: write the ending, too, or ingest.source.suffix: .png"
    )
    assert found[1].problem.reason.endswith("a/7: No such file or directory")
    found = items(workspace, "path,label\na/1,cat\na/2.PNG,cat\n,cat\n", suffix=".png")
    assert [item.path for item in found] == ["a/1.png", "a/2.PNG", "row 3"]


def test_what_is_not_beside_the_table_is_looked_for_below_the_roots(listed: Path, workspace: Workspace) -> None:
    table = "path,label\n1.png,cat\n4 ü.png,cat\n9.png,cat\n"
    alone = items(workspace, table)
    assert alone[0].problem is not None
    told = "No such file or directory; a/1.png is there: name that folder in ingest.source.roots"
    assert alone[0].problem.reason.endswith(told)
    found = items(workspace, table, roots=["listed/a", "listed/b"])
    assert [item.path for item in found] == ["a/1.png", "b/4 ü.png", "9.png"]
    assert found[2].problem is not None and found[2].problem.kind == "missing"
    (listed / "b" / "1.png").write_bytes(png("another"))
    (twice, *_) = items(workspace, table, roots=["listed/a", "listed/b"])
    assert twice.problem is not None and "lies below several folders of ingest.source.roots" in twice.problem.reason
    (listed / "1.png").write_bytes(png("beside"))
    assert items(workspace, table, roots=["listed/a", "listed/b"])[0].place == str(listed / "1.png")


@pytest.mark.parametrize("column", ["Usage", "subset", "data_split"])
def test_a_column_of_splits_of_another_name_is_not_passed_over(column: str, listed: Path, workspace: Workspace) -> None:
    table = f"path,label,{column}\na/1.png,cat,Training\na/2.png,dog,PrivateTest\n"
    for step in (lambda: items(workspace, table), lambda: read_source({"table": "listed/t.csv"}).check(workspace)):
        with pytest.raises(ConfigurationError, match=f"and {column.lower()} holds names of splits .Training.: write"):
            step()
    assert [item.split for item in items(workspace, table, split=column)] == ["train", "test"]
    assert [item.split for item in items(workspace, table.replace("Training", "blue"))] == [None, None]
    both = "path,label,set,split\na/1.png,cat,train,test\n"
    assert [item.split for item in items(workspace, both)] == ["test"]


@pytest.mark.parametrize(
    ("names", "pattern", "splits"),
    [
        ("train.csv valid.csv test.csv", "{train,valid,test}.csv", "train val test"),
        ("train.csv test.csv", "t*.csv", "test train"),
        ("train/_classes.csv test/_classes.csv", "*/_classes.csv", "test train"),
        ("part-0.csv part-1.csv", "part-[01].csv", "None None"),
        ("my_train.tsv.txt my_test.tsv.txt", "{my_train,my_test}.tsv.txt", "train test"),
    ],
)
def test_several_tables_are_one_and_may_be_splits(names: str, pattern: str, splits: str, workspace: Workspace) -> None:
    for name in names.split():
        (workspace.root / "many" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / "many" / name).write_text("path,label\n1.png,cat\n7.png,dog\n\n")
        (workspace.root / "many" / name).with_name("1.png").write_bytes(png(name))
    source = read_source({"table": f"many/{pattern}"})
    source.check(workspace)
    found = list(source.items(workspace))
    assert [str(item.split) for item in found if item.problem is None] == splits.split()
    folders = [name.rpartition("/")[0] for name in sorted(names.split())]
    assert {item.path for item in found if item.problem is None} == {
        f"{folder}/1.png".lstrip("/") for folder in folders
    }
    lacking = [item.problem.reason for item in found if item.problem is not None]
    assert len(lacking) == len(splits.split()) and all(
        ".csv, row 2: " in told or ".txt, row 2: " in told for told in lacking
    )
    before = source.state(workspace)
    (workspace.root / "many" / names.split()[-1]).write_text("path,label\n1.png,dog\n")
    assert source.state(workspace) != before


def test_the_images_that_several_tables_hold_stay_apart(workspace: Workspace) -> None:
    for name in ("train-0", "train-1", "test-0", "x/train-0"):
        (workspace.root / "x").mkdir(exist_ok=True)
        rows = [{"image": {"bytes": png(name), "path": None}, "label": name}]
        pd.DataFrame(rows).to_parquet(workspace.root / f"{name}.parquet")
    found = list(read_source({"table": "**/*.parquet", "image": "image"}).items(workspace))
    assert [(item.path, item.split) for item in found] == [
        ("test-0/0000001.png", "test"), ("train-0/0000001.png", "train"), ("train-1/0000001.png", "train"),
        ("x/train-0/0000001.png", "train"),
    ]  # fmt: skip


def test_each_of_several_tables_means_its_own_names_of_splits(listed: Path, workspace: Workspace) -> None:
    for name, cells in (("1.csv", "train eval dev"), ("2.csv", "eval dev train")):
        rows = [f"{path},cat,{cell}" for cell, (path, *_) in zip(cells.split(), ROWS, strict=False)]
        (listed / name).write_text("\n".join(["path,label,split", *rows]))
    found = read_source({"table": "listed/[12].csv"}).items(workspace)
    assert [item.split for item in found] == ["train", "test", "val", "test", "val", "train"]


def test_tables_that_are_not_there_or_contradict_their_folder_are_told(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"ingest\.source\.table: no table is called x-\*\.csv"):
        read_source({"table": "x-*.csv"}).check(workspace)
    for name in ("train/train.csv", "train/test.csv", "test/test.csv"):
        (workspace.root / name).parent.mkdir(exist_ok=True)
        (workspace.root / name).write_text("path,label\n")
    with pytest.raises(DataError, match="is called as the split test, and its folder as the split train: rename"):
        list(read_source({"table": "*/*.csv"}).items(workspace))
    (workspace.root / "a[1].csv").write_text("path,label\n9.png,cat\n")
    assert [item.path for item in read_source({"table": "a[1].csv"}).items(workspace)] == ["9.png"]


def test_a_table_without_a_head_is_told_which_line_to_write(listed: Path, workspace: Workspace) -> None:
    for table, name, line in (
        ("a/1.png,cat\n", "t.csv", "write the line path,label above it"),
        ("0\t1\ta/1.png\n", "t.tsv", "write a line above it that names all 3 columns, as in path<tab>label"),
        ("a/1.png;cat;x\n", "t.csv", "names all 3 columns, as in path;label"),
    ):
        with pytest.raises(ConfigurationError, match=line):
            items(workspace, table, name)
    with pytest.raises(ConfigurationError, match=r"ingest\.source\.image and ingest\.source\.label$"):
        items(workspace, '{"a": 1, "path": "x"}\n', "t.jsonl")


def test_an_object_that_is_printed_for_people_is_told_as_one(listed: Path, workspace: Workspace) -> None:
    coco = {"images": [{"id": 1}], "annotations": [], "categories": []}
    for indent in (None, 2):
        with pytest.raises(DataError, match="is one object, with images, annotations, categories: a list of objects"):
            items(workspace, json.dumps(coco, indent=indent), "t.json")
    with pytest.raises(DataError, match="is no JSON that holds rows"):
        items(workspace, '{"path": \n', "t.json")


def test_urls_of_files_on_this_machine_are_paths(listed: Path, workspace: Workspace) -> None:
    urls = [f"file://{listed}/a/1.png", f"file://localhost{listed}/a/2.png", f"FILE:{listed}/b/3.png",
            f"file://{listed}/b/4%20%C3%BC.png", f"file://{listed}/a/7.png", "file:///C:/photos/1.png",
            "file:///%00"]  # fmt: skip
    found = items(workspace, "\n".join(["path,label", *(f"{url},cat" for url in urls)]))
    assert [(item.path, item.place) for item in found[:4]] == [(row[0], str(listed / row[0])) for row in ROWS]
    assert [item.problem and item.problem.kind for item in found] == [None] * 4 + ["missing", "unsafe_path", "bad_row"]
    assert "C:/photos/1.png is on a drive of Windows" in found[5].problem.reason


def test_paths_may_be_in_another_form_of_unicode_than_the_disk(listed: Path, workspace: Workspace) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    names = [f"{composed}/{apart}.png", f"{apart}2/{composed}.png"]
    for name in names:
        (listed / name).parent.mkdir()
        (listed / name).write_bytes(png(name))
    rows = [f"{apart}/{composed}.png", f"{composed}2/{composed}.png", f"{listed}/{apart}/{apart}.png",
            f"{apart}\\{composed}.png", f"{apart}/../../{composed}.png", f"{composed}/none.png"]  # fmt: skip
    found = items(workspace, "\n".join(["path,label", *(f"{row},cat" for row in rows)]))
    assert [item.path for item in found[:4]] == [names[0], names[1], names[0], names[0]]
    assert [item.problem and item.problem.kind for item in found] == [None] * 4 + ["unsafe_path", "missing"]


@pytest.mark.parametrize(
    ("named", "there"),
    [("A/1.PNG", "'a/1.png'"), ("a/1.PNG", "'1.png'"), ("b/4%20%C3%BC.png", "'4 ü.png'"),
     ("B/4%20ü.png", "'b/4 ü.png'"),
     ("b/3\u200b.png", "'3.png'"), ("c/d .png", r"'d \u200b.png'"),
     ("a/9.PNG", ""), ("A", ""), ("nowhere/1.png", "")],
)  # fmt: skip
def test_a_name_that_differs_in_capitals_or_signs_nobody_sees_is_told_what_is_there(
    named: str, there: str, listed: Path, workspace: Workspace
) -> None:
    (listed / "c").mkdir()
    (listed / "c" / "d \u200b.png").write_bytes(png("d"))
    (item,) = items(workspace, f"path,label\n{named},cat\n")
    told = f"; {there} is there: write it so" if there else ""
    assert item.problem.reason.endswith(f"No such file or directory{told}")


def test_images_within_a_table_are_taken_in_by_their_content(listed: Path, workspace: Workspace) -> None:
    images = [png("1"), turned("2", 1), b"x\xff" * 30_000, None]
    cells = [{"bytes": content, "path": "../../1.png"} for content in images]
    frame = pd.DataFrame({"image": cells, "label": list("abcd"), "split": "val"})
    frame.to_parquet(listed / "t.parquet")
    source = read_source({"table": "listed/t.parquet"})
    found = list(source.items(workspace, limit=50_000))
    assert [(item.path, item.content, item.labels, item.split) for item in found[:2]] == [
        ("0000001.png", images[0], ("a",), "val"), ("0000002.jpg", images[1], ("b",), "val"),
    ]  # fmt: skip
    assert [(item.path, item.problem.kind) for item in found[2:]] == [
        ("0000003.bin", "too_large"), ("../../1.png", "unsafe_path"),
    ]  # fmt: skip
    before = source.state(workspace)
    assert source.state(workspace) == before
    frame.assign(label="z").to_parquet(listed / "t.parquet")
    assert source.state(workspace) != before


def test_a_label_as_long_as_a_text_is_none_and_an_encoding_that_nobody_knows_is_an_error(
    listed: Path, workspace: Workspace
) -> None:
    (item,) = items(workspace, f"path,label\na/1.png,{'x' * 1_900_000}\n")
    told = "row 1: column label holds 1,900,000 signs where the name of a class is expected"
    assert item.problem == ("bad_row", told)
    (item,) = items(workspace, "path,label\na/1.png,é\n".encode("latin-1"), encoding="latin-1")
    assert item.labels == ("é",)
    for name in ("latin-0", "base64", "x\0"):
        with pytest.raises(ValueError, match="Python knows no encoding"):
            read_source({"table": "t.csv", "encoding": name})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\n", "t.csv is empty: no rows that name an image and its label"),
        ("path,label\nx.png,cat\n", r"holds no rows that name an image and its label: 1 files that a table names"),
        ("path,label\n" + "y" * 2_000_000 + ",cat\n", r"no rows that name an image .*1 rows of a table"),
        ("path,label\n" + "".join(f"{row[0]},cat\n" for row in ROWS), r"only one class was found \(cat\)"),
        ("path,label\na/1.png,\na/2.png,\n", "no image has a label"),
    ],
)
def test_a_table_is_not_told_of_class_folders_nor_more_than_a_screen(
    text: str, told: str, listed: Path, empty: Workspace
) -> None:
    (listed / "t.csv").write_text(text)
    with pytest.raises(DataError, match=told) as error:
        ingest_images(IngestConfig.model_validate({"source": {"table": str(listed / "t.csv")}}), empty)
    assert "class folder" not in str(error.value) and len(str(error.value)) < 2000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a web server of a folder with a secret beside it."""
    for name in ("site/photos/1.png", "site/photos/2.png", "site/other/3.png", "secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(name))
    with served(tmp_path / "site") as url:
        yield url


def test_rows_may_name_urls_below_a_root_only(server: str, listed: Path, workspace: Workspace) -> None:
    urls = [f"{server}/photos/1.png", "a/1.png", f"{server}/other/3.png", f"{server}/photos/../other/3.png",
            f"{server}/photos/%2e%2e/other/3.png", f"{server}/photos/%2E./other/3.png", f"{server}/photos.png",
            f"{server.replace('127.0.0.1', 'localhost')}/photos/1.png", "file:///etc/hostname"]  # fmt: skip
    text = "\n".join(["path,label", *(f"{url},cat" for url in urls)])
    found = items(workspace, text, roots=[f"{server}/photos"])
    assert [(item.path, item.stamp is None) for item in found if not item.problem] == [
        ("1.png", True),
        ("a/1.png", False),
    ]
    assert {item.problem.kind for item in found if item.problem} == {"unsafe_path"}
    assert read(str(found[0].place), 10**6) == png("site/photos/1.png")
    assert len(items(workspace, roots=[server])) == len(urls)


def test_remote_table_names_images_beside_itself(server: str, tmp_path: Path, workspace: Workspace) -> None:
    rows = ["photos/1.png", "photos/2.png", f"{server}/other/3.png", "../secret.png", "photos/%2e%2e/%2e%2e/secret.png",
            "a::file:///etc/hostname", "file:///etc/hostname", f"{workspace.root}/x.png"]  # fmt: skip
    (tmp_path / "site" / "t.csv").write_text("\n".join(["path,label", *(f"{row},cat" for row in rows)]))
    found = list(read_source({"table": f"{server}/t.csv"}).items(workspace))
    assert [problems([item])[item.path] for item in found] == [None] * 3 + ["unsafe_path"] * 4 + [None]
    assert found[2].path == "other/3.png" and found[-1].path.startswith("/")  # which ingestion refuses
    assert read(str(found[1].place), 10**6) == png("site/photos/2.png")


@pytest.mark.parametrize(
    ("table", "roots"), [("data/t.csv", []), ("listed/t.csv", ["data"]), ("listed/t.csv", ["data/images"])]
)
def test_images_in_what_headstart_fills_are_refused_before_any_work_and_stay(
    table: str, roots: list[str], workspace: Workspace
) -> None:
    images = workspace.data / "images"
    images.mkdir(parents=True)
    (workspace.root / "listed").mkdir()
    for index in range(8):
        (images / f"{index}.png").write_bytes(png(str(index)))
    rows = [f"{'images' if 'data' in table else images}/{index}.png,{'ab'[index % 2]}" for index in range(8)]
    (workspace.root / table).write_text("\n".join(["path,label", *rows]))
    source = {"table": table, "roots": roots}
    with pytest.raises(DataError, match="itself fills: keep your images in a folder of their own"):
        read_source(source).check(workspace)
    with pytest.raises(DataError, match="itself fills"):
        ingest_images(IngestConfig.model_validate({"source": source}), workspace)
    assert len(list(images.iterdir())) == 8 and not workspace.dvc_file.exists()


def test_a_table_in_what_headstart_fills_may_hold_its_images_or_name_others(listed: Path, workspace: Workspace) -> None:
    workspace.data.mkdir()
    image = {"bytes": png("within"), "path": "a.png"}
    pd.DataFrame({"path": [image], "label": ["cat"]}).to_parquet(workspace.data / "t.parquet")
    (workspace.data / "t.csv").write_text(f"path,label\n{listed}/a/1.png,cat\n")
    for name in ("t.parquet", "t.csv"):
        source = read_source({"table": f"data/{name}", "roots": ["listed"]})
        source.check(workspace)
        assert problems(list(source.items(workspace))).popitem()[1] is None


def test_remote_table_that_is_not_there_is_a_data_error(server: str, workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"nope\.csv cannot be read"):
        list(read_source({"table": f"{server}/nope.csv"}).items(workspace))


def test_state_changes_with_the_table_and_with_the_images_that_it_names(listed: Path, workspace: Workspace) -> None:
    def state(**options: str) -> str:
        return read_source({"table": "listed/t.csv", **options}).state(workspace)

    text = "path,label,kind\na/1.png,cat,x\na/2.png,dog,y\n"
    items(workspace, text)
    states = [state(), state(label="kind")]
    (listed / "a" / "1.png").write_bytes(png("another"))
    states.append(state())
    items(workspace, text.replace("cat", "kitten"))
    states.append(state())
    (listed / "a" / "2.png").unlink()
    states.append(state())
    assert len(set(states)) == 5 and state() == states[-1]
