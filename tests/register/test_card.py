"""What MLflow shows of a version."""

from __future__ import annotations

import re
from typing import Any

from tasks.records import Comparison, Inspection, Preprocessed
from tasks.register.card import BELOW, MOST, card, with_verdict
from tasks.ruling import Ruling
from tasks.target import Target, one_task
from tests.flows.test_summary import HERE, outcome

SIZES = Preprocessed(
    fingerprint="p", size=64, fit="crop", preview=HERE, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
)  # fmt: skip
COMPARED = Comparison(
    fingerprint="x", report=HERE, version=3, judged_on="val", images={"val": 30}, left_out={"val": 2},
    metrics={"val/accuracy": (0.9, 0.8, 0.1, 0.02, 0.18), "val/recall_macro": (0.9, 0.8, 0.1, 0.02, 0.18)},
    p_values={"val": 0.02}, detectable={"val": 0.05}, gained={"val": 4}, lost={"val": 1},
    findings=("val: worse on <b>",),
)  # fmt: skip


def made(several: bool = False, comparison: Comparison | None = COMPARED, **dataset: Any) -> str:
    run = outcome(several)
    told = run.dataset.model_copy(update=dataset)
    return card("abc", "kept", told, SIZES, run.features, run.candidate, run.evaluation, comparison)


def test_it_says_what_was_learned_from_how_good_it_is_and_what_it_was_held_against() -> None:
    text = made()
    for line in (
        "| **data** | photos: 5 train, 3 val, 2 test; version `v` |",
        "| **classes** | 2: a, b |",
        "| **method** | linear (head), l2 0.1 chosen on validation |",
        "| with 95% intervals | val | test |",
        "| accuracy | 0.9000 [0.8000, 0.9100] | 0.9000 [0.8000, 0.9100] |",
        "### Against version 3",
        "| val/accuracy | 0.8000 | 0.9000 | +0.1000 [+0.0200, +0.1800] |",
        "On 30 val images that neither has learned from.",
        "- val: worse on &lt;b>",
        "![test](get-artifact?path=figures%2Ftest_confusion.png&run_uuid=kept)",
    ):
        assert line in text.splitlines(), line
    assert "recall_macro" not in text  # the tables have it


def test_it_says_where_a_choice_was_made_by_cross_validation() -> None:
    run = outcome(False)
    chosen = run.candidate.model_copy(update={"cross_validated": True})
    text = card("abc", "kept", run.dataset, SIZES, run.features, chosen, run.evaluation, COMPARED)
    assert "| **method** | linear (head), l2 0.1 chosen by cross-validation |" in text.splitlines()
    assert "| **method** | linear (head), l2 0.1 chosen on tune |" in made(choose_on="tune").splitlines()


def test_what_is_left_under_attack_is_said_where_it_was_measured() -> None:
    run = outcome(False)
    figures = {
        "test/robustness": (0.7, 0.6, 0.8),
        "test/attacked_2_255": (0.5, 0.4, 0.6),
        "test/attacked_4_255": (0, 0, 0.1),
    }
    seen = Inspection(fingerprint="i", report=HERE, metrics=figures, images={})
    text = card("abc", "kept", run.dataset, SIZES, run.features, run.candidate, run.evaluation, None, seen)
    told = "moved by at most 2/255: 0.5000 [0.4000, 0.6000], 4/255: 0.0000 [0.0000, 0.1000]."
    assert f"Right under attack, each pixel {told}" in text.splitlines()
    assert "under attack" not in made()


def test_of_the_first_version_and_of_several_labels_it_says_what_there_is() -> None:
    text = made(several=True, comparison=None)
    assert "average_precision_macro" in text and "Against" not in text and "test_precision_recall.png" in text


def test_names_break_no_table_and_much_to_say_is_no_more_than_mlflow_keeps() -> None:
    assert "| **classes** | 2: x\\|y, &lt;i> |" in made(targets=one_task(("x|y", "<i>")))
    names = tuple(f"{number:04d}" * 60 for number in range(1_000))
    text = made(targets=one_task(names), source="s" * 400)
    assert len(text) <= MOST and "| **classes** | 1,000: 0000" in text and "| accuracy |" in text
    found = made(comparison=COMPARED.model_copy(update={"findings": tuple("f" * 99 for _ in range(100))}))
    assert len(found) <= MOST and "get-artifact" in found
    listed = sum(line == f"- {'f' * 99}" for line in found.splitlines())
    assert listed > 10 and f"- and {100 - listed} more, in the report" in found.splitlines()


def rulings(count: int, reason: str) -> list[Ruling]:
    return [Ruling(gate=f"g{number}", outcome="reject", reason=reason) for number in range(count)]


def test_of_long_rulings_the_first_are_shown_and_the_facts_stay() -> None:
    text = made()
    for _ in range(3):  # judged once more, it has one verdict
        text = with_verdict(text, "rejected: " + "v" * 2000, rulings(40, "<" * 500))
        lines = text.splitlines()
        shown = sum(bool(re.match(r"\| g\d", line)) for line in lines)
        assert len(text) <= MOST and text.startswith("### rejected: v")
        assert text.count(BELOW) == text.count("rejected: v") == 1
        assert shown >= 1 and f"| and {40 - shown} more, in the tags |" in lines
        assert "| **classes** | 2: a, b |" in lines
    few = with_verdict(made(), "passed: fine", rulings(3, "fine"))
    assert sum(bool(re.match(r"\| g\d", line)) for line in few.splitlines()) == 3 and few.endswith(made())


def test_what_does_not_fit_beside_the_gates_is_left_out_from_the_end() -> None:
    about = "\n\n".join(["facts", "f" * 2_000, "g" * 3_000, "end"])
    assert with_verdict(about, "passed", rulings(1, "fine")).partition(BELOW)[2] == f"facts\n\n{'f' * 2_000}"
    long = with_verdict("f" * 4_990, "passed", rulings(1, "fine"))  # a card of an earlier version
    assert long.endswith(BELOW) and "| g0 |" in long


def test_of_very_many_tasks_the_facts_of_the_leading_one_and_of_the_method_are_told() -> None:
    many = tuple(Target(name=f"t{n}", column=f"label:t{n}", classes=("c" * 300, "d")) for n in range(30))
    lines = made(targets=many).splitlines()
    assert any(line.startswith("| **t0** |") for line in lines) and any("**method**" in line for line in lines)
    assert any(line.startswith("| and ") for line in lines) and not any("**t29**" in line for line in lines)
