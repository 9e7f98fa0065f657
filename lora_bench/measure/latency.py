"""Times of calls that are compared with each other: taken in turns, so that whatever else the machine does hits all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lora_bench.errors import MeasurementError

MIN_ROUNDS = 6
"""Fewest values whose smallest and largest enclose the median in 95 of 100 cases: 1 - 2 / 2**6 = 0.97."""
TAIL = 0.025


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

    @property
    def holds_one(self) -> bool:
        """Whether the two may be equal."""
        return self.low <= 1 <= self.high


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

    Raises:
        MeasurementError: If there are fewer than `MIN_ROUNDS`.
    """
    if len(seconds) < MIN_ROUNDS:
        raise MeasurementError(f"{len(seconds)} rounds give no 95 % interval; {MIN_ROUNDS} are the fewest")
    ratios = sorted(own / other for own, other in zip(seconds, reference, strict=True))
    index = _order_index(len(ratios))
    return Ratio(statistics.median(ratios), ratios[index], ratios[-1 - index])


def _order_index(count: int) -> int:
    """The last index that at least 97.5 % of all samples have below their median: binomial, p = 1/2."""
    below = 0
    for index in range(count):
        below += math.comb(count, index)
        if below / 2**count > TAIL:
            return index - 1
    raise AssertionError("the whole binomial is more than its tail")
