"""The gate: what becomes champion by itself, what waits, and what it is told."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from tasks.evaluate.scores.intervals import wilson
from tasks.records import Candidate, Dataset, Evaluation
from tasks.register import gate, ledger, moves, registry
from tasks.register.approval import APPROVAL, approve, decision_on, reject, waiting
from tasks.register.duels import Duel
from tasks.register.gating import Standing
from tasks.register.merits import LISTED, Merit
from tasks.register.moves import Move
from tasks.register.registry import get_model
from tasks.register.rulings import LEAK, rule, with_outcome
from tasks.register.succession import FEWEST
from tasks.register.tags import ADAPTED, LEARNED_FROM, PARTIAL
from tasks.register.turns import turn
from tasks.target import one_task

HERE = Path("nowhere")
FRUIT = '["apple", "pear", "plum"]'


def merit(score: float, count: int = 300, **changes: Any) -> Merit:
    _, low, high = wilson(round(score * count), count)
    return replace(Merit("accuracy", score, low, high, 1 / 3, FRUIT, "v1"), **changes)


def versions(*merits: Merit | None) -> dict[int, ModelVersion]:
    """Versions 1, 2, ... of those merits; None: of other means."""
    return {
        number: _version(number, {} if each is None else {"candidate": str(number), **each.tags})
        for number, each in enumerate(merits, 1)
    }


def _version(number: int, tags: dict[str, str]) -> ModelVersion:
    version = ModelVersion("fruit", str(number), 0)
    version.tags.update(tags)
    return version


def path(*numbers: int | None, who: str = "gate") -> list[Move]:
    """Promotions of those versions one after another, the first one by a person."""
    return [
        Move("promote", number, None if place == 0 else numbers[place - 1], "ada" if place == 0 else who, "", "")
        for place, number in enumerate(numbers)
    ]


def judge(*merits: Merit | None, made: list[Move]) -> tuple[bool, str]:
    """Of the last one."""
    known = versions(*merits)
    return judged(known[len(merits)], known, made)


def judged(version: ModelVersion, known: dict[int, ModelVersion], made: list[Move]) -> tuple[bool, str]:
    """Whether a version passes, and the verdict without the names of the gates."""
    outcome, verdict, _ = gate.judge(version, known, made)
    return outcome == "pass", re.sub(r" \(gate \w+\)", "", verdict)


def test_the_first_version_passes_unless_it_is_no_better_than_chance() -> None:
    assert judge(merit(0.9), made=[]) == (True, "passed: the first version")
    assert judge(merit(0.36), made=[]) == (
        False,
        "rejected: validation accuracy 0.3600 [0.3078, 0.4158] is no better than always naming the commonest class, "
        "0.3333",
    )
    assert judge(merit(0.36), merit(0.9), made=[])[0]
    ranked = merit(0.36, figure="average precision")
    assert "no better than images in any order" in judge(ranked, made=[])[1]


def test_no_gate_rejects_what_is_adapted_to_another_domain_for_what_it_is_on_this_one() -> None:
    known = versions(merit(0.36))
    known[1].tags[ADAPTED] = "yes"
    outcome, verdict, _ = gate.judge(known[1], known, [])
    assert outcome == "needs approval" and "is for a domain that no validation image is of" in verdict


def test_chance_is_told_of_a_later_version_too_however_bad_the_champion_is() -> None:
    passed, verdict = judge(merit(0.2), merit(0.37), made=path(1))
    assert not passed and "no better than" in verdict


@pytest.mark.parametrize(
    ("score", "passed", "told"),
    [
        (0.95, True, "passed: validation accuracy 0.9500, champion (version 1) 0.9000"),
        (0.90, True, "passed: validation accuracy 0.9000, champion (version 1) 0.9000"),
        (0.88, True, "passed: validation accuracy 0.8800, champion (version 1) 0.9000, whose interval begins at "),
        (
            0.86,
            False,
            "needs approval: validation accuracy 0.8600, champion (version 1) 0.9000, whose interval begins at ",
        ),
    ],
)
def test_what_is_not_worse_than_chance_explains_passes(score: float, passed: bool, told: str) -> None:
    bound = f"{wilson(270, 300)[1]:.4f}" if told.endswith(" ") else ""
    assert judge(merit(0.9), merit(score), made=path(1)) == (passed, told + bound)


@pytest.mark.parametrize("methods", [("linear", "mcc"), ("cdan", "linear"), ("mcc", "mcc")])
def test_where_one_is_adapted_to_another_domain_a_person_decides(
    methods: tuple[str, str],
) -> None:
    known = versions(merit(0.9), merit(0.95))
    for number, method in enumerate(methods, 1):
        known[number].tags["method"] = method
    passed, verdict = judged(known[2], known, path(1))
    assert not passed and verdict.startswith(
        "needs approval: cannot be compared: a model that is adapted is for a domain"
    )
    for number in (1, 2):
        known[number].tags[ADAPTED] = "no"  # caution has kept the models that have seen no image of the target
    assert judged(known[2], known, path(1))[0]
    known[1].tags[ADAPTED] = "yes"
    assert not judged(known[2], known, path(1))[0]


def test_a_lucky_score_does_not_shut_the_gate_for_what_is_as_good() -> None:
    lucky, honest, worse = (merit(right / 117, 117) for right in (117, 114, 110))
    assert judge(lucky, honest, made=path(1))[0] and not judge(lucky, worse, made=path(1))[0]


def test_many_small_steps_down_do_not_add_up_until_a_person_chooses() -> None:
    falling = [merit(score) for score in (0.90, 0.88, 0.85)]
    passed, verdict = judge(*falling, made=path(1, 2))
    assert not passed and "an earlier champion (version 1) 0.9000" in verdict
    assert judge(*falling, made=path(1, 2, who="ada"))[0]


EVEN = Duel(1, "val", 200, "accuracy", 0.92, 0.92, 0.0, -0.02, 0.02, 1.0)


def held_against(duel: Duel, *merits: Merit, made: list[Move]) -> tuple[bool, str]:
    """The last version, which says how it stood against a champion."""
    known = versions(*merits)
    known[len(merits)].tags.update(duel.tags)
    return judged(known[len(merits)], known, made)


@pytest.mark.parametrize(
    ("changes", "passed", "told"),
    [
        ({"ours": 0.96, "difference": 0.04, "low": 0.01, "high": 0.07}, True, "passed: better, accuracy 0.9600, "),
        ({}, True, "passed: not worse, accuracy 0.9200, champion (version 1) 0.9200 on the same 200 val images: "
         "+0.0000 [-0.0200, +0.0200]"),
        ({"ours": 0.88, "low": -0.07, "high": -0.01}, False, "needs approval: worse, accuracy 0.8800, "),
        ({"gone": ("pear",)}, False, "needs approval: classes are gone (pear); of the others, accuracy 0.9200, "),
        ({"gone": tuple("abcde"), "more_gone": 1150}, False, "needs approval: classes are gone (a, b, c and 1,152 "),
        ({"new": ("quince",)}, True, "passed: not worse, "),
    ],
)  # fmt: skip
def test_on_the_same_images_the_difference_decides_whatever_else_was_measured(
    changes: dict[str, Any], passed: bool, told: str
) -> None:
    other = merit(0.8, images="v2", classes='["apple", "pear", "plum", "quince"]')
    found = held_against(replace(EVEN, **changes), merit(0.99), other, made=path(1))
    assert found[0] == passed and found[1].startswith(told)


def test_a_comparison_with_an_earlier_champion_or_on_a_handful_of_images_decides_nothing() -> None:
    better = replace(EVEN, ours=1.0, difference=0.08, low=0.05, high=0.11)
    other = merit(0.99, images="v2")
    passed, verdict = held_against(replace(better, images=FEWEST - 1), merit(0.9), merit(0.95), other, made=path(1))
    assert not passed and "other validation images" in verdict
    for third in (other, merit(0.99)):  # whatever its score is
        passed, verdict = held_against(better, merit(0.9), merit(0.95), third, made=path(1, 2))
        assert not passed and "it was held against version 1, and champion is 2 now" in verdict


@pytest.mark.parametrize(("low", "high"), [(float("nan"), float("nan")), (-1.0, 1.0)])
def test_where_chance_is_not_known_a_person_decides(low: float, high: float) -> None:
    duel = replace(EVEN, ours=0.2, difference=-0.72, low=low, high=high)
    passed, verdict = held_against(duel, merit(0.9), merit(0.95), made=path(1))
    assert not passed and "all images are of one group" in verdict


def test_steps_that_are_no_worse_each_do_not_add_up() -> None:
    duel = replace(EVEN, version=2)
    passed, verdict = held_against(duel, merit(0.90), merit(0.88), merit(0.85), made=path(1, 2))
    assert not passed and "an earlier champion (version 1) 0.9000" in verdict


def test_a_score_that_counts_images_which_leaked_wins_nothing_where_few_others_are_left() -> None:
    few = replace(EVEN, images=FEWEST - 1, near=40)
    known = (merit(0.9), merit(0.95))
    assert held_against(replace(few, near=0), *known, made=path(1))[0]
    assert held_against(few, *known, made=path(1)) == (
        False,
        f"needs approval: cannot be compared: of {FEWEST + 39} val images, one of the two has learned from nearly the "
        "same as 40",
    )
    assert held_against(replace(few, images=FEWEST), *known, made=path(1))[0]


def test_a_duel_is_read_from_tags_as_it_was_written() -> None:
    duel = replace(EVEN, new=("é",), gone=("x", "y"), near=3, more_new=2)
    assert Duel.of(_version(1, duel.tags)) == duel
    edited = json.dumps(json.loads(duel.tags["compared"]) | {"images": "many", "low": None})
    for told in ({}, {"compared": "{}"}, {"compared": "no JSON"}, {"compared": "[]"}, {"compared": edited}):
        assert Duel.of(_version(1, told)) is None
    blind = replace(EVEN, low=-math.inf, high=math.inf)
    assert Duel.of(_version(1, blind.tags)) == blind


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": '["apple", "plum", "quince"]'}, "other classes (pear gone, quince new)"),
        ({"classes": '["apple", "plum"]'}, "other classes (pear gone)"),
        ({"classes": '["apple", "c", "d", "e", "f", "g", "pear", "plum"]'}, "other classes (c, d, e and 2 more new)"),
        ({"classes": "1,200 classes, 0123"}, "other classes (1,200 where there were 3)"),
        ({"images": "v2"}, "other validation images"),
        ({"figure": "average precision"}, "average precision with accuracy"),
    ],
)
def test_what_was_measured_on_something_else_is_not_compared(changes: dict[str, str], told: str) -> None:
    assert judge(merit(0.7), merit(0.99, **changes), made=path(1)) == (
        False, f"needs approval: cannot be compared: {told}",
    )  # fmt: skip


def test_a_champion_of_other_means_or_of_old_is_not_compared() -> None:
    wanted = "needs approval: cannot be compared: champion (version 1) does not say what it was measured on"
    assert judge(None, merit(0.99), made=path(1)) == (False, wanted)
    old = _version(1, {"candidate": "1", "score": "0.5"})
    known = versions(None, merit(0.99)) | {1: old}
    assert judged(known[2], known, path(1)) == (False, wanted)
    assert judge(None, merit(0.99), made=[]) == (
        False,
        "needs approval: cannot be compared: there are versions made by other means, and none is champion",
    )
    assert judge(merit(0.9), None, made=path(1))[1].startswith("needs approval: cannot be compared: it does not say")


def test_further_tasks_of_a_champion_that_nobody_has_looked_at_are_for_a_person() -> None:
    known = versions(merit(0.9), merit(0.95))
    known[1].tags[LEARNED_FROM] = f"train,tune,{PARTIAL}"
    assert judged(known[2], known, path(1)) == (
        False,
        "needs approval: cannot be compared: champion (version 1) has further tasks, and was not at hand to be "
        "compared with",
    )
    known[2].tags.update(EVEN.tags)
    assert judged(known[2], known, path(1))[0]
    looked = versions(merit(0.9), merit(0.95))
    looked[1].tags[LEARNED_FROM] = f"train,tune,{PARTIAL}"
    finding = {"passed": True, "reason": "", "against": 1}
    for place, (name, found) in enumerate({"champion": None, "tasks": finding}.items(), 1):
        settings = {"gate": name, "on_failure": "approve"}
        looked[2].tags[f"gate.{place}"] = json.dumps({"settings": settings, "finding": found})
    assert judged(looked[2], looked, path(1))[0]


def test_a_champion_removed_by_hand_makes_no_first_version() -> None:
    removed = [*path(1), Move("outside", None, 1, "unknown", "", "")]
    passed, verdict = judge(merit(0.9), merit(0.99), made=removed)
    assert not passed and "its alias was removed" in verdict


def test_after_a_roll_back_a_person_chooses_the_next_champion() -> None:
    back = [*path(1, 2), Move("rollback", 1, 2, "ada", "", "")]
    good = merit(0.9), merit(0.95), merit(0.99)
    assert judge(*good, made=back) == (
        False, "needs approval: ada rolled back to version 1, so a person chooses the next one",
    )  # fmt: skip
    for chosen in ("promote", "outside"):
        assert judge(*good, made=[*back, Move(chosen, 2, 1, "bob", "", "")])[0]  # type: ignore[arg-type]


def dataset(folder: Path, rows: list[tuple[str, Any, str, str | None]], **changes: Any) -> Dataset:
    """Of rows (hash, label, split, group)."""
    manifest = folder / f"{len(list(folder.iterdir()))}.parquet"
    pd.DataFrame(rows, columns=["hash", "label", "split", "group"]).to_parquet(manifest)
    fields = {
        "fingerprint": "d", "source": "s", "version": "v", "manifest": manifest, "report": HERE, "images": HERE,
        "targets": one_task(("a", "b")), "counts": {}, "choose_on": "val", "report_on": "test", "quarantined": 0,
    }  # fmt: skip
    return Dataset(**fields | changes)


def test_a_version_of_an_earlier_headstart_that_says_its_figure_is_inflated_waits_even_as_the_first() -> None:
    known = versions(merit(0.9))
    known[1].tags[LEAK] = "val: 80 of 90 images have a near neighbour"
    assert judged(known[1], known, []) == (False, "needs approval: val: 80 of 90 images have a near neighbour")


def measured(
    data: Dataset,
    score: float,
    metrics: dict[str, Any] | None = None,
    cross_validated: bool = False,
    held_out: Path | None = None,
) -> Merit:
    candidate = Candidate(
        fingerprint="c", method="linear", head=HERE, curves=HERE, chosen={}, score=score,
        cross_validated=cross_validated, held_out=held_out,
    )  # fmt: skip
    return Merit.measured(data, candidate, Evaluation(fingerprint="e", report=HERE, metrics=metrics or {}))


def rows(count: int, split: str = "val", group: int | None = None) -> list[tuple[str, Any, str, str | None]]:
    """Half of them of class a and a quarter of b and c, in groups of that many."""
    return [
        (f"{split}{number}", "aabc"[number % 4], split, None if group is None else f"{split}{number // group}")
        for number in range(count)
    ]


def test_a_merit_knows_chance_its_interval_and_its_images(tmp_path: Path) -> None:
    data = dataset(tmp_path, rows(40) + rows(9, "train") + rows(5, "test"))
    made = measured(data, 0.9)
    assert made.chance == 0.5 and (made.low, made.high) == wilson(36, 40)[1:]
    assert (measured(data, 0.9, {"val/accuracy": (0.9, 0.7, 0.95)}).low) == 0.7
    assert measured(data, 0.9, {"val/accuracy": (0.9, float("nan"), float("nan"))}) == made
    # Of a head that is adapted, the evaluation's figure is of other answers than its score.
    assert measured(data, 0.9, {"val/accuracy": (0.3, 0.2, 0.4)}, held_out=HERE) == made
    assert Merit.of(_version(1, made.tags)) == made


def test_images_in_groups_count_as_many_as_there_are_groups(tmp_path: Path) -> None:
    made = measured(dataset(tmp_path, rows(40, group=4)), 0.9)
    assert (made.low, made.high) == wilson(9, 10)[1:]
    lone = measured(dataset(tmp_path, [*rows(40, group=4), ("x", "a", "val", None)]), 0.9)
    assert lone.low == wilson(10, 11)[1]


def test_the_same_images_and_classes_are_known_in_any_order_and_no_others(tmp_path: Path) -> None:
    base = rows(12)
    made = measured(dataset(tmp_path, base), 0.9)
    same = measured(dataset(tmp_path, base[::-1] + rows(4, "train"), targets=one_task(("b", "a"))), 0.9)
    assert (same.images, same.classes) == (made.images, made.classes)
    relabelled = [("val0", "b", "val", None), *base[1:]]
    for other in (base[1:], relabelled, [*base, ("x", "a", "val", None)]):
        assert measured(dataset(tmp_path, other), 0.9).images != made.images
    many = measured(dataset(tmp_path, base, targets=one_task(tuple(f"class {n}" for n in range(1200)))), 0.9)
    assert many.classes.startswith("1,200 classes, ") and len(many.classes) < LISTED and many.class_count == 1200


def test_a_score_of_cross_validation_is_one_of_other_images_than_of_tune_alone(tmp_path: Path) -> None:
    data = dataset(tmp_path, rows(20, "train") + rows(8, "tune") + rows(5, "val"), choose_on="tune", report_on="val")
    crossed, alone = measured(data, 0.75, cross_validated=True), measured(data, 0.75)
    assert crossed.images != alone.images and crossed.classes == alone.classes
    assert crossed.low == wilson(21, 28)[1] and alone.low == wilson(6, 8)[1]


def test_with_several_labels_an_image_chance_is_how_common_a_class_is(tmp_path: Path) -> None:
    labelled = [(str(number), [["a"], ["a", "b"], [], ["b"]][number % 4], "val", None) for number in range(40)]
    data = dataset(tmp_path, labelled, targets=one_task(("a", "b"), True))
    made = measured(data, 0.8)
    assert made.figure == "average precision" and made.chance == 0.5 and made.low == wilson(16, 20)[1]
    assert measured(data, 0.8, {"val/average_precision_macro": (0.8, 0.6, 0.9)}).low == 0.6


@pytest.fixture
def fruit(client: MlflowClient) -> MlflowClient:
    client.create_registered_model("fruit")
    return client


def add(client: MlflowClient, made: Merit, **tags: str) -> int:
    tags = {"candidate": repr(made), **made.tags, **tags}
    return int(client.create_model_version("fruit", "file:///nowhere", tags=tags).version)


def decide(client: MlflowClient) -> dict[str, int]:
    with turn(client, "fruit") as mine:
        moves.settle(client, "fruit")
        gate.decide(mine)
    return {alias: int(version) for alias, version in get_model(client, "fruit").aliases.items()}


def verdict(client: MlflowClient, number: int) -> str:
    return client.get_model_version("fruit", str(number)).tags["verdict"]


@pytest.mark.slow
def test_what_passes_is_champion_and_what_does_not_is_the_challenger(fruit: MlflowClient) -> None:
    add(fruit, merit(0.9))
    assert decide(fruit) == {"champion": 1}
    add(fruit, merit(0.8))
    assert decide(fruit) == {"champion": 1, "challenger": 2}
    add(fruit, merit(0.99), promote="never")
    assert decide(fruit) == {"champion": 1, "challenger": 3}
    assert verdict(fruit, 3).endswith("; waits, since register.promote is never")
    assert [move.who for move in moves.history(fruit, "fruit")] == ["gate"]


def test_versions_that_nobody_judged_are_judged_by_whoever_comes_next_in_their_order(fruit: MlflowClient) -> None:
    for score in (0.8, 0.9, 0.7):
        add(fruit, merit(score))
    assert decide(fruit) == {"champion": 2, "challenger": 3}
    assert [move.version for move in moves.history(fruit, "fruit")] == [1, 2]
    assert verdict(fruit, 1) == "passed: the first version" and "champion (version 2)" in verdict(fruit, 3)
    assert decide(fruit) == {"champion": 2, "challenger": 3}


def test_a_version_that_was_moved_and_not_given_its_verdict_is_not_judged_again(fruit: MlflowClient) -> None:
    add(fruit, merit(0.9))
    decide(fruit)
    said = verdict(fruit, 1)
    fruit.delete_model_version_tag("fruit", "1", "verdict")
    assert decide(fruit) == {"champion": 1} and verdict(fruit, 1) == said
    assert len(moves.history(fruit, "fruit")) == 1


@pytest.fixture
def has_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No version has lost its files, which none here has."""
    for module in (registry, moves):
        monkeypatch.setattr(module, "missing_files", lambda *_: None)


