"""Oracles: SciPy's paired t-test, a variance worked out by hand, Holm's steps, errors counted over simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lora_bench.report.pairs import compare_pairs, holm_level


def test_two_rows_of_one_seed_are_the_paired_t_test():
    rng = np.random.default_rng(1)
    sums_MSN = (rng.random((2, 1, 300)) < 0.7).astype(float)
    test = stats.ttest_rel(sums_MSN[0, 0], sums_MSN[1, 0])
    found, interval = compare_pairs(sums_MSN, np.ones(300)).difference(0, 1), test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.value == pytest.approx(sums_MSN[0].mean() - sums_MSN[1].mean())


def test_seeds_and_items_add_their_variances():
    """Items differ by 0.2 or 0.4 (variance 0.01 n / (n - 1)); seeds by -0.1, 0, 0.1 in one row, none in the other.

    Nothing interplays, so the variance of the difference is that of the items / 8 and, for each side, the pooled
    variance of the seeds, (0.01 + 0) / 2, / 3.
    """
    items_N = np.tile([0.2, 0.4], 4)
    first_SN = 1 + items_N + np.array([-0.1, 0.0, 0.1])[:, None]
    pairs = compare_pairs(np.stack([first_SN, np.ones((3, 8))]), np.ones(8))
    of_items, of_seeds = 0.01 * 8 / 7 / 8, 2 * 0.005 / 3
    freedom = (of_items + of_seeds) ** 2 / (of_items**2 / 7 + of_seeds**2 / 4)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(of_items + of_seeds)
    found = pairs.difference(0, 1)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - reach, 0.3 + reach))


def test_weights_make_it_a_difference_of_ratios():
    """To first order its error is that of (x - R w) / mean w, with w of both rows the same."""
    rng = np.random.default_rng(2)
    tokens_N = rng.integers(1, 30, size=200).astype(float)
    nats_MN = tokens_N * np.array([[2.0], [1.5]]) + rng.normal(size=(2, 200))
    found = compare_pairs(nats_MN[:, None], tokens_N).difference(0, 1)
    ratios_M = nats_MN.sum(axis=1) / tokens_N.sum()
    rests_MN = nats_MN - ratios_M[:, None] * tokens_N
    error = (rests_MN[0] - rests_MN[1]).std(ddof=1) / math.sqrt(200) / tokens_N.mean()
    assert found.value == pytest.approx(ratios_M[0] - ratios_M[1])
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 199) * error)


def test_equal_rows_are_inside_the_noise_and_a_constant_gap_is_not():
    row_SN = np.random.default_rng(3).integers(2, size=(1, 50)).astype(float)
    pairs = compare_pairs(np.stack([row_SN, row_SN, row_SN + 1]), np.ones(50))
    assert pairs.difference(0, 1).is_inside_noise
    assert not pairs.difference(0, 2).is_inside_noise


@pytest.mark.parametrize(
    ("p_values", "level"),
    [
        ([], 0.05),
        ([0.04], 0.05),
        ([0.2], 0.05),
        ([0.04, 0.01, 0.02, 0.03], 0.05 / 3),  # 0.01 is under 0.05 / 4, 0.02 above 0.05 / 3
        ([0.02, 0.02, 0.02], 0.05 / 3),
        ([0.01, 0.02, 0.04], 0.05),  # under a third, a half and the whole
        ([0.0, 0.0, 0.0, 1.0], 0.05),
    ],
)
def test_holms_steps(p_values, level):
    assert holm_level(p_values) == pytest.approx(level)


def test_rows_that_are_alike_are_seldom_told_apart():
    """In one study of twenty, at most; binomial limit of 0.05 over 300 simulated studies: 0.09."""
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(300):
        easy_N, liked_MN = rng.normal(size=150), rng.normal(size=(8, 150))
        spread_MS, rest_MSN = 0.1 * rng.normal(size=(8, 3)), rng.normal(size=(8, 3, 150))
        pairs = compare_pairs(easy_N + liked_MN[:, None] + spread_MS[:, :, None] + rest_MSN, np.ones(150))
        best, worst = int(pairs.scores.argmax()), int(pairs.scores.argmin())
        found += not pairs.difference(best, worst).is_inside_noise
    assert 0 < found / 300 <= 0.09


def test_a_single_item_has_no_spread():
    with pytest.raises(ValueError, match="1 items have no spread"):
        compare_pairs(np.zeros((2, 1, 1)), np.ones(1))
