"""Intervals and paired tests on numbers and arrays. Knows no runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 4000
"""Of a bootstrap. The limits of a 95 % interval then move by about 2 % of its width from seed to seed."""
CHUNK = 250
"""Resamples drawn at once, so that thousands of items need megabytes and not gigabytes."""


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that it is known to."""

    value: float
    low: float
    high: float

    @property
    def is_inside_noise(self) -> bool:
        """Whether the interval holds 0: of a difference, that it may be none."""
        return self.low <= 0 <= self.high


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Mean over independent runs (seeds) and its interval by Student's t; one value has no interval (both ends NaN).

    Raises:
        ValueError: If there are no values.
    """
    if not values:
        raise ValueError("the mean of no values")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, math.nan, math.nan)
    from scipy.special import stdtrit

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * error
    return Estimate(mean, mean - reach, mean + reach)


def mcnemar_exact(num_only_first: int, num_only_second: int) -> float:
    """Two-sided p-value that two classifiers err equally often on the same items.

    Exact binomial test on the items that just one of them gets right (McNemar 1947, Psychometrika 12:153; the
    exact form: Dietterich 1998, Neural Computation 10:1895, section 3). Without such items it is 1.
    """
    from scipy.special import bdtr

    num_discordant = num_only_first + num_only_second
    if num_discordant == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(num_only_first, num_only_second), num_discordant, 0.5)))


def paired_bootstrap(
    first_SN: NDArray[np.float64],
    second_SN: NDArray[np.float64],
    weights_N: NDArray[np.float64] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Difference of two means over the same items, first minus second, with its percentile interval.

    Items are resampled together for both (Efron & Tibshirani 1993, section 8.5; for comparing systems on one test
    set: Koehn 2004, EMNLP W04-3250). Where both sides have several seeds, seeds are resampled as well, each side its
    own, so that the interval covers training again on other seeds. Simulated with a spread over seeds that outweighs
    the items, it held the true difference in 0.93 of experiments with five seeds and in 0.85 with three.

    Args:
        first_SN: Sums per item, shape (seeds, items), such as correct (0 or 1) or nats.
        second_SN: The same for the other side; the same items in the same order.
        weights_N: What the sums are divided by, such as tokens; None is 1 each.
        confidence: Of the interval.
        seed: Of the resampling; the same input gives the same interval.

    Raises:
        ValueError: If the items differ in number, or there are none.
    """
    num_items = first_SN.shape[1]
    if num_items == 0 or second_SN.shape[1] != num_items:
        raise ValueError(f"{num_items} items cannot be paired with {second_SN.shape[1]}")
    weights_N = np.ones(num_items) if weights_N is None else weights_N
    value = float((first_SN.mean(axis=0) - second_SN.mean(axis=0)).sum() / weights_N.sum())
    # Items that are alike on both sides are one cell: right and wrong answers make a handful, whatever the items.
    cells, sizes = np.unique(np.vstack([first_SN, second_SN, weights_N]), axis=1, return_counts=True)
    first_SC, second_SC, weights_C = cells[: len(first_SN)], cells[len(first_SN) : -1], cells[-1]
    rng = np.random.default_rng(seed)
    drawn: list[NDArray[np.float64]] = []
    for _ in range(NUM_RESAMPLES // CHUNK):
        counts_BC = rng.multinomial(num_items, sizes / num_items, size=CHUNK).astype(np.float64)
        drawn.append(_resampled(first_SC, second_SC, counts_BC, rng) / (counts_BC @ weights_C))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def _resampled(
    first_SC: NDArray[np.float64],
    second_SC: NDArray[np.float64],
    counts_BC: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Sum of differences in each resample, shape (resamples,)."""
    first_SB, second_SB = first_SC @ counts_BC.T, second_SC @ counts_BC.T
    if min(len(first_SC), len(second_SC)) < 2:
        difference: NDArray[np.float64] = first_SB.mean(axis=0) - second_SB.mean(axis=0)
        return difference
    return _mean_of_drawn_seeds(first_SB, rng) - _mean_of_drawn_seeds(second_SB, rng)


def _mean_of_drawn_seeds(sums_SB: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    num_seeds, num_resamples = sums_SB.shape
    drawn_SB = rng.integers(num_seeds, size=(num_seeds, num_resamples))
    mean: NDArray[np.float64] = np.take_along_axis(sums_SB, drawn_SB, axis=0).mean(axis=0)
    return mean
