"""Oracles: the order of the calls, scipy's binomial, and samples whose ratio is known."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binom

from lora_bench.errors import MeasurementError
from lora_bench.measure.latency import MIN_ROUNDS, paired_ratio, spread, time_in_turns


def test_calls_take_turns_and_the_warm_up_is_left_out():
    order = []
    calls = {name: lambda name=name: (order.append(name), time.sleep(0.001 * (name == "b"))) for name in "abc"}
    seconds = time_in_turns(calls, num_rounds=4, num_warmup=2)
    assert "".join(order) == "abc" * 6
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    assert min(seconds["b"]) >= 0.001 > max(seconds["a"])


def test_the_spread_is_in_milliseconds():
    found = spread([0.001 * value for value in range(1, 12)])
    assert (found.median_ms, found.p10_ms, found.p90_ms, found.num_rounds) == pytest.approx((6, 2, 10, 11))


@pytest.mark.parametrize("count", [MIN_ROUNDS, 12, 30, 101])
def test_the_interval_lies_between_the_narrowest_order_statistics_that_cover_95_per_cent(count):
    found = paired_ratio(list(range(1, count + 1)), [1.0] * count)
    first = int(found.low)
    assert found.high == count + 1 - first
    assert binom.cdf(first - 1, count, 0.5) <= 0.025 < binom.cdf(first, count, 0.5)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    rng = np.random.default_rng(0)
    reference = rng.lognormal(0, 0.3, (400, 30))
    own = 1.1 * reference * rng.lognormal(0, 0.2, (400, 30))
    found = [paired_ratio(list(row), list(other)) for row, other in zip(own, reference, strict=True)]
    share = np.mean([ratio.low <= 1.1 <= ratio.high for ratio in found])
    assert share >= 0.93  # 0.957 is exact for 30 values; 400 samples have a standard error of 0.01
    assert paired_ratio([1.0] * 30, [1.0] * 30).holds_one
    assert not paired_ratio([1.3] * 30, [1.0] * 30).holds_one


def test_too_few_rounds_have_no_interval():
    with pytest.raises(MeasurementError, match="5 rounds give no 95 % interval; 6 are the fewest"):
        paired_ratio([1.0] * 5, [1.0] * 5)
