"""Oracle: SciPy's studentised range."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from lora_bench.report.ranges import pair_level


@pytest.mark.parametrize(("num_rows", "freedom"), [(3, 4), (5, 12), (24, 48), (24, 2), (24, 1500)])
def test_the_level_of_a_pair_is_that_of_tukeys_range(num_rows, freedom):
    reach = stats.studentized_range.ppf(0.95, num_rows, freedom) / math.sqrt(2)
    assert pair_level(num_rows, freedom, alpha=0.05) == pytest.approx(2 * stats.t.sf(reach, freedom), rel=0.01)


def test_two_rows_are_one_pair():
    assert pair_level(2, 7.3, alpha=0.05) == 0.05
    assert pair_level(1, 7.3, alpha=0.05) == 0.05


def test_degrees_of_freedom_are_rounded_to_the_safe_side():
    """Down: fewer of them ask for a larger difference."""
    reach = {freedom: -stats.t.ppf(pair_level(5, freedom, alpha=0.05) / 2, freedom) for freedom in (8.3, 8.39, 8.4)}
    assert pair_level(5, 8.39, alpha=0.05) == pair_level(5, 8.3, alpha=0.05)
    assert reach[8.3] > reach[8.4]
