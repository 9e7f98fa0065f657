"""Step times: what a step costs, with warm-up left out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StepTimes:
    """Median and spread of the timed steps, in milliseconds; None while there are none."""

    median_ms: float | None
    p10_ms: float | None
    p90_ms: float | None
    num_timed: int
    tokens_per_s: float | None
    """Non-padding tokens over the timed steps, divided by their summed time."""


def summarise_steps(seconds: Sequence[float], tokens: Sequence[int], *, num_warmup: int) -> StepTimes:
    """Median, 10th and 90th percentile of the steps after the first `num_warmup`.

    Args:
        seconds: Wall time of each optimiser step, without data loading, evaluation and checkpoints.
        tokens: Non-padding tokens of the same steps.
        num_warmup: Steps at the start that are left out; of a run that has no more, all but the last. The very
            first step is never timed.
    """
    num_left_out = max(1, min(num_warmup, len(seconds) - 1))
    timed, counted = list(seconds[num_left_out:]), list(tokens[num_left_out:])
    if not timed:
        return StepTimes(None, None, None, 0, None)
    deciles = statistics.quantiles(timed, n=10, method="inclusive") if len(timed) > 1 else [timed[0]] * 9
    return StepTimes(
        median_ms=1e3 * statistics.median(timed),
        p10_ms=1e3 * deciles[0],
        p90_ms=1e3 * deciles[-1],
        num_timed=len(timed),
        tokens_per_s=sum(counted) / sum(timed),
    )
