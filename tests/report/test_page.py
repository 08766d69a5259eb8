"""The page of a run: what it tells, and that it needs nothing else."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tasks.records import Inspection
from tasks.report.facts import table
from tasks.report.page import SECTIONS, page
from tasks.train.anytime.notes import Notes
from tasks.train.anytime.step import Step
from tests.report.runs import facts


class Reading(HTMLParser):
    """What a browser would make of a page: tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def test_a_page_is_well_formed_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    html = page(facts(tmp_path, compared=True))
    read = Reading(html)
    assert read.open == []
    addresses = [each for _, of in read.tags for key, each in of.items() if key in ("src", "href", "srcset")]
    assert addresses and all(each and each.startswith(("data:", "#")) for each in addresses)
    assert not re.findall(r"@import|url\(|<script|https?://", html)
    links = [of["href"] for tag, of in read.tags if tag == "a"]
    assert links == [f"#{section}" for section in read.sections]


def test_the_verdict_stands_first_with_the_headline_its_interval_and_what_was_found(tmp_path: Path) -> None:
    run = facts(tmp_path, compared=True)
    read = Reading(page(run))
    assert read.sections[0] == "verdict"
    first = read.words[: read.words.index("Against the champion Both")]
    value, low, high = run.evaluation.metrics["test/accuracy"]
    for told in (f"{value:.4f}", f"[{low:.4f}, {high:.4f}]", "40 images",
                 "needs approval: worse than the champion (gate champion)",
                 "champion needs approval interval not below 0 -0.1000 worse than the champion", "leak pass – –",
                 "2 files are no images", "−0.1000 against the champion, version 2"):  # fmt: skip
        assert told in first
    assert "nothing changed" not in read.words, "what the gate said of the version counts, not what it says of a rerun"


def test_a_comparison_tells_both_figures_what_was_lost_and_which_classes_are_gone(tmp_path: Path) -> None:
    read = Reading(page(facts(tmp_path, compared=True)))
    assert "accuracy 0.9500 0.8500 −0.1000 [−0.1900, −0.0100]" in read.words
    assert "1 image gained, 4 lost (p 0.040)" in read.words and "3 left out" in read.words
    assert "hornet" in read.words and "honeybee → bee" in read.words
    colours = [of["class"] for tag, of in read.tags if tag == "div" and "diff" in (of.get("class") or "")]
    assert colours == ["track diff down", "track diff down"], "a lower accuracy and a higher loss are both worse"


def test_images_of_a_class_that_only_one_knows_are_said_to_be_left_out_for_that(tmp_path: Path) -> None:
    run = facts(tmp_path, compared=True)
    assert run.comparison is not None
    left = "3 left out since one of the two has learned from them"
    assert f"{left}, or since they are of a class that only one of them knows" in Reading(page(run)).words
    alike = replace(run, comparison=run.comparison.model_copy(update={"gone": (), "detectable": {"test": math.nan}}))
    told = Reading(page(alike)).words
    assert left in told and "only one of them knows" not in told
    assert "could have shown" not in told, "what is not known is not told"


@pytest.mark.parametrize(("threshold", "told"), [
    (0, "in 99.5 of 100 cases at least they are right"), (0.9, "are right in 99.5 of 100 cases at least"),
    (None, "promised that 99.5 of 100 answers are right"),
])  # fmt: skip
def test_a_share_of_right_answers_that_was_asked_for_is_not_rounded(
    tmp_path: Path, threshold: float | None, told: str
) -> None:
    run = facts(tmp_path)
    decisions = {"chosen_on": "val", "abstain": {"accuracy": 0.995, "confidence": 0.95, "threshold": threshold}}
    (run.evaluation.report / "decisions.json").write_text(json.dumps(decisions))
    curve = pd.DataFrame({"threshold": [0.0, 0.9], "coverage": [1.0, 0.5], "accuracy": [0.9, 1.0]})
    curve.to_csv(run.evaluation.report / "test_risk_coverage.csv", index=False)
    assert told in Reading(page(run)).words


