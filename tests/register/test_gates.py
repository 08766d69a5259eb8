"""What each gate measures, on evaluations made by hand, and what its finding leads to."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities.model_registry import ModelVersion
from pydantic import ValidationError

from flows.config import PipelineConfig, read_config
from tasks.errors import ConfigurationError
from tasks.evaluate.comparison.pair import Pair
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.slices.parts import declared
from tasks.leak import Leak
from tasks.model.latency import Latency
from tasks.records import Candidate, Comparison, Dataset, Evaluation, Inspection
from tasks.register import gate, golden
from tasks.register.check import check_gate_classes, check_gates
from tasks.register.config import RegisterConfig
from tasks.register.duels import Duel
from tasks.register.gates import GATES
from tasks.register.gating import Evidence, Finding, Gate, outcome_of
from tasks.register.moves import Move
from tasks.register.rulings import findings_as_tags, with_outcome
from tasks.target import one_task
from tests.register.test_gate import EVEN, merit, path

NOWHERE = Path("nowhere")


def gate_named(name: str, **keys: Any) -> Gate:
    return GATES[name].model_validate({"gate": name, **keys})


def evidence(
    folder: Path, right: dict[str, float] | None = None, images: int = 100, several: bool = False, **known: Any
) -> Evidence:
    """A candidate that has that share of the test images of each domain right, which are of classes a and b in turn."""
    rows = pd.DataFrame(
        [
            {"path": f"{domain}{number}", "hash": f"{domain}{number}", "label": "ab"[number % 2], "split": "test",
             "domain": domain, "group": None, "right": number < share * images}
            for domain, share in (right or {"day": 1.0}).items()
            for number in range(images)
        ]
    )  # fmt: skip
    rows["predicted"] = np.where(rows["right"], rows["label"], rows["label"].map({"a": "b", "b": "a"}))
    if several:
        for column in ("label", "predicted"):
            rows[column] = rows[column].map(lambda label: [label])
    rows.drop(columns=["right", "predicted"]).to_parquet(folder / "manifest.parquet")
    rows[["path", "label", "hash", "predicted"]].assign(probability=0.9).to_parquet(folder / "test_predictions.parquet")
    dataset = Dataset(
        fingerprint="d", source="s", version="v", manifest=folder / "manifest.parquet", report=folder, images=NOWHERE,
        targets=one_task(("a", "b"), several), counts={}, choose_on="val", report_on="test", quarantined=0,
    )  # fmt: skip
    candidate = Candidate(fingerprint="c", method="linear", head=NOWHERE, curves=NOWHERE, chosen={}, score=0.9)
    told = {"metrics": {"test/ece": (0.04, 0.02, 0.06)}, "leaks": known.get("leaks", {})}
    evaluation = Evaluation(fingerprint="e", report=folder, **told)
    return Evidence(dataset, candidate, evaluation, known.get("comparison"), known.get("inspection"), folder)


def comparison(folder: Path, **changes: Any) -> Comparison:
    values = {
        "fingerprint": "x", "report": folder, "version": 3, "judged_on": "val", "images": {"val": 200, "test": 200},
        "left_out": {}, "metrics": {}, "p_values": {}, "detectable": {}, "gained": {}, "lost": {},
    }  # fmt: skip
    return Comparison(**values | changes)


def measured(name: str, about: Evidence, **keys: Any) -> Finding:
    found = gate_named(name, **keys).measure(about)
    assert found is not None
    return found


def test_a_failure_leads_to_what_the_configuration_says_and_what_cannot_be_told_to_a_person() -> None:
    passed, failed, untold = (Finding(each, "") for each in (True, False, None))
    for on_failure, outcomes in {
        "approve": ("pass", "needs approval", "needs approval"),
        "reject": ("pass", "reject", "needs approval"),
        "warn": ("pass", "pass", "pass"),
    }.items():
        assert tuple(outcome_of(each, on_failure) for each in (passed, failed, untold)) == outcomes


def test_a_list_of_gates_adds_to_those_that_always_stand_and_changes_their_keys() -> None:
    assert [each.gate for each in RegisterConfig().gates] == ["chance", "champion", "leak", "parity"]
    chosen = RegisterConfig.model_validate({"gates": ["slices", {"gate": "leak", "on_failure": "reject"}]}).gates
    assert [each.gate for each in chosen] == ["chance", "champion", "parity", "slices", "leak"]
    assert chosen[-1].on_failure == "reject"
    with pytest.raises(ValidationError, match="name one of better and margin"):
        RegisterConfig.model_validate({"gates": [{"gate": "champion", "better": True, "margin": 0.1}]})


def test_worse_on_one_domain_though_better_on_average_is_stopped_by_the_slices(tmp_path: Path) -> None:
    domains = np.repeat(["photo", "sketch"], [300, 60])
    rows = pd.DataFrame({"path": [str(n) for n in range(360)], "label": "a", "domain": domains, "group": None})
    ours, theirs = np.ones(360, bool), np.ones(360, bool)
    theirs[:60] = False  # of the photos
    ours[300:325] = False  # of the sketches
    pair = Pair(
        "val", rows, ("a", "b"), np.zeros(360, int), *(np.stack([of, ~of], 1).astype(float) for of in (ours, theirs)),
        None, 0,
    )  # fmt: skip
    assert ours.mean() > theirs.mean()
    about = evidence(tmp_path, comparison=comparison(tmp_path))
    parts = declared(rows, about.dataset, ["domain"])
    pair.slices(0, parts).to_csv(tmp_path / "val_slices.csv", index=False)
    found = measured("slices", about)
    assert found.passed is False and found.against == 3
    assert found.reason.startswith("worse on domain sketch: 0.5833 where it was 1.0000 (60 val images, p ")
    assert measured("slices", about, by=["class"]).passed
    assert measured("slices", about, by=["brightness"]).passed is None
    assert measured("slices", evidence(tmp_path)).reason == "there is no champion to be held against"


def test_no_part_is_worse_by_chance_alone_of_many(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "slice": [f"domain {n}" for n in range(20)], "kind": "domain", "images": 50, "champion": 0.9, "candidate": 0.8,
        "difference": -0.1, "low": -0.2, "high": 0.0, "p": [0.02, *[0.5] * 19],
    })  # fmt: skip
    table.to_csv(tmp_path / "val_slices.csv", index=False)
    about = evidence(tmp_path, comparison=comparison(tmp_path))
    assert measured("slices", about).passed
    table.head(1).to_csv(tmp_path / "val_slices.csv", index=False)
    assert measured("slices", about).passed is False


def test_the_error_of_a_number_is_told_in_the_digits_that_count(tmp_path: Path) -> None:
    pd.DataFrame({
        "slice": ["domain day"], "kind": "domain", "images": 50, "champion": 2.5e-6, "candidate": 1.25e-5,
        "difference": -1e-5, "low": -2e-5, "high": -1e-6, "p": 4e-5,
    }).to_csv(tmp_path / "val_slices.csv", index=False)  # fmt: skip
    held = comparison(tmp_path).model_copy(update={"metrics": {"val/mae": (1e-5, 2e-6, -8e-6, -9e-6, -7e-6)}})
    told = measured("slices", evidence(tmp_path, comparison=held)).reason
    assert told == "worse on domain day: MAE 1.25e-05 where it was 2.5e-06 (50 val images, p 4e-05)"


def test_a_package_that_fails_without_a_word_is_told_by_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Dataset, "image", lambda *_: tmp_path / "manifest.parquet")
    monkeypatch.setattr(Evidence, "bundle", NOWHERE)
    monkeypatch.setattr(golden, "backbones_in", fail)
    found = measured("parity", evidence(tmp_path))
    assert (found.passed, found.reason) == (False, "the packaged model cannot be used: AssertionError")


def test_a_part_whose_errors_are_no_numbers_is_worse(tmp_path: Path) -> None:
    nan = float("nan")
    pd.DataFrame({
        "slice": ["domain day"], "kind": "domain", "images": 50, "champion": 0.9, "candidate": nan, "difference": nan,
        "low": nan, "high": nan, "p": 0.0001,
    }).to_csv(tmp_path / "val_slices.csv", index=False)  # fmt: skip
    found = measured("slices", evidence(tmp_path, comparison=comparison(tmp_path)))
    assert found.passed is False and found.reason.startswith("worse on domain day: nan where it was 0.9000")


@pytest.mark.parametrize(("served", "passed"), [(0.9, True), (0.7, False), (float("nan"), False)])
def test_a_package_passes_that_serves_what_was_evaluated_and_no_other_that_answers_nan(
    served: float, passed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = evidence(tmp_path)
    monkeypatch.setattr(Dataset, "image", lambda *_: tmp_path / "manifest.parquet")
    monkeypatch.setattr(Evidence, "bundle", NOWHERE)
    monkeypatch.setattr(golden, "backbones_in", lambda _: [({"precision": "float32"}, NOWHERE)])
    top = [{"label": label, "probability": served} for label in "ab"]
    monkeypatch.setattr(golden, "served_answers", lambda _, contents, __: [{"top_k": top}] * len(contents))
    found = measured("parity", about)
    assert found.passed is passed
    assert passed or found.reason.startswith("the packaged model is not the evaluated one: 12 of 12 held-out images")
    assert (found.measured == "nan") == ("some answers are no numbers" in found.reason) == (served != served)


def test_leaked_images_are_told_of_whichever_split_they_stand_in(tmp_path: Path) -> None:
    leak = Leak(images=100, near=60, near_figure=1, far=(0.5, 0.3, 0.7), inflation=(0.2, 0.1, 0.3))
    few = leak.model_copy(update={"near": 3, "inflation": (0.0, -0.1, 0.1)})
    for leaks, passed in (({"test": leak}, False), ({"val": few, "test": leak}, False), ({"val": few}, True)):
        found = measured("leak", evidence(tmp_path, leaks=leaks))
        assert found.passed is passed
        assert passed or found.reason.startswith("test: 60 of 100 images have a near neighbour among those learned")


@pytest.mark.parametrize("several", [False, True])
def test_values_of_a_column_are_apart_where_the_whole_interval_says_so(tmp_path: Path, several: bool) -> None:
    wide = evidence(tmp_path, {"day": 0.95, "dusk": 0.9, "night": 0.5}, several=several)
    found = measured("fairness", wide)
    assert found.passed is False and found.measured == "0.4500"
    assert found.reason.startswith("accuracy on test is 0.5000 for domain night and 0.9500 for day: 0.4500 apart [")
    assert measured("fairness", wide, at_most=0.4).passed, "the interval reaches below it"
    recall = measured("fairness", wide, recall="b")
    assert recall.passed is False and "recall of b" in recall.reason
    assert measured("fairness", wide, recall="c").passed is None
    few = evidence(tmp_path, {"day": 1.0, "night": 0.0}, images=9, several=several)
    assert measured("fairness", few).passed is None


def test_a_value_that_is_a_single_group_tells_nothing_and_groups_themselves_are_compared_by_images(
    tmp_path: Path,
) -> None:
    about = evidence(tmp_path, {"day": 1.0, "dusk": 1.0, "night": 0.0})
    rows = pd.read_parquet(tmp_path / "manifest.parquet")
    rows.assign(group=rows["domain"]).to_parquet(tmp_path / "manifest.parquet")
    found = measured("fairness", about)
    assert found.passed is None and found.reason == (
        "domain day, dusk, night are of one group each, which tells nothing"
    )
    groups = measured("fairness", about, column="group")
    assert groups.passed is False and groups.measured == "1.0000"
    rows.assign(group=rows["domain"].where(rows["domain"] == "night")).to_parquet(tmp_path / "manifest.parquet")
    found = measured("fairness", about)
    assert found.passed is None and found.reason.endswith("domain night is of one group each, which tells nothing")


def test_calibration_is_below_a_limit_or_not_worse_than_the_champions(tmp_path: Path) -> None:
    assert measured("calibration", evidence(tmp_path), ece=0.05).passed
    assert measured("calibration", evidence(tmp_path), ece=0.03).passed is False
    assert measured("calibration", evidence(tmp_path)).passed
    for low, passed in ((0.01, False), (-0.01, True), (float("nan"), None)):
        told = comparison(tmp_path, metrics={"test/ece": (0.06, 0.03, 0.03, low, 0.05)})
        found = measured("calibration", evidence(tmp_path, comparison=told))
        assert (found.passed, found.against) == (passed, 3)


def test_what_is_left_of_accuracy_under_corruptions_is_held_against_the_clean_one(tmp_path: Path) -> None:
    pd.DataFrame({"corruption": ["none", "blur"], "severity": [0, 1], "accuracy": [0.8, 0.3]}).to_csv(
        tmp_path / "robustness.csv", index=False
    )
    seen = Inspection(
        fingerprint="i", report=tmp_path, metrics={"test/robustness": (0.3, 0.2, 0.4)}, images={"robustness": 64}
    )
    assert measured("robustness", evidence(tmp_path, inspection=seen), share=0.37).passed
    found = measured("robustness", evidence(tmp_path, inspection=seen))
    assert found.passed is False and found.reason.startswith("accuracy 0.3000 on corrupted images, 0.8000 on clean")
    assert measured("robustness", evidence(tmp_path)).passed is None


def test_a_model_that_is_slower_or_larger_than_the_limit_is_told_by_how_much(tmp_path: Path) -> None:
    about = evidence(tmp_path)
    about.__dict__["latency"] = Latency(12.0, 31.2, 100, 5, "2 CPU cores")
    found = measured("latency", about, p95=30)
    assert found.passed is False and (found.threshold, found.measured) == ("at most 30 ms", "31.2 ms")
    assert measured("latency", about, p95=32).passed
    package = tmp_path / "model"
    package.mkdir()
    (package / "classifier.json").write_bytes(b"0" * 2_000_000)
    assert measured("size", about, megabytes=2).passed
    assert measured("size", about, megabytes=1.9).passed is False


def test_findings_of_ingestion_count_by_their_kind_and_whether_images_were_kept_out(tmp_path: Path) -> None:
    found = {"straddling": {"policy": "warn", "count": 3}, "conflicting_label": {"policy": "quarantine", "count": 2}}
    (tmp_path / "checks.json").write_text(json.dumps({"findings": found}))
    about = evidence(tmp_path)
    assert measured("checks", about).reason == "findings in the data: 3 straddling"
    assert measured("checks", about, at_most=3).passed
    assert measured("checks", about, at_most=3, kept_out=True).measured == "5"
    assert measured("checks", about, findings=["truncated"]).passed
    with pytest.raises(ValidationError, match="no kind of finding 'truncatd'"):
        gate_named("checks", findings=["truncatd"])


def version(tmp_path: Path, gates: list[Any], about: Evidence, **tags: str) -> ModelVersion:
    """Version 2, as its run left it."""
    made = ModelVersion("fruit", "2", 0)
    config = RegisterConfig.model_validate({"gates": [{"gate": "parity", "on_failure": "warn"}, *gates]})
    asked = [each for each in config.gates if each.gate != "parity"]
    made.tags.update({"candidate": "2", **merit(0.9).tags, **findings_as_tags(asked, about), **tags})
    return made


def judged(made: ModelVersion, moves: list[Move]) -> tuple[str, str]:
    first = ModelVersion("fruit", "1", 0)
    first.tags.update({"candidate": "1", **merit(0.9).tags})
    outcome, verdict, rulings = gate.judge(made, {1: first, 2: made}, moves)
    for key, ruling in rulings.items():
        made.tags[key] = with_outcome(made, key, ruling)
        assert len(made.tags[key]) < 5_000
    return outcome, verdict


def test_the_worst_word_of_all_gates_is_the_verdict_and_says_which_ones_spoke_it(tmp_path: Path) -> None:
    about = evidence(tmp_path, {"day": 1.0, "night": 0.5})
    fair, calibrated = {"gate": "fairness"}, {"gate": "calibration", "ece": 0.01, "on_failure": "reject"}
    assert judged(version(tmp_path, [], about), path(1)) == (
        "pass", "passed: validation accuracy 0.9000, champion (version 1) 0.9000",
    )  # fmt: skip
    outcome, verdict = judged(version(tmp_path, [fair], about), path(1))
    assert outcome == "needs approval" and verdict.startswith("needs approval: accuracy on test is 0.5000 for domain")
    assert verdict.endswith("(gate fairness)")
    outcome, verdict = judged(version(tmp_path, [fair, calibrated], about), path(1))
    assert outcome == "reject" and verdict.startswith("rejected: test/ece 0.0400 [0.0200, 0.0600] (gate calibration);")
    warned = version(tmp_path, [fair | {"on_failure": "warn"}], about)
    assert judged(warned, path(1))[0] == "pass"
    assert gate.judge(warned, {1: warned, 2: warned}, path(1))[2]["gate.4"].reason.startswith("only warned: accuracy")


def test_what_was_held_against_a_champion_of_the_past_is_for_a_person_to_decide(tmp_path: Path) -> None:
    told = comparison(tmp_path, metrics={"test/ece": (0.03, 0.06, -0.03, -0.05, -0.01)}, version=1)
    made = version(tmp_path, ["calibration"], evidence(tmp_path, comparison=told))
    assert judged(made, path(1))[0] == "pass"
    outcome, verdict = judged(made, [Move("promote", 1, None, "ada", "", ""), Move("promote", 2, 1, "ada", "", "")])
    assert outcome == "needs approval"
    assert (
        "held against version 1, and champion is version 2 now: approve or reject it, since a run with the same "
        "settings measures nothing anew (gate calibration)"
    ) in verdict


@pytest.mark.parametrize("name", ["slices", "calibration", "tasks"])
def test_what_was_held_against_nobody_is_for_a_person_where_there_is_a_champion(name: str, tmp_path: Path) -> None:
    made = version(tmp_path, [{"gate": name, "on_failure": "reject"}], evidence(tmp_path))
    assert judged(made, [])[0] == "pass", "the first one is held against nobody"
    outcome, verdict = judged(made, path(1))
    assert outcome == "needs approval" and verdict.startswith(
        "needs approval: measured with no champion at hand, and champion is version 1 now: approve or reject it"
    )
    made.tags["candidate"] = "1"  # the champion itself, registered anew since its files are gone
    assert judged(made, path(1))[0] == "pass"


@pytest.mark.parametrize(
    ("keys", "low", "passed"),
    [({}, -0.02, True), ({"better": True}, -0.02, False), ({"better": True}, 0.01, True),
     ({"margin": 0.03}, -0.02, True), ({"margin": 0.01}, -0.02, False)],
)  # fmt: skip
def test_the_champion_gate_asks_for_as_much_as_it_was_told(
    keys: dict[str, Any], low: float, passed: bool, tmp_path: Path
) -> None:
    duel = Duel(**EVEN.__dict__ | {"difference": 0.02, "low": low, "high": 0.05})
    made = version(tmp_path, [{"gate": "champion", **keys}], evidence(tmp_path), **duel.tags)
    outcome, verdict = judged(made, path(1))
    assert (outcome == "pass") is passed and (passed or "not shown to be " in verdict)
    alone = version(tmp_path, [{"gate": "champion", **keys}], evidence(tmp_path))
    assert judged(alone, path(1))[0] == ("needs approval" if keys else "pass")


def test_a_gate_of_another_headstart_counts_by_what_it_found(tmp_path: Path) -> None:
    made = version(tmp_path, [], evidence(tmp_path))
    settings = {"gate": "weather", "on_failure": "reject", "rain": 3}
    finding = {"passed": False, "reason": "it rains", "threshold": "", "measured": "", "against": None}
    made.tags["gate.9"] = json.dumps({"settings": settings, "finding": finding})
    assert judged(made, path(1)) == ("reject", "rejected: it rains (gate weather)")


@pytest.mark.parametrize(
    ("gates", "evaluate", "told"),
    [
        (["robustness"], {"robustness": 0}, "evaluate.robustness is 0"),
        ([{"gate": "slices", "by": ["class", "shape"]}], {}, "'shape', which evaluate.slices does not have"),
        ([{"gate": "fairness", "recall": "cat"}], {}, "fairness names 'cat', which is none of the classes"),
        (["robustness", {"gate": "slices", "by": ["class"]}, {"gate": "fairness", "recall": "a"}], {}, None),
    ],
)
def test_what_a_gate_could_never_measure_is_told_before_anything_takes_time(
    gates: list[Any], evaluate: dict[str, Any], told: str | None
) -> None:
    config = RegisterConfig.model_validate({"gates": gates})
    with pytest.raises(ConfigurationError, match=told) if told else nullcontext():
        check_gates(config, EvaluateConfig.model_validate(evaluate))
        check_gate_classes(config, ("a", "b"))


@pytest.mark.parametrize(
    ("gates", "told"),
    [
        (["slicez"], "register.gates.0: there is no gate 'slicez'; did you mean 'slices'?"),
        ([{"gate": "latency", "p95": 9, "p90": 9}], "(gate latency): unknown key 'p90'; did you mean 'p95'?"),
        (["leak", "latency"], "register.gates.1 (gate latency): the key 'p95' is missing"),
        ([{"latency": None}], "register.gates.0 (gate latency): the key 'p95' is missing"),
        ([{"latensy": {"p95": 50}}], "register.gates.0: there is no gate 'latensy'; did you mean 'latency'?"),
        ([{"gate": "leak", "on_failure": "x"}], "(gate leak): on_failure: input should be 'approve', 'reject' or"),
    ],
)
def test_a_wrong_gate_is_one_line_that_names_it(gates: list[Any], told: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(json.dumps({"name": "x", "register": {"gates": gates}}))
    with pytest.raises(ConfigurationError) as raised:
        read_config(tmp_path / "x.yaml", (), PipelineConfig)
    assert told in str(raised.value) and "\n" not in str(raised.value)