@pytest.fixture
def left_waiting(fruit: MlflowClient, has_files: None) -> MlflowClient:
    """Version 2 waits, and its run was killed before it gave it its verdict."""
    add(fruit, merit(0.9))
    add(fruit, merit(0.8))
    assert decide(fruit) == {"champion": 1, "challenger": 2}
    fruit.delete_model_version_tag("fruit", "2", "verdict")
    return fruit


def test_what_a_killed_run_left_waiting_waits_on_with_the_verdict_that_it_had(left_waiting: MlflowClient) -> None:
    left_waiting.delete_registered_model_alias("fruit", "challenger")
    add(left_waiting, merit(0.7))
    moves.promote(left_waiting, "fruit", 3, "", "ada")  # it would pass now
    assert decide(left_waiting) == {"champion": 3, "challenger": 2}
    assert verdict(left_waiting, 2).startswith("needs approval: validation accuracy 0.8000, champion (version 1)")
    assert [int(version.version) for version in waiting(left_waiting)] == [2]


@pytest.mark.parametrize("answer", ["rejected", "approved"])
def test_what_a_person_decided_before_the_verdict_was_written_stays_decided(
    answer: str, left_waiting: MlflowClient
) -> None:
    if answer == "rejected":
        reject(left_waiting, "fruit", 2, "too slow", "ada")
    else:
        approve(left_waiting, "fruit", 2, "for the belt", "ada")
        moves.rollback(left_waiting, "fruit", "it was worse", "bob")
    kept = left_waiting.get_model_version("fruit", "2").tags["approval"]
    assert answer in kept and decide(left_waiting) == {"champion": 1}
    assert left_waiting.get_model_version("fruit", "2").tags["approval"] == kept
    told = "needs approval: validation accuracy" if answer == "rejected" else "promoted by ada"
    assert verdict(left_waiting, 2).startswith(told) and not waiting(left_waiting)


