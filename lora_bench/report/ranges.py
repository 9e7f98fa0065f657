"""The studentised range: how far the best of equal rows lies from the worst, for comparing every pair of many rows."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

NUM_QUANTILES = 2000
"""Of the error's own spread, over which the range is averaged; the level is then right to 1 % of itself."""
LARGEST = 200.0
"""Range, in standard errors of a row, beyond which nothing is looked for."""


def pair_level(num_rows: int, freedom: float, *, alpha: float) -> float:
    """Return the level of one pair at which any of all pairs of equal rows is told apart in `alpha` of tables.

    Tukey's range test (Tukey 1953, The Problem of Multiple Comparisons; for unequal errors Kramer 1956, Biometrics
    12:307), said as the level of a two-sided t-test. Two rows make one pair, at `alpha`.

    Args:
        num_rows: Rows of which every pair is asked.
        freedom: Degrees of freedom of the pair's error.
        alpha: Of all pairs together.
    """
    if num_rows <= 2:
        return alpha
    return _pair_level(num_rows, _two_digits(freedom), alpha)


@functools.lru_cache(maxsize=4096)
def _pair_level(num_rows: int, freedom: float, alpha: float) -> float:
    from scipy.special import gammaincinv, stdtr

    ranges, below = _range_distribution(num_rows)
    middles = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    spreads = np.sqrt(2 / freedom * gammaincinv(freedom / 2, middles))
    low, high = 0.0, LARGEST
    while high - low > 1e-4:
        middle = (low + high) / 2
        if np.interp(middle * spreads, ranges, below).mean() < 1 - alpha:
            low = middle
        else:
            high = middle
    return float(2 * stdtr(freedom, -high / math.sqrt(2)))


@functools.lru_cache(maxsize=64)
def _range_distribution(num_rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ranges of independent standard normal numbers, and how often a range is below each."""
    from scipy.special import ndtr

    grid, ranges = np.linspace(-8, 8, 801), np.linspace(0, 16, 801)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    # The largest is at z; all others lie within the range below it.
    within = (ndtr(grid) - ndtr(grid - ranges[:, None])) ** (num_rows - 1)
    return ranges, np.asarray(num_rows * (within * density).sum(axis=1) * (grid[1] - grid[0]))


def _two_digits(freedom: float) -> float:
    """Rounded down, which is on the safe side, so that few levels are worked out."""
    digits = 10.0 ** (math.floor(math.log10(freedom)) - 1)
    return math.floor(freedom / digits) * digits
