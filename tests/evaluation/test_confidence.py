"""Oracles: scipy's intervals, an interval by resampling items one by one, and coverage of a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from lora_bench.evaluation.confidence import macro_f1_interval, ratio_interval, wilson_interval
from lora_bench.evaluation.metrics import confusion_matrix


@pytest.mark.parametrize(("num_correct", "num_items"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 10), (851, 1000)])
def test_wilson_is_scipy_s(num_correct, num_items):
    wanted = stats.binomtest(num_correct, num_items).proportion_ci(0.95, method="wilson")
    assert wilson_interval(num_correct, num_items) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize("num_items", [2, 5, 64, 1000])
def test_ratio_with_counts_of_one_is_student_s_interval_of_a_mean(num_items):
    values = np.random.default_rng(num_items).exponential(size=num_items)
    wanted = stats.t.interval(0.95, num_items - 1, loc=values.mean(), scale=stats.sem(values))
    found = ratio_interval(values, np.ones(num_items), low=-math.inf, high=math.inf)
    assert found == pytest.approx(wanted, rel=1e-12)


def test_ratio_is_what_resampling_items_gives():
    rng = np.random.default_rng(0)
    counts = rng.integers(3, 17, 256).astype(float)
    totals = rng.gamma(2.0, size=256) * counts
    drawn = rng.integers(0, 256, (4000, 256))
    wanted = np.quantile(totals[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    low, high = ratio_interval(totals, counts, low=0.0, high=math.inf)
    # Both have sampling error of their own; a tenth of the width is far more than that.
    assert (low, high) == pytest.approx(wanted, abs=(high - low) / 10)


def test_ratio_stays_within_its_range():
    assert ratio_interval(np.array([1.0, 1.0, 0.0]), np.ones(3), low=0.0, high=1.0) == (0.0, 1.0)
    assert ratio_interval(np.array([0.3]), np.ones(1), low=0.0, high=1.0) == (0.0, 1.0)
    assert ratio_interval(np.array([2.0]), np.ones(1), low=0.0, high=math.inf) == (0.0, math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_say_nothing(value):
    assert ratio_interval(np.array([1.0, value]), np.ones(2), low=0.0, high=9.0) == (0.0, 9.0)


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 400, p=[0.5, 0.35, 0.15])
    return labels, np.where(rng.random(400) < 0.75, labels, rng.integers(0, 3, 400))


def test_macro_f1_interval_is_what_resampling_items_gives(answers):
    labels, predictions = answers
    low, high = macro_f1_interval(confusion_matrix(labels, predictions, num_classes=3))
    rng = np.random.default_rng(2)
    drawn = (rng.integers(0, 400, 400) for _ in range(400))
    resampled = [f1_score(labels[items], predictions[items], average="macro") for items in drawn]
    # 400 resamples know each limit to about 6 % of the width.
    assert (low, high) == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=(high - low) / 8)
    assert low < f1_score(labels, predictions, average="macro") < high


def test_macro_f1_interval_is_repeatable_and_touches_no_global_generator(answers):
    confusion = confusion_matrix(*answers, num_classes=3)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    assert macro_f1_interval(confusion) == macro_f1_interval(confusion)
    assert np.array_equal(before, np.random.get_state()[1])


def test_macro_f1_interval_of_a_perfect_model_is_a_point():
    assert macro_f1_interval(np.diag([5, 7, 0])) == (1.0, 1.0)


@pytest.mark.parametrize("truth", [0.6, 0.97])
def test_wilson_covers_the_truth_as_often_as_it_says(truth):
    counts = np.random.default_rng(0).binomial(500, truth, 2000)
    intervals = {count: wilson_interval(int(count), 500) for count in np.unique(counts)}
    covered = np.mean([intervals[count][0] <= truth <= intervals[count][1] for count in counts])
    assert covered == pytest.approx(0.95, abs=0.02)
