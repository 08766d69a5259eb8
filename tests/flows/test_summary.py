"""A run in words, with one label an image and with several."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flows.runs.summary import Outcome, comparison_lines, describe, one_line, summary_rows
from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet, RegisteredModel, Report
from tasks.register.duels import Duel
from tasks.target import Target, one_task

HERE = Path("nowhere")
ONE = {"accuracy": 0.9, "precision_macro": 0.8, "f1_macro": 0.7, "roc_auc_macro": 0.95}
SEVERAL = {"average_precision_macro": 0.6, "f1_macro": 0.5, "f1_micro": 0.4, "exact_match": 0.3, "roc_auc_macro": 0.8}


def outcome(several: bool) -> Outcome:
    figures = SEVERAL if several else ONE
    return Outcome(
        run_id="r",
        dataset=Dataset(
            fingerprint="d", source="photos", version="v", manifest=HERE, report=HERE, images=HERE,
            targets=one_task(("a", "b"), several), counts={"train": 5, "val": 3, "test": 2},
            choose_on="val", report_on="test", quarantined=0,
        ),
        features=FeatureSet(
            fingerprint="f", store=HERE, backbone="b", weights="w", digest="0", layers=("x",), pool="avg", width=8,
            precision="float32", device="cpu", new=10, reused=0, seconds=1,
        ),
        candidate=Candidate(
            fingerprint="c", method="linear", head=HERE, curves=HERE, chosen={"l2": 0.1}, score=0.5
        ),
        evaluation=Evaluation(
            fingerprint="e", report=HERE,
            metrics={f"{split}/{name}": (value, value - 0.1, value + 0.01)
                     for split in ("val", "test") for name, value in figures.items()},
        ),
        model=RegisteredModel(fingerprint="m", name="photos", version=1, alias="champion", verdict="passed", new=True),
        report=Report(fingerprint="r", page=HERE),
        new=10,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("several", "headline", "shown"),
    [
        (False, "test/accuracy", ["accuracy", "f1_macro", "roc_auc_macro"]),
        (
            True,
            "test/average_precision_macro",
            ["average_precision_macro", "f1_macro", "exact_match", "roc_auc_macro"],
        ),
    ],
)
def test_the_headline_and_the_figures_are_those_of_the_kind(several: bool, headline: str, shown: list[str]) -> None:
    run = outcome(several)
    value = run.evaluation.metrics[headline][0]
    assert run.headline == headline
    assert one_line(run) == (
        f"photos version 1 (champion): {headline} {value:.4f}  [{value - 0.1:.4f}, {value + 0.01:.4f}]"
    )
    told = [what for what, _ in summary_rows(run) if "/" in what]
    assert told == [f"{split}/{name}" for split in ("test", "val") for name in shown]
    assert describe(run.evaluation, cached=False) == (
        f"evaluate\tval/{shown[0]} {value:.4f}, test/{shown[0]} {value:.4f}"
    )


def test_what_a_figure_is_over_and_what_was_found_stand_beside_it() -> None:
    run = outcome(several=False)
    found = {"groups": {"test": 71}, "classes": {"test/f1_macro": 1}, "findings": ("val and test disagree", "more")}
    metrics = run.evaluation.metrics | {"test/roc_auc_macro": (0.9, math.nan, math.nan)}
    run = run.model_copy(update={"evaluation": run.evaluation.model_copy(update=found | {"metrics": metrics})})
    told = dict(summary_rows(run))
    assert told["test/accuracy"] == "0.9000  [0.8000, 0.9100] over 71 groups"
    assert told["test/f1_macro"] == "0.7000  [0.6000, 0.7100] over 71 groups and 1 of 2 classes"
    assert told["test/roc_auc_macro"] == "0.9000  no interval over 71 groups"
    assert told["val/accuracy"] == "0.9000  [0.8000, 0.9100]"
    assert told["evidence"] == "val and test disagree\nmore"
    assert one_line(run).endswith("[0.8000, 0.9100] over 71 groups")


def test_a_model_with_one_label_an_image_is_judged_by_its_accuracy_whatever_else_was_measured() -> None:
    figures = {f"val/{name}": (0.9, 0.8, 0.1, 0.05, 0.15) for name in ("average_precision_macro", "accuracy")}
    comparison = Comparison(
        fingerprint="x", report=HERE, version=1, judged_on="val", images={"val": 9}, left_out={"val": 0},
        metrics=figures, p_values={"val": 0.5}, detectable={"val": 0.1}, gained={"val": 1}, lost={"val": 0},
    )  # fmt: skip
    duel = Duel.fought(comparison)
    assert duel is not None and duel.figure == "accuracy"
    assert comparison_lines(comparison)[1].startswith("val/accuracy ")


def test_of_many_classes_that_came_or_went_a_few_are_named_and_the_others_counted() -> None:
    names = tuple(f"{number} {'a long name ' * 10}" for number in range(1200))
    comparison = Comparison(
        fingerprint="x", report=HERE, version=1, judged_on="val", images={"val": 9}, left_out={"val": 0},
        metrics={"val/accuracy": (0.9, 0.8, 0.1, 0.05, 0.15)}, p_values={"val": 0.5}, detectable={"val": 0.1},
        gained={"val": 1}, lost={"val": 0}, new=names, gone=names[:51],
    )  # fmt: skip
    duel = Duel.fought(comparison)
    assert duel is not None and (duel.new, duel.more_new, duel.more_gone) == (names[:50], 1150, 1)
    assert all(len(tag) < 100_000 for tag in duel.tags.values()), "MLflow takes no longer ones"
    new, gone = comparison_lines(comparison)[2:]
    assert new.startswith("classes new: 0 a long name") and new.endswith(" and 1,195 more")
    assert gone.endswith(" and 46 more")


def test_numbers_and_further_tasks_have_their_rows() -> None:
    run = outcome(several=False)
    targets = (
        Target(name="age", kind="number", unit="years"), Target(name="sex", column="label:sex", classes=("f", "m")),
        Target(name="weight", column="label:weight", kind="number", unit="kg"),
    )  # fmt: skip
    metrics = {
        "test/mae": (1.2345, 1.1, 1.4), "test/r2": (0.8, 0.7, 0.9), "test/sex/accuracy": (0.9, 0.8, 0.95),
        "test/sex/log_loss": (0.1, 0.0, 0.2), "test/weight/mae": (2.0, 1.0, 3.0), "test/weight/r2": (0.5, 0.4, 0.6),
    }  # fmt: skip
    evaluation = run.evaluation.model_copy(update={"metrics": metrics, "groups": {"test/sex": 4}})
    dataset = run.dataset.model_copy(update={"targets": targets})
    run = run.model_copy(update={"dataset": dataset, "evaluation": evaluation})
    told = dict(summary_rows(run))
    assert told["test/mae"] == "1.234 years  [1.1, 1.4]" and told["test/r2"] == "0.8000  [0.7000, 0.9000]"
    assert told["test/sex"] == "accuracy 0.9000  [0.8000, 0.9500] over 4 groups"
    assert told["test/weight"] == "MAE 2 kg  [1, 3], R² 0.5000  [0.4000, 0.6000]"
    assert one_line(run).endswith("test/mae 1.234 years  [1.1, 1.4]")
    assert describe(evaluation, cached=False) == "evaluate\ttest/mae 1.234"


def test_comparisons_of_numbers_and_further_tasks_have_a_line_each() -> None:
    found = Comparison(
        fingerprint="x", report=HERE, version=2, judged_on="val", images={"val": 50}, left_out={"val": 0},
        metrics={"val/mae": (1.0, 1.5, -0.5, -0.75, -0.25), "val/sex/accuracy": (0.8, 0.9, -0.1, -0.2, 0.0)},
        p_values={"val": 0.001, "val/sex": 0.04}, detectable={"val": 0.2}, gained={"val": 30}, lost={"val": 20},
        further={"val/sex": 40},
    )  # fmt: skip
    assert comparison_lines(found)[1:] == [
        "val/mae 1.5 → 1: -0.5 [-0.75, -0.25] on 50 images; 30 gained, 20 lost, p 0.001; could have seen 0.2",
        "val/sex/accuracy 0.9000 → 0.8000: -0.1000 [-0.2000, +0.0000] on 40 images, p 0.04",
    ]
    unknown = found.model_copy(update={"detectable": {"val": math.nan}})
    assert comparison_lines(unknown)[1].endswith("p 0.001"), "what is not known is not told"


@pytest.mark.parametrize(("crossed", "how"), [(False, ""), (True, " chosen by cross-validation")])
def test_a_candidate_says_how_its_strength_was_chosen(crossed: bool, how: str) -> None:
    candidate = outcome(several=False).candidate.model_copy(update={"cross_validated": crossed})
    assert describe(candidate, cached=False) == f"train\tlinear head, l2 0.1{how}"
