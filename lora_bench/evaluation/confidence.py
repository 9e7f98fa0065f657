"""95 % confidence intervals of one run's scores over the evaluated items.

They say how far a score may be from what more items of the same kind would give. They do not cover the spread over
seeds, and two runs on the same items are compared by paired tests on their predictions, not by these intervals.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lora_bench.evaluation.metrics import macro_f1

Z = 1.959963984540054
"""Quantile 0.975 of the normal distribution."""
NUM_RESAMPLES = 2_000
"""Of the bootstrap; the limits are then off by about 1 % of the interval's width."""


def wilson_interval(num_correct: int, num_items: int) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927; Brown, Cai & DasGupta 2001, equation 4), within [0, 1]."""
    share = num_correct / num_items
    centre = share + Z**2 / (2 * num_items)
    spread = Z * math.sqrt(share * (1 - share) / num_items + Z**2 / (4 * num_items**2))
    scale = 1 + Z**2 / num_items
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def ratio_interval(
    totals: NDArray[np.float64], counts: NDArray[np.float64], *, low: float, high: float
) -> tuple[float, float]:
    """Interval of `sum(totals) / sum(counts)` over items, such as nats per token; Student's t on the linearised ratio.

    With counts of 1 it is the interval of a mean (Cochran, Sampling Techniques, 3rd edition 1977, equation 6.13,
    without the finite population). One item says nothing about the spread, and neither do items that are not
    finite: the interval is then all of [low, high].

    Args:
        totals: What is summed per item, shape (items,).
        counts: What it is divided by per item, shape (items,).
        low: Smallest value that the ratio can have.
        high: Largest one.
    """
    num_items = len(totals)
    if num_items < 2 or not np.isfinite(totals).all():
        return low, high
    ratio = totals.sum() / counts.sum()
    residuals = totals - ratio * counts
    error = math.sqrt(float(residuals @ residuals) / (num_items - 1) / num_items) / float(counts.mean())
    reach = float(stdtrit(num_items - 1, 0.975)) * error
    return max(low, float(ratio) - reach), min(high, float(ratio) + reach)


def macro_f1_interval(confusion_CC: NDArray[np.int64], *, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of macro F1 (Efron & Tibshirani 1993, section 13.3), seeded.

    Drawing items with replacement is drawing the cells of the confusion matrix from a multinomial distribution,
    because F1 sees nothing else of an item; so 2,000 resamples take milliseconds.

    Args:
        confusion_CC: Counts by true and predicted class, shape (classes, classes).
        seed: Of the resampling alone; the global generators are not touched.
    """
    cells = np.flatnonzero(confusion_CC)
    counts = confusion_CC.ravel()[cells]
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=NUM_RESAMPLES)
    resampled = np.zeros((NUM_RESAMPLES, confusion_CC.size), dtype=np.int64)
    resampled[:, cells] = drawn
    low, high = np.quantile(macro_f1(resampled.reshape(-1, *confusion_CC.shape)), [0.025, 0.975])
    return float(low), float(high)
