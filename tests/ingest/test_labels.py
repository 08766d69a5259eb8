"""Several labels as lists, from what programs write into cells to what an image has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.errors import ConfigurationError
from tasks.ingest.sources import Item, read_source
from tasks.ingest.tables.cells import list_of
from tasks.workspace import Workspace
from tests.ingest.pictures import png

NAMES = ("1.png", "2.png", "3.png", "4.png")


@pytest.fixture
def listed(workspace: Workspace) -> Path:
    """The folder of a table, with the images that it names."""
    folder = workspace.root / "listed"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(png(name))
    return folder


def items(workspace: Workspace, text: str | None = None, name: str = "t.csv", **options: Any) -> list[Item]:
    if text is not None:
        (workspace.root / "listed" / name).write_text(text)
    return list(read_source({"table": f"listed/{name}", **options}).items(workspace))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('["cat", "hot dog"]', ["cat", "hot dog"]), ("['cat', 'dog']", ["cat", "dog"]),
        ("['a' \"it's\"]", ["a", "it's"]),
        ("[1.0, 2]", ["1", "2"]), ("[1 2]", ["1", "2"]), ("['a', None, nan]", ["a"]), ('[null, " a "]', ["a"]),
        ("[]", []), ("{}", []), ("{cat, hot dog ,NULL}", ["cat", "hot dog"]), ('{"a,b",c}', ["a,b", "c"]),
        ("{'cat', 'dog'}", ["cat", "dog"]), ('["caf\\u00e9"]', ["café"]), ("['it\\'s']", ["it's"]),
        ("cat;dog", None), ("[cat", None), ("[", None), ("", None),
    ],
)  # fmt: skip
def test_lists_are_read_as_programs_write_them(text: str, values: list[str] | None) -> None:
    assert list_of(text) == values


@pytest.mark.parametrize(
    "text", ["[unknown]", "[cat, dog]", '{"a": 1}', "{'a': 1}", "{a: 1}", "['cat''dog']", '[["a"]]', "['a'; 'b']",
             "[np.str_('a')]", "[" * 10**5 + "]", "{a,{b}}", "['\\x']"]
)  # fmt: skip
def test_what_ends_like_a_list_and_is_none_is_not_torn(text: str) -> None:
    with pytest.raises(ValueError, match="which is no list as"):
        list_of(text)


@pytest.mark.parametrize("said", [{"separator": ","}, {"label": {"tags": {"column": "label", "kind": "labels"}}}])
def test_lists_are_several_labels_in_a_cell_and_in_json(
    said: dict[str, Any], listed: Path, workspace: Workspace
) -> None:
    told = {"1.png": ["cat", "wild"], "2.png": ["dog"], "3.png": [], "4.png": None}
    frame = pd.DataFrame({"path": list(told), "label": list(told.values())})
    frame.to_csv(listed / "t.csv", index=False)
    frame.to_json(listed / "t.jsonl", orient="records", lines=True)
    frame.to_parquet(listed / "t.parquet")
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        found = items(workspace, name=name, **said)
        assert [item.labels for item in found] == [("cat", "wild"), ("dog",), (), None]
    found = items(workspace, "path,label\n1.png,[cat]\n2.png,['dog']\n", **said)
    assert found[1].labels == ("dog",) and found[0].problem is not None
    assert found[0].problem.reason.startswith("row 1: column label holds '[cat]', which is no list")


def test_text_is_no_list_of_labels_without_a_separator(listed: Path, workspace: Workspace) -> None:
    (listed / "t.csv").write_text("path,label\n1.png,cat;dog\n")
    source = read_source({"table": "listed/t.csv", "label": {"tags": {"column": "label", "kind": "labels"}}})
    told = r"column label holds 'cat;dog' where a list .*\{column: label, kind: labels, separator: ';'\}"
    for step in (source.check, lambda workspace: list(source.items(workspace))):
        with pytest.raises(ConfigurationError, match=told):
            step(workspace)


@pytest.mark.parametrize("label", ["label", {"tags": "label"}])
def test_a_list_where_a_class_is_expected_is_told_with_what_reads_it(
    label: Any, listed: Path, workspace: Workspace
) -> None:
    frame = pd.DataFrame({"path": ["1.png", "2.png"], "label": [["cat", "wild"], "dog"]})
    frame.to_csv(listed / "t.csv", index=False)
    frame.to_json(listed / "t.jsonl", orient="records", lines=True)
    for name in ("t.csv", "t.jsonl"):
        bad, good = items(workspace, name=name, label=label)
        assert good.labels == ("dog",) and bad.problem is not None and bad.problem.kind == "bad_row"
        assert bad.problem.reason.endswith("read by label: {tags: {column: label, kind: labels}}")
    (item,) = items(workspace, 'path,label\n1.png,"[0, 10]"\n')
    assert item.labels == ("[0, 10]",)


@pytest.mark.parametrize("vector", [[0, 1, 0], [1.0, 0.0, 0.0], [True, False, False], [0, 0, 0, 0]])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_vectors_of_bits_are_no_lists_of_labels(
    vector: list[Any], name: str, listed: Path, workspace: Workspace
) -> None:
    said = {"label": {"tags": {"column": "label", "kind": "labels"}}}
    frame = pd.DataFrame({"path": ["1.png"], "label": [vector]})
    {"t.csv": frame.to_csv, "t.jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
     "t.parquet": frame.to_parquet}[name](listed / name)  # fmt: skip
    (item,) = items(workspace, name=name, **said)
    assert item.problem is not None and item.problem.kind == "bad_row"
    told = "is no list" if name == "t.csv" and vector[0] is True else "holds a vector of 0 and 1 where names of labels"
    assert told in item.problem.reason
    (item,) = items(workspace, 'path,label\n1.png,"[1. 0. 0.]"\n', **said)
    assert item.problem is not None and "a vector of 0 and 1" in item.problem.reason


def test_a_few_labels_called_0_and_1_are_a_list(listed: Path, workspace: Workspace) -> None:
    said = {"label": {"tags": {"column": "label", "kind": "labels"}}}
    found = items(workspace, 'path,label\n1.png,"[0, 1]"\n2.png,[1]\n3.png,"[0, 1, 2]"\n', **said)
    assert [item.labels for item in found] == [("0", "1"), ("1",), ("0", "1", "2")]


@pytest.mark.parametrize("cell", ['{"choices": ["cat", "dog"]}', "{'name': 'cat'}"])
def test_an_object_is_no_class(cell: str, listed: Path, workspace: Workspace) -> None:
    pd.DataFrame({"path": ["1.png", "2.png", "3.png"], "label": [cell, "{cat}", "{0: 1}"]}).to_csv(listed / "t.csv")
    bad, *good = items(workspace)
    assert bad.problem is not None and "holds an object where one class is expected" in bad.problem.reason
    assert [item.labels for item in good] == [("{cat}",), ("{0: 1}",)]