def test_a_champion_that_a_person_replaced_before_it_got_its_verdict_does_not_come_back(
    fruit: MlflowClient, has_files: None
) -> None:
    for score in (0.8, 0.9):
        add(fruit, merit(score))
    assert decide(fruit) == {"champion": 2}
    said = verdict(fruit, 2)
    fruit.delete_model_version_tag("fruit", "2", "verdict")
    moves.promote(fruit, "fruit", 1, "the other one is too slow", "ada")
    assert decide(fruit) == {"champion": 1} and verdict(fruit, 2) == said


def test_a_near_twin_does_not_undo_a_roll_back(fruit: MlflowClient) -> None:
    for score in (0.9, 0.95):
        add(fruit, merit(score))
    assert decide(fruit)["champion"] == 2
    ledger.add(
        fruit,
        get_model(fruit, "fruit"),
        Move("rollback", 1, 2, "ada", "2999-01-01T00:00:00.0Z", ""),
        moves.history(fruit, "fruit"),
    )
    fruit.set_registered_model_alias("fruit", "champion", "1")
    add(fruit, merit(0.96))
    assert decide(fruit) == {"champion": 1, "challenger": 3} and "ada rolled back" in verdict(fruit, 3)


@pytest.mark.parametrize(
    "text", ["", "n/a", "[1]", "{}", '{"settings": "x", "finding": null}', '{"ruling": {"gate": 1}}']
)
def test_what_a_gate_found_and_somebody_has_edited_is_for_a_person(text: str) -> None:
    version = _version(1, {"candidate": "1", "gate.1": text, APPROVAL: text})
    ruled = rule(Standing(version, {1: version}, []))
    assert [(each.outcome, each.reason) for each in ruled.values()] == [
        ("needs approval", "the tag gate.1 was edited outside headstart")
    ]
    assert registry.rulings_of(version) == () and registry.gates_of(version) == ()
    assert decision_on(version, []) is None
    version.tags["gate.1"] = with_outcome(version, "gate.1", ruled["gate.1"])
    assert registry.rulings_of(version) == tuple(ruled.values())


