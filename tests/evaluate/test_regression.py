"""Figures of merit of a number, against scikit-learn and SciPy, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, norm
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from tasks.evaluate.scores.regression import LEVELS, NumberScores, measures, score_numbers


def draws(count: int, seed: int = 0, told: float = 1.0, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True numbers, predictions that are off by a Gaussian of 1 to 3 units, and a spread ``told`` times as wide."""
    random = np.random.default_rng(seed)
    targets, spread = random.normal(50, 10, count), random.uniform(1, 3, count)
    return targets, targets + bias + random.normal(0, spread), told * spread


def measured(*drawn: np.ndarray, groups: np.ndarray | None = None) -> NumberScores:
    return score_numbers(*drawn, groups=groups, resamples=400)


def test_figures_are_those_of_scikit_learn_and_scipy() -> None:
    targets, mean, spread = draws(300)
    found = {name: value for name, (value, *_) in measured(targets, mean, spread).metrics.items()}
    inside = np.abs(targets - mean) <= norm.ppf(0.95) * spread
    shares = [(np.abs(targets - mean) <= norm.ppf((1 + level) / 2) * spread).mean() for level in LEVELS]
    assert found == pytest.approx({
        "mae": mean_absolute_error(targets, mean), "rmse": root_mean_squared_error(targets, mean),
        "r2": r2_score(targets, mean), "bias": (mean - targets).mean(),
        "nll": -norm.logpdf(targets, mean, spread).mean(), "coverage_90": inside.mean(),
        "calibration_error": np.abs(np.array(shares) - LEVELS).mean(),
    })  # fmt: skip


def test_weights_count_as_copies_of_images() -> None:
    targets, mean, spread = draws(40)
    often = np.random.default_rng(1).integers(0, 4, 40)
    weighed = measures(targets, mean, spread)(often[None].astype(float))
    copied = measures(*(np.repeat(each, often) for each in (targets, mean, spread)))(np.ones((1, often.sum())))
    for name, value in weighed.items():
        assert value == pytest.approx(copied[name]), name


def test_intervals_are_those_of_a_bootstrap() -> None:
    targets, mean, spread = draws(400, seed=2)
    found = measured(targets, mean, spread).metrics
    oracles = {"mae": mean_absolute_error, "rmse": root_mean_squared_error, "r2": r2_score}
    for name, oracle in oracles.items():
        drawn = bootstrap(
            (targets, mean), lambda true, given, of=oracle: of(true, given), paired=True, vectorized=False,
            n_resamples=400, method="percentile", rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        _, low, high = found[name]
        assert (low, high) == pytest.approx((drawn.low, drawn.high), abs=0.25 * (drawn.high - drawn.low)), name
    away = mean - targets
    half = 1.96 * away.std(ddof=1) / 20
    assert found["bias"] == pytest.approx((away.mean(), away.mean() - half, away.mean() + half), abs=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1e-14, 1e12])
def test_intervals_of_errors_are_in_the_unit_of_the_number(unit: float) -> None:
    drawn = draws(60)
    plain, found = measured(*drawn).metrics, measured(*(unit * each for each in drawn)).metrics
    for name in ("mae", "rmse", "bias"):
        assert found[name] == pytest.approx([unit * bound for bound in plain[name]], rel=1e-6, abs=0), name
    right = measured(drawn[0], drawn[0], drawn[2]).metrics
    assert right["mae"] == right["rmse"] == (0, 0, 0)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    mean_square = (3**3 - 1) / 6  # of a width that is uniform between 1 and 3
    truth = {"rmse": mean_square**0.5, "coverage_90": 0.9, "bias": 0.0, "calibration_error": 0.0}
    held = dict.fromkeys(truth, 0)
    for seed in range(100):
        found = measured(*draws(200, seed)).metrics
        for name in held:
            held[name] += found[name][1] <= truth[name] <= found[name][2]
    assert all(count >= 89 for count in held.values()), held


def test_copies_of_the_images_of_a_group_tell_nothing_new() -> None:
    drawn = draws(60)
    once = measured(*drawn, groups=np.arange(60)).metrics
    copies = [np.tile(each, 9) for each in drawn]
    often, alone = measured(*copies, groups=np.tile(np.arange(60), 9)).metrics, measured(*copies).metrics
    for name, (value, low, high) in once.items():
        assert often[name] == pytest.approx((value, low, high), abs=0.2 * (high - low)), name
        assert alone[name][2] - alone[name][1] < (0.9 if name == "calibration_error" else 0.6) * (high - low), name


def test_a_spread_that_is_too_small_is_found_out() -> None:
    right, small = measured(*draws(500)), measured(*draws(500, told=0.5))
    assert right.metrics["calibration_error"][1] == 0 and small.metrics["calibration_error"][1] > 0.15
    assert right.metrics["coverage_90"][2] > 0.9 > small.metrics["coverage_90"][2]
    assert right.metrics["nll"][0] < small.metrics["nll"][0] and right.metrics["mae"] == small.metrics["mae"]
    table = small.spread.set_index("level")
    assert (table["high"] < table.index).all() and table["width"].is_monotonic_increasing


def test_what_is_undefined_has_no_value() -> None:
    same = np.full(20, 3.0)
    found = measured(same, same + 1, np.ones(20)).metrics
    assert np.isnan(found["r2"]).all() and found["mae"][0] == 1 and np.isfinite(found["nll"][0])
    alone = measured(*draws(20), groups=np.zeros(20, int)).metrics
    assert np.isnan(alone["mae"][1:]).all() and np.isnan(alone["bias"][1:]).all()
    exact = measured(same + np.arange(20), same + np.arange(20), np.zeros(20)).metrics
    assert exact["r2"][0] == 1 and exact["mae"][0] == 0 and np.isfinite(exact["nll"][0])
