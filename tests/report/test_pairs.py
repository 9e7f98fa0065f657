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
    found, interval = compare_pairs(list(sums_MSN), np.ones(300)).difference(0, 1), test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.value == pytest.approx(sums_MSN[0].mean() - sums_MSN[1].mean())


def test_seeds_and_items_add_their_variances():
    """Items differ by 0.2 or 0.4 (variance 0.01 n / (n - 1)); seeds by -0.1, 0, 0.1 in one row, none in the other.

    Nothing interplays, so the variance of the difference is that of the items / 8 and, for each side, the pooled
    variance of the seeds, (0.01 + 0) / 2, / 3.
    """
    items_N = np.tile([0.2, 0.4], 4)
    first_SN = 1 + items_N + np.array([-0.1, 0.0, 0.1])[:, None]
    pairs = compare_pairs([first_SN, np.ones((3, 8))], np.ones(8))
    of_items, of_seeds = 0.01 * 8 / 7 / 8, 2 * 0.005 / 3
    freedom = (of_items + of_seeds) ** 2 / (of_items**2 / 7 + of_seeds**2 / 4)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(of_items + of_seeds)
    found = pairs.difference(0, 1)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - reach, 0.3 + reach))


def test_what_items_add_to_seeds_leaves_the_variance_and_stays_in_the_freedom():
    """Hillis' degrees of freedom, written out for two rows of three seeds with an interplay of seeds and items."""
    rng = np.random.default_rng(7)
    rows_MSN = 0.3 * rng.normal(size=(2, 3, 1)) + rng.normal(size=(2, 3, 40))
    pairs = compare_pairs(list(rows_MSN), np.ones(40))
    of_items = (rows_MSN[0].mean(axis=0) - rows_MSN[1].mean(axis=0)).var(ddof=1) / 40
    between = rows_MSN.mean(axis=2).var(axis=1, ddof=1).mean()
    rests = rows_MSN - rows_MSN.mean(axis=2, keepdims=True) - rows_MSN.mean(axis=1, keepdims=True)
    rests += rows_MSN.mean(axis=(1, 2), keepdims=True)
    of_seed = between - (rests**2).sum() / (2 * 2 * 39) / 40
    assert of_seed > 0
    variance = of_items + 2 * of_seed / 3
    freedom = variance**2 / (of_items**2 / 39 + (2 * between / 3) ** 2 / 4)
    assert pairs.errors[0, 1] == pytest.approx(math.sqrt(variance))
    assert pairs.freedom[0, 1] == pytest.approx(freedom)


def test_rows_may_have_another_number_of_seeds():
    """Means without a spread over items: Student's t-test with pooled variance, of 3 and 5 seeds."""
    first_S, second_S = np.array([0.1, 0.3, 0.2]), np.array([0.5, 0.4, 0.6, 0.55, 0.45])
    pairs = compare_pairs([np.tile(one[:, None], 6) for one in (first_S, second_S)], np.ones(6))
    test = stats.ttest_ind(first_S, second_S)
    interval, found = test.confidence_interval(0.95), pairs.difference(0, 1)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert pairs.num_seeds == (3, 5)


def test_beside_a_row_of_one_seed_the_error_is_that_of_the_items():
    rng = np.random.default_rng(8)
    several_SN, single_SN = rng.normal(size=(3, 50)) + 9 * rng.normal(size=(3, 1)), rng.normal(size=(1, 50))
    pairs = compare_pairs([several_SN, single_SN, several_SN + 1], np.ones(50))
    differences_N = several_SN.mean(axis=0) - single_SN[0]
    assert pairs.errors[0, 1] == pytest.approx(differences_N.std(ddof=1) / math.sqrt(50))
    assert pairs.errors[0, 2] > 2


def test_equality_is_two_one_sided_tests():
    """p is the larger of SciPy's two one-sided paired t-tests against +-margin."""
    rng = np.random.default_rng(9)
    sums_MSN = rng.normal(size=(2, 1, 80)) * 0.1 + np.array([0.02, 0.0])[:, None, None]
    pairs = compare_pairs(list(sums_MSN), np.ones(80))
    differences = sums_MSN[0, 0] - sums_MSN[1, 0]
    for margin in (0.01, 0.04, 0.1):
        below = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        above = stats.ttest_1samp(differences, margin, alternative="less").pvalue
        assert pairs.p_beyond(0, 1, margin=margin) == pytest.approx(max(below, above))


def test_equality_without_any_spread_is_seen_from_the_numbers():
    pairs = compare_pairs([np.full((2, 4), value) for value in (0.0, 0.0, 1.0)], np.ones(4))
    assert pairs.p_beyond(0, 1, margin=0.5) == 0.0
    assert pairs.p_beyond(0, 2, margin=0.5) == 1.0


def test_weights_make_it_a_difference_of_ratios():
    """To first order its error is that of (x - R w) / mean w, with w of both rows the same."""
    rng = np.random.default_rng(2)
    tokens_N = rng.integers(1, 30, size=200).astype(float)
    nats_MN = tokens_N * np.array([[2.0], [1.5]]) + rng.normal(size=(2, 200))
    found = compare_pairs(list(nats_MN[:, None]), tokens_N).difference(0, 1)
    ratios_M = nats_MN.sum(axis=1) / tokens_N.sum()
    rests_MN = nats_MN - ratios_M[:, None] * tokens_N
    error = (rests_MN[0] - rests_MN[1]).std(ddof=1) / math.sqrt(200) / tokens_N.mean()
    assert found.value == pytest.approx(ratios_M[0] - ratios_M[1])
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 199) * error)


def test_equal_rows_are_inside_the_noise_and_a_constant_gap_is_not():
    row_SN = np.random.default_rng(3).integers(2, size=(1, 50)).astype(float)
    pairs = compare_pairs([row_SN, row_SN, row_SN + 1], np.ones(50))
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


def _share(num_rows, num_seeds, spread, *, says):  # type: ignore[no-untyped-def]
    """Of 400 simulated tables of rows that are alike, those of which something is said."""
    rng, found = np.random.default_rng(4), 0
    for _ in range(400):
        easy_N, liked_MN = rng.normal(size=100), rng.normal(size=(num_rows, 1, 100))
        seeds_MS, rest_MSN = rng.normal(size=(num_rows, num_seeds, 1)), rng.normal(size=(num_rows, num_seeds, 100))
        found += says(compare_pairs(list(easy_N + liked_MN + spread * seeds_MS + rest_MSN), np.ones(100)))
    return found / 400


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_two_rows_that_are_alike_are_told_apart_in_one_table_of_twenty(num_seeds, spread):
    """Binomial limits of 0.03 and 0.06 over 400 tables."""
    share = _share(2, num_seeds, spread, says=lambda pairs: not pairs.difference(0, 1).is_inside_noise)
    assert 0.015 <= share <= 0.085


def test_some_of_many_rows_that_are_alike_are_told_apart_in_one_table_of_twenty():
    def says(pairs):  # type: ignore[no-untyped-def]
        best, worst = int(pairs.scores.argmax()), int(pairs.scores.argmin())
        return not pairs.difference(best, worst, num_rows=8).is_inside_noise

    assert 0.015 <= _share(8, 3, 0.1, says=says) <= 0.085


def test_a_single_item_has_no_spread():
    with pytest.raises(ValueError, match="1 items have no spread"):
        compare_pairs([np.zeros((1, 1))] * 2, np.ones(1))