@pytest.mark.parametrize("finding", [{"passed": "?", "reason": ""}, {"passed": True, "reason": 3}, {"passed": True}])
def test_a_finding_of_other_kinds_than_gates_write_is_for_a_person(finding: dict[str, Any]) -> None:
    settings = {"gate": "size", "megabytes": 1, "on_failure": "reject"}
    version = _version(1, {"candidate": "1", "gate.1": json.dumps({"settings": settings, "finding": finding})})
    [ruled] = rule(Standing(version, {1: version}, [])).values()
    assert (ruled.outcome, ruled.reason) == ("needs approval", "the tag gate.1 was edited outside headstart")


@pytest.mark.parametrize("text", ["[n/a", "apples, pears", "", "[1, 2]", '["apple", {}]'])
def test_classes_that_somebody_has_edited_are_for_a_person(text: str) -> None:
    edited = merit(0.9, classes=text)
    assert Merit.of(_version(1, edited.tags)) is None
    assert judge(edited, merit(0.95), made=path(1))[1] == (
        "needs approval: cannot be compared: champion (version 1) does not say what it was measured on"
    )
    told = "needs approval: cannot be compared: it does not say what it was measured on"
    assert judge(merit(0.9), edited, made=path(1)) == (False, told)
    good = [merit(0.9), edited, merit(0.95), merit(0.99)]
    assert judge(*good, made=path(1, 2, 3))[0], "one of those before the champion stops nothing"