def test_a_section_is_there_where_there_is_something_to_tell(tmp_path: Path) -> None:
    run = facts(tmp_path)
    assert Reading(page(run)).sections == ["verdict", "metrics", "data", "method", "cost", "lineage"]
    report = run.evaluation.report
    rows = pd.DataFrame({"slice": ["dark"], "kind": ["declared"], "images": [9], "accuracy": [0.5], "low": [0.2],
                         "high": [0.8], "rest": [0.9], "p_holm": [0.02], "note": ["mostly ants"]})  # fmt: skip
    rows.to_csv(report / "test_slices.csv", index=False)
    read = Reading(page(run))
    assert "slices" in read.sections and "dark mostly ants declared 9 0.5000" in read.words


def test_of_several_labels_it_is_said_which_one_is_wrong(tmp_path: Path) -> None:
    run = facts(tmp_path)
    targets = (run.dataset.target.model_copy(update={"kind": "labels"}),)
    run = replace(run, dataset=run.dataset.model_copy(update={"targets": targets}))
    figures = {"test/average_precision_macro": (0.9, 0.8, 0.95)}
    run = replace(run, evaluation=run.evaluation.model_copy(update={"metrics": figures}))
    mistake = {"path": ["0.png"], "hash": [f"{0:032x}"], "label": ['["ant", "bee"]'], "predicted": ['["bee"]'],
               "probability": [0.02]}  # fmt: skip
    file = run.evaluation.report / "test_mistakes.csv"
    pd.DataFrame(mistake).to_csv(file, index=False)
    assert "ant, bee taken for bee (2%)" in Reading(page(run)).words
    pd.DataFrame(mistake | {"wrong": ["ant"]}).to_csv(file, index=False)
    assert "ant, bee taken for bee (ant 2%)" in Reading(page(run)).words


def test_copies_under_different_labels_are_the_first_suspects_and_each_picture_is_shown_once(tmp_path: Path) -> None:
    run = facts(tmp_path)
    content = [f"{i:032x}" for i in range(3)]
    copies = {"path": ["a.png", "b.png"], "hash": content[0], "split": "", "label": ["ant", "bee"]}
    pd.DataFrame(copies).to_csv(run.dataset.report / "contradictions.csv", index=False)
    doubted = {"path": ["1.png", "2.png"], "hash": content[1:], "split": "test", "label": "ant", "suggested": "wasp",
               "why": "wasp 0.99", "score": [0.99, 0.98]}  # fmt: skip
    pd.DataFrame(doubted).to_csv(run.evaluation.report / "suspects.csv", index=False)
    told = Reading(page(run)).words
    assert "Labels that may be wrong: 4" in told
    assert told.count("looks like") == 3
    assert told.index("the same file as b.png, which is bee") < told.index("wasp 0.99")


def test_what_the_network_looks_at_is_shown_where_it_was_looked_at(tmp_path: Path) -> None:
    (seen := tmp_path / "seen").mkdir()
    Image.new("RGB", (50, 50)).save(seen / "one.jpg")
    answers = {"path": "1.png", "hash": "1", "label": ["ant", "ant", "wasp"], "predicted": ["bee", "", "wasp"],
               "explained": ["bee", "ant", "wasp"], "speaks": [True, False, True], "probability": [0.8, 0.1, 0.7],
               "right": [False, False, True], "picture": "one.jpg"}  # fmt: skip
    pd.DataFrame(answers).to_csv(seen / "explanations.csv", index=False)
    severities = [{"corruption": "blur", "severity": s, "images": 30, "accuracy": 0.9 - s / 10, "low": 0.1, "high": 1.0,
                   "shift": 0.1 * s} for s in range(3)]  # fmt: skip
    pd.DataFrame(severities).to_csv(seen / "robustness.csv", index=False)
    read = Reading(page(facts(tmp_path, inspection=Inspection(fingerprint="i", report=seen, metrics={}, images={}))))
    assert {"explanation", "robustness"} <= set(read.sections)
    assert "ant taken for bee (80%)" in read.words and "A sample of 30 images of test" in read.words
    assert "ant missed (10%); nothing in the image speaks for it" in read.words and "wasp (70%)" in read.words


