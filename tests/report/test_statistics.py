"""Oracle: SciPy's own intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lora_bench.report.statistics import Estimate, mean_interval


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


@pytest.mark.parametrize(
    ("low", "high", "is_inside"), [(-0.1, 0.1, True), (0.0, 0.1, True), (0.01, 0.1, False), (-0.2, -0.1, False)]
)
def test_noise_is_an_interval_that_holds_zero(low, high, is_inside):
    assert Estimate(0.0, low, high).is_inside_noise is is_inside
