"""Times of calls that are compared with each other: taken in turns, so that whatever else the machine does hits all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MIN_ROUNDS = 6
"""Fewest values whose smallest and largest enclose the median in 95 of 100 cases: 1 - 2 / 2**6 = 0.97."""
_Z = 1.96


@dataclass(frozen=True)
class Spread:
    """Times of one call, in milliseconds."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    num_rounds: int


@dataclass(frozen=True)
class Ratio:
    """Time against that of another call, round by round: the median and its 95 % interval."""

    value: float
    low: float
    high: float


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], *, num_rounds: int, num_warmup: int
) -> dict[str, list[float]]:
    """Seconds of each call in each round, A B C A B C; the first `num_warmup` rounds are not in them.

    A call ends when its result is there: on a GPU it has to wait for it itself.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(num_warmup + num_rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            elapsed = time.perf_counter() - started
            if index >= num_warmup:
                seconds[name].append(elapsed)
    return seconds


def spread(seconds: Sequence[float]) -> Spread:
    """Median, 10th and 90th percentile."""
    deciles = statistics.quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 9
    return Spread(1e3 * statistics.median(seconds), 1e3 * deciles[0], 1e3 * deciles[-1], len(seconds))


def paired_ratio(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The median over the rounds of `seconds / reference`.

    Its interval is that between two order statistics (Conover, Practical Nonparametric Statistics, 3.2): no
    distribution is assumed, since times have a long tail.
    """
    ratios = sorted(own / other for own, other in zip(seconds, reference, strict=True))
    reach = _Z * math.sqrt(len(ratios)) / 2
    low = max(0, math.floor(len(ratios) / 2 - reach) - 1)
    return Ratio(statistics.median(ratios), ratios[low], ratios[len(ratios) - 1 - low])


def is_inside_noise(ratio: Ratio, control: Ratio) -> bool:
    """Whether a ratio is no further from 1 than the control's, which compares a call with itself."""
    return ratio.low <= max(1.0, control.high) and ratio.high >= min(1.0, control.low)