def test_what_is_left_under_attack_is_shown_with_corruptions_or_without(tmp_path: Path) -> None:
    (seen := tmp_path / "seen").mkdir()
    attacks = {"radius": [0, 0.007843, 0.015686], "images": 40, "accuracy": [0.9, 0.45, 0.1], "low": [0.8, 0.3, 0.04],
               "high": [0.95, 0.6, 0.23]}  # fmt: skip
    pd.DataFrame(attacks).to_csv(seen / "attacks.csv", index=False)
    read = Reading(page(facts(tmp_path, inspection=Inspection(fingerprint="i", report=seen, metrics={}, images={}))))
    assert "robustness" in read.sections and "A sample of" not in read.words
    assert "40 images of test" in read.words
    assert "none 0.9000 0.8000 to 0.9500 2/255 0.4500 0.3000 to 0.6000 4/255 0.1000" in read.words


def test_a_choice_within_a_budget_is_told_step_by_step(tmp_path: Path) -> None:
    tune = Step("tune", "resnet_32px", "lp_ft", 100, 2, predicted=12.0, took=10.5, score=0.9, frozen=0.85, state="done")
    rank = Step("rank", "", predicted=50.0, state="left out", why="50 s, and there are 20 s for it")
    notes = Notes(tmp_path / "notes.json", 60.0)
    notes.end([rank, tune], 44.0)
    run = replace(facts(tmp_path), choice=notes.choice(replace(tune, why="the best"), tmp_path))
    read = Reading(page(run))
    assert "choice" in read.sections and read.open == []
    assert (
        "lp_ft on resnet_32px was chosen 44 s into a budget of 60 s, on val" in read.words and "The best." in read.words
    )
    assert "tune resnet_32px lp_ft 100 2 12.0 10.5 0.9000 0.8500" in read.words
    assert "rank left out – – – – 50.0 – – – 50 s, and there are 20 s for it" in read.words


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "NA", "007")
    read = Reading(page(facts(tmp_path, classes=names)))
    assert all(name in read.words for name in names)
    assert not [tag for tag, _ in read.tags if tag == "script"]


def test_a_class_may_be_called_like_a_list(tmp_path: Path) -> None:
    names = ("[1]", "[true]", '["ant"]')
    run = facts(tmp_path, classes=names, compared=True)
    content = run.dataset.read_manifest()["hash"]
    mistake = {"path": ["0.png"], "hash": content[:1], "label": ["[1]"], "predicted": ['["ant"]'], "probability": [0.9],
               "neighbour_1": ["1.png"], "neighbour_1_hash": content[1], "neighbour_1_label": ["[true]"],
               "neighbour_1_similarity": [0.5]}  # fmt: skip
    pd.DataFrame(mistake).to_csv(run.evaluation.report / "test_mistakes.csv", index=False)
    copies = {"path": ["a.png", "b.png"], "hash": content[2], "split": "", "label": ["[1]", '["ant"]']}
    pd.DataFrame(copies).to_csv(run.dataset.report / "contradictions.csv", index=False)
    read = Reading(page(run))
    assert '[1] taken for ["ant"] (90%)' in read.words and "[true]" in read.words
    assert 'the same file as b.png, which is ["ant"]' in read.words


@pytest.mark.parametrize("count", [2, 60])
def test_any_number_of_classes_fits(tmp_path: Path, count: int) -> None:
    html = page(facts(tmp_path, classes=tuple(f"class {c}" for c in range(count))))
    assert len(html) < 5e6
    assert ('class="heat"' in html) == (count <= 20)


def test_every_section_has_its_template() -> None:
    folder = Path(__file__).parents[2] / "tasks" / "report" / "templates" / "sections"
    assert {name for name, *_ in SECTIONS} == {path.stem for path in folder.iterdir()}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_carriage_return_in_a_name_ends_no_line(tmp_path: Path, end: str) -> None:
    name = '"a\rb"' if end == "\r\n" else "a\rb"  # as Python's writer and pandas' have it
    (tmp_path / "x.csv").write_bytes(end.join(["class,train,test", f"{name},3,20", "c,4,5", ""]).encode())
    found = table(tmp_path, "x.csv")
    assert found is not None and found.to_dict("list") == {"class": ["a\rb", "c"], "train": [3, 4], "test": [20, 5]}
