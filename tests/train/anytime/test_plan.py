"""What is done next within a budget: in which order, what fits, what pays, and what wins."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from tasks.train.anytime.plan import chance, favourites, foreseen, levels_of, next_step, winner
from tasks.train.anytime.situation import BEGIN, Contender, Situation
from tasks.train.anytime.step import Step

SLOW, QUICK = Contender("vgg16", 40.0), Contender("mobilenet_v2", 4.0)


def situation(**changes: object) -> Situation:
    """Two backbones, some thousand images, and a registration that takes half a minute."""
    given = {
        "contenders": (QUICK, SLOW), "heads": ("linear", "mlp"), "tuned": ("lp_ft", "partial"), "train": 4_000,
        "judged": 800, "held_out": 1_200, "overhead": 30.0,
    } | changes  # fmt: skip
    return Situation(**given)  # type: ignore[arg-type]


def carried_out(known: Situation, budget: float, scores: dict[str, float], gain: float = 0.05) -> list[Step]:
    """All steps of a budget on a machine that is as fast as was predicted.

    Args:
        scores: of the backbones' frozen features.
        gain: of a short training over frozen features.
    """
    done: list[Step] = []
    best = max(scores.values())
    while step := next_step(known, done, budget - sum(each.took for each in done if each.took == each.took)):
        if step.state == "left out":
            done.append(step)
        elif step.kind == "rank":
            took = step.predicted / len(scores)
            done += [
                replace(step, backbone=name, score=score, may_be_best=score > best - 0.05, state="done", took=took)
                for name, score in scores.items()
            ]
        else:
            frozen = scores[step.backbone]
            score = frozen + gain if step.kind in ("tune", "final") else frozen
            done.append(replace(step, score=score, frozen=frozen, state="done", took=step.predicted))
        assert len(done) < 60
    return done


def kinds(done: list[Step], state: str = "done") -> list[str]:
    return list(dict.fromkeys(step.kind for step in done if step.state == state))


@pytest.mark.parametrize("budget", [60.0, 180.0, 600.0, 1_800.0])
def test_a_plan_keeps_to_its_budget_and_to_what_the_winner_needs(budget: float) -> None:
    done = carried_out(situation(), budget, {"mobilenet_v2": 0.9, "vgg16": 0.88})
    spent = sum(step.took for step in done if not math.isnan(step.took))
    best = winner(done)
    kept = 0.0 if best.kind == "probe" else situation().reserve(best.backbone, best.kind == "final")
    assert spent + kept <= budget


def test_the_more_time_there_is_the_more_is_done_and_the_probe_always_comes_first() -> None:
    scores = {"mobilenet_v2": 0.9, "vgg16": 0.88}
    short, middle, long = (carried_out(situation(), budget, scores) for budget in (50.0, 150.0, 900.0))
    assert kinds(short) == ["probe"] and winner(short).kind == "probe"
    assert kinds(middle) == ["probe", "rank", "head"]
    assert kinds(long) == ["probe", "rank", "head", "tune", "final"] and winner(long).kind == "final"


def test_what_does_not_fit_is_not_begun_and_says_why() -> None:
    done = carried_out(situation(), 50.0, {"mobilenet_v2": 0.9, "vgg16": 0.88})
    left = [step for step in done if step.state == "left out"]
    assert {step.kind for step in left} >= {"rank", "head"} and all(" s for it" in step.why for step in left)
    assert all(math.isnan(step.took) for step in left)


def test_without_room_after_the_trials_a_training_is_left_out_once() -> None:
    done = carried_out(situation(), 900.0, {"mobilenet_v2": 0.9, "vgg16": 0.88})
    tried = [step for step in done if step.kind != "final"]
    left_out = next_step(situation(), tried, 20.0)  # as much as a registration takes
    assert left_out is not None and (left_out.kind, left_out.state) == ("final", "left out") and left_out.limit < 0
    assert next_step(situation(), [*tried, left_out], 19.9) is None


def test_the_first_model_is_of_the_configured_backbone_unless_it_is_slow() -> None:
    assert next_step(situation(), [], 600).backbone == "mobilenet_v2"  # type: ignore[union-attr]
    slow = situation(contenders=(SLOW, QUICK))  # four minutes for all images
    assert next_step(slow, [], 600).backbone == "mobilenet_v2"  # type: ignore[union-attr]
    few = situation(contenders=(SLOW, QUICK), train=200, judged=40, held_out=60)
    assert next_step(few, [], 600).backbone == "vgg16"  # type: ignore[union-attr]
    assert next_step(few, [], 50).backbone == "vgg16"  # type: ignore[union-attr]  # twelve seconds of it, and a registration
    assert next_step(few, [], 40).backbone == "mobilenet_v2"  # type: ignore[union-attr]


def test_only_backbones_that_may_be_the_best_are_looked_at_closely() -> None:
    far = carried_out(situation(), 900.0, {"mobilenet_v2": 0.9, "vgg16": 0.7})
    assert {step.backbone for step in far if step.kind in ("head", "tune", "final")} == {"mobilenet_v2"}
    near = carried_out(situation(), 9_000.0, {"mobilenet_v2": 0.9, "vgg16": 0.88})
    assert {step.backbone for step in near if step.kind == "head"} == {"mobilenet_v2", "vgg16"}
    assert favourites(situation(), far[:1]) == ["mobilenet_v2", "vgg16"]


def test_the_better_half_goes_on_each_time_with_twice_the_time() -> None:
    done = carried_out(situation(), 9_000.0, {"mobilenet_v2": 0.9, "vgg16": 0.88})
    levels = [[step for step in done if step.kind == "tune" and step.level == level] for level in range(3)]
    assert [len(level) for level in levels] == [4, 2, 1] and levels_of(4) == 3
    for before, after in pairwise(levels):
        assert after[0].limit == pytest.approx(2 * before[0].limit, rel=0.05)
    # Both scores gain alike, so that the better backbone's trainings are the better ones.
    assert {step.backbone for step in levels[1]} == {"mobilenet_v2"}
    assert (done[-1].kind, done[-1].backbone, done[-1].method) == ("final", "mobilenet_v2", levels[2][0].method)


def test_where_time_is_short_fewer_begin_rather_than_that_each_learns_nothing() -> None:
    slow = situation(contenders=(Contender("mobilenet_v2", 20.0),), train=500, judged=100, held_out=150, overhead=20.0)
    done = carried_out(slow, 250.0, {"mobilenet_v2": 0.8})
    levels = [step.level for step in done if step.kind == "tune"]
    assert levels == [0, 1] and all(step.seen >= 128 for step in done if step.kind == "tune")


@pytest.mark.parametrize("milliseconds", [10.0, 40.0])
@pytest.mark.parametrize("budget", [600.0, 1_800.0])
def test_a_short_training_spends_most_of_its_time_on_learning(milliseconds: float, budget: float) -> None:
    known = situation(contenders=(Contender("a", milliseconds),), judged=1_000)
    tried = [step for step in carried_out(known, budget, {"a": 0.8}) if step.kind == "tune" and step.state == "done"]
    for step in tried:
        looks = step.epochs * known.looking("a", step.judged)
        assert looks <= 0.34 * (step.limit - BEGIN) and step.seen >= 128
        assert BEGIN + looks + step.seen / known.rate("a", step.method, []) <= step.limit + 1
    assert tried or (milliseconds, budget) == (40.0, 600.0)


def test_views_are_reckoned_with_where_they_are_looked_at() -> None:
    plain, views, ten = situation(), situation(augmented=3), situation(views=10)
    assert views.images == plain.images + 3 * plain.train and views.fitting("mlp") == 4 * plain.fitting("mlp")
    assert views.rate("vgg16", "lp_ft", []) == plain.rate("vgg16", "lp_ft", []) == ten.rate("vgg16", "lp_ft", []) / 10
    assert views.reserve("vgg16", tuned=True) == plain.reserve("vgg16", tuned=True)
    # What a training begins from is looked at once more, by one view.
    assert plain.beginning("vgg16") == BEGIN and ten.beginning("vgg16") == BEGIN + ten.looking("vgg16", ten.images)


def test_what_a_training_came_to_counts_and_not_what_was_planned() -> None:
    step = Step("tune", "mobilenet_v2", "lp_ft", 300, 2, judged=1_000, passed=320, took=BEGIN + 24.0, state="done")
    assert step.seen == 320
    assert situation(contenders=(QUICK,)).rate("mobilenet_v2", "lp_ft", [step]) == pytest.approx(320 / (24 - 8))


def test_what_failed_does_not_go_on() -> None:
    done = [
        step if (step.kind, step.method) != ("tune", "lp_ft") else replace(step, state="failed")
        for step in carried_out(situation(contenders=(QUICK,)), 900.0, {"mobilenet_v2": 0.9})
        if step.kind in ("probe", "head") or (step.kind == "tune" and step.level == 0)
    ]
    step = next_step(situation(contenders=(QUICK,)), done, 500.0)
    assert step and (step.kind, step.method, step.level) == ("tune", "partial", 1)


@pytest.mark.parametrize(("gain", "pays"), [(-0.02, False), (0.0, False), (0.005, False), (0.05, True)])
def test_a_long_training_is_begun_only_where_its_gain_is_beyond_chance(gain: float, pays: bool) -> None:
    done = carried_out(situation(), 900.0, {"mobilenet_v2": 0.9, "vgg16": 0.7}, gain)
    assert ("final" in kinds(done)) == pays and (winner(done).kind == "final") == pays
    final = next(step for step in done if step.kind == "final")
    assert final.expected == pytest.approx(0.9 + gain) and "over frozen features" in final.why
    assert chance(0.9, 800) == pytest.approx(0.0106, abs=2e-4)


def test_a_gain_is_followed_along_its_curve_and_never_down() -> None:
    def trial(level: int, images: int, gain: float) -> Step:
        return Step("tune", "a", "lp_ft", images, 2, level, score=0.8 + gain, frozen=0.8, state="done")

    rising, falling = [trial(0, 100, 0.01), trial(1, 200, 0.03)], [trial(0, 100, 0.03), trial(1, 200, 0.01)]
    assert foreseen(rising[1], rising, 1_600) == pytest.approx(0.03 + 0.02 * 2)
    assert foreseen(rising[1], rising, 100) == pytest.approx(0.03)
    assert foreseen(falling[1], falling, 1_600) == pytest.approx(0.01)


def test_the_speed_that_was_measured_counts_for_the_next_training() -> None:
    known = situation(contenders=(QUICK,))
    assert known.rate("mobilenet_v2", "lp_ft", []) == pytest.approx(1000 / 16)
    tried = Step("tune", "mobilenet_v2", "lp_ft", 300, 2, took=BEGIN + 20.0, state="done")
    assert known.rate("mobilenet_v2", "lp_ft", [tried]) == pytest.approx(30.0)


def test_of_heads_that_are_alike_the_simpler_one_wins_and_a_tuned_backbone_only_if_it_is_better() -> None:
    linear = Step("head", "a", "linear", judged=400, score=0.90, state="done")
    alike, better = (replace(linear, method="mlp", score=score) for score in (0.905, 0.93))
    assert winner([linear, alike]).method == "linear" and winner([linear, better]).method == "mlp"
    assert winner([linear, alike]).why.startswith(
        "the simplest of the heads that are as good as the best (0.9050): 0.9"
    )
    other = replace(alike, backbone="b", score=0.9)
    assert winner([other, replace(linear, score=0.905)]).method == "mlp", "tried first, so simpler"
    assert winner([replace(other, method="linear"), alike, replace(linear, score=0.902)]).backbone == "a"
    tuned = Step("final", "a", "lp_ft", score=0.93, state="done")
    assert winner([linear, better, tuned]).method == "mlp" and winner([linear, better, tuned]).why.endswith("0.9300")
    assert winner([linear, better, replace(tuned, score=0.94)]).kind == "final"


@pytest.mark.parametrize("train", [20, 200, 50_000])
@pytest.mark.parametrize("budget", [30.0, 60.0, 600.0])
@pytest.mark.parametrize("milliseconds", [0.2, 5.0, 900.0])
def test_there_is_a_winner_for_any_data_machine_and_budget(train: int, budget: float, milliseconds: float) -> None:
    known = situation(
        contenders=(Contender("a", milliseconds), Contender("b", 3 * milliseconds)), train=train, judged=train // 5,
        held_out=train // 4,
    )  # fmt: skip
    done = carried_out(known, budget, {"a": 0.8, "b": 0.79})
    assert winner(done).state == "done" and not [step for step in done if step.epochs > 20]
    assert all(step.images <= train for step in done)


def test_where_there_is_no_time_for_trials_one_training_has_all_that_is_left() -> None:
    known = situation(contenders=(QUICK,), tuned=("lp_ft",))
    budgets = [
        (budget, done)
        for budget in range(60, 400, 10)
        if (done := carried_out(known, budget, {"mobilenet_v2": 0.9})) and "tune" not in kinds(done)
    ]
    untried = [(budget, done) for budget, done in budgets if "final" in kinds(done)]
    assert untried and untried[-1] == budgets[-1]  # the longest of those without trials
    for budget, done in untried:
        final = done[-1]
        assert winner(done).kind == "final" and final.seen >= 1_500 and final.images <= known.train
        whole = final.seen - (final.images if final.epochs > 1 else 0)  # passes that no limit cuts off
        assert BEGIN + known.looking("mobilenet_v2", 800) + whole / 62.5 <= final.limit + 1
        assert final.limit + sum(step.took for step in done[:-1] if step.state == "done") <= budget - 30
        assert math.isnan(final.expected) and "validation tells" in final.why


def test_the_backbone_of_the_first_model_is_tuned_where_there_is_no_time_for_the_best_ones_features() -> None:
    probe = Step("probe", "mobilenet_v2", "linear", state="done")
    ranked = [
        Step("rank", name, score=score, may_be_best=score == 0.9, state="done")
        for name, score in (("vgg16", 0.9), ("mobilenet_v2", 0.8))
    ]
    assert favourites(situation(), [probe, *ranked]) == ["vgg16", "mobilenet_v2"]
    head = Step("head", "vgg16", "linear", state="done")
    assert favourites(situation(), [probe, *ranked, head]) == ["vgg16"]


def test_a_budget_that_was_raised_by_far_trains_on_all_images_again() -> None:
    known, scores = situation(contenders=(QUICK,)), {"mobilenet_v2": 0.9}
    done = carried_out(known, 900.0, scores)
    [final] = [step for step in done if step.kind == "final"]
    reserve = known.reserve("mobilenet_v2", tuned=True)
    assert next_step(known, done, 1.9 * final.limit + reserve) is None
    again = next_step(known, done, 2.1 * final.limit + reserve)
    assert again and again.kind == "final" and again.limit > 2 * final.limit


def test_time_is_kept_to_fit_the_winning_head_anew() -> None:
    """On many images that takes longer than all the rest of its way."""
    known = situation(contenders=(QUICK,), tuned=(), train=100_000)
    for budget in (700, 800, 900, 1_000, 1_100):
        done = carried_out(known, budget, {"mobilenet_v2": 0.9})
        spent = sum(step.took for step in done if step.state == "done")
        heads = {step.method for step in done if step.kind == "head" and step.state == "done"}
        assert not heads or spent + max(map(known.fitting, heads)) + known.overhead <= budget


def test_what_fitting_a_head_took_is_what_is_kept_for_it_afterwards() -> None:
    reckoned = situation(train=8_000).fitting("mlp")
    quick, slow, cached = (situation(train=8_000).with_head("mlp", each) for each in (5.0, 100.0, 0.0))
    assert 5.0 < quick.fitting("mlp") < reckoned and slow.fitting("mlp") == 150.0
    assert cached.fitting("mlp") == reckoned / 4  # of a trial that was found instead of made
    assert slow.with_head("mlp", 5.0).fitting("mlp") == quick.fitting("mlp") and slow.fitting("linear") < reckoned


def test_each_method_has_a_speed_of_its_own_once_it_was_tried() -> None:
    known = situation(contenders=(QUICK,))
    slow, fast = (
        Step("tune", "mobilenet_v2", method, images, 2, took=BEGIN + 20.0, state="done")
        for method, images in (("lp_ft", 300), ("partial", 900))
    )
    assert known.rate("mobilenet_v2", "lp_ft", [slow, fast]) == pytest.approx(30.0)
    assert known.rate("mobilenet_v2", "partial", [fast, slow]) == pytest.approx(90.0)
    assert known.rate("mobilenet_v2", "full", [fast, slow]) == pytest.approx(30.0)
