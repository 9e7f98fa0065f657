"""Estimates with their intervals. Knows no runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
