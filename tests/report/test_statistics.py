"""Oracles: SciPy's own tests and intervals, closed forms, and coverage counted over simulated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lora_bench.report import statistics
from lora_bench.report.statistics import Estimate, mcnemar_exact, mean_interval, paired_bootstrap


@pytest.mark.parametrize("values", [[0.70, 0.72], [0.70, 0.72, 0.71], [1.0, 2.0, 3.0, 10.0, -4.0]])
def test_the_mean_over_seeds_has_students_interval(values):
    estimate = mean_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((np.mean(values), low, high))


def test_one_seed_has_a_mean_and_no_interval():
    estimate = mean_interval([0.7])
    assert estimate.value == 0.7
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_no_seed_has_no_mean():
    with pytest.raises(ValueError, match="the mean of no values"):
        mean_interval([])


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (0, 6), (12, 3), (40, 25), (1, 0)])
def test_mcnemar_is_the_binomial_test_on_discordant_items(first, second):
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_exact(first, second) == pytest.approx(expected)


def test_the_paired_interval_is_that_of_the_mean_of_differences():
    """With one seed the bootstrap must agree with the normal interval of the per-item differences (n = 3000)."""
    rng = np.random.default_rng(1)
    first, second = rng.random(3000) < 0.72, rng.random(3000) < 0.70
    differences = first.astype(float) - second
    estimate = paired_bootstrap(first[None].astype(float), second[None].astype(float))
    reach = 1.96 * differences.std(ddof=1) / math.sqrt(3000)
    assert estimate.value == pytest.approx(differences.mean())
    assert (estimate.low, estimate.high) == pytest.approx(
        (differences.mean() - reach, differences.mean() + reach), abs=0.1 * reach
    )


def test_pairing_sees_what_two_separate_intervals_hide():
    """The same items right but for twenty: the difference is certain although each accuracy is not."""
    first = np.zeros((1, 1000))
    first[0, :700] = 1
    second = first.copy()
    second[0, 680:700] = 0
    estimate = paired_bootstrap(first, second)
    assert estimate.value == pytest.approx(0.02)
    assert 0.01 < estimate.low < estimate.high < 0.03


def test_weights_make_it_a_difference_of_ratios():
    rng = np.random.default_rng(2)
    tokens = rng.integers(1, 30, size=400).astype(float)
    first, second = tokens * 2.0, tokens * 1.5  # nats, at exactly 2 and 1.5 a token
    estimate = paired_bootstrap(first[None], second[None], tokens)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5, 0.5))


def test_equal_rows_differ_by_nothing():
    rows = np.random.default_rng(3).random((2, 50))
    estimate = paired_bootstrap(rows, rows[::-1].copy())
    assert estimate.value == pytest.approx(0)
    assert estimate.is_inside_noise


def test_the_same_input_gives_the_same_interval():
    rng = np.random.default_rng(4)
    first, second = rng.random((1, 100)), rng.random((1, 100))
    assert paired_bootstrap(first, second) == paired_bootstrap(first, second)


def test_items_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="3 items cannot be paired with 4"):
        paired_bootstrap(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="0 items"):
        paired_bootstrap(np.zeros((1, 0)), np.zeros((1, 0)))


def _coverage(*, num_seeds: int, seed_spread: float) -> float:
    """How often 95 % intervals hold the true difference, which is 0, over 200 simulated pairs of rows."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        easy = rng.normal(size=100)
        rows = easy + rng.normal(size=(2 * num_seeds, 100)) + seed_spread * rng.normal(size=(2 * num_seeds, 1))
        held += paired_bootstrap(rows[:num_seeds], rows[num_seeds:]).is_inside_noise
    return held / 200


@pytest.fixture
def few_resamples(monkeypatch):
    """Enough for a rate of coverage, in an eighth of the time."""
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 500)


@pytest.mark.usefixtures("few_resamples")
def test_the_interval_covers_items_at_its_nominal_rate():
    """Binomial limits of 0.95 over 200 experiments: 0.91 to 0.98."""
    assert 0.91 <= _coverage(num_seeds=1, seed_spread=0.0) <= 0.99


@pytest.mark.usefixtures("few_resamples")
def test_with_several_seeds_the_interval_covers_seeds_too():
    """Their spread outweighs that of the items: resampling items alone covers 0.39 to 0.46 of such experiments."""
    assert _coverage(num_seeds=5, seed_spread=0.3) >= 0.88
    assert _coverage(num_seeds=3, seed_spread=0.3) >= 0.78


@pytest.mark.parametrize(
    ("low", "high", "is_inside"), [(-0.1, 0.1, True), (0.0, 0.1, True), (0.01, 0.1, False), (-0.2, -0.1, False)]
)
def test_noise_is_an_interval_that_holds_zero(low, high, is_inside):
    assert Estimate(0.0, low, high).is_inside_noise is is_inside
