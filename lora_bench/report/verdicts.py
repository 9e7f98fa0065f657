"""The words of judgement, chosen here alone: terminal, ranking and `--json` all read a `Difference`.

better, worse           the interval of the paired difference leaves 0 out
inside the noise        it holds 0
equal within 0.01       a margin was set beforehand, and the difference is smaller than it (two one-sided tests)
undecided               a margin was set beforehand, and none of these can be said
... : not decided       nothing is tested, for the reason that is named: one seed, a best rate at the edge of its space
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.report.pairs import ALPHA, Pairs
from lora_bench.report.statistics import Estimate

BETTER, WORSE, INSIDE, EQUAL, UNDECIDED, NOT_DECIDED = (
    "better",
    "worse",
    "inside the noise",
    "equal",
    "undecided",
    "not decided",
)
ONE_SEED = "one seed"
AT_EDGE = "best rate at the edge of its space"


@dataclass(frozen=True)
class Rule:
    """How differences of one table are judged."""

    higher_is_better: bool
    margin: float | None = None
    """Differences below it do not matter; set before the runs are looked at. None asks only which is better."""
    num_rows: int = 2
    """Rows of which every pair is asked, for `better` and `worse`; 2 judges each pair alone."""
    equal_level: float = ALPHA
    """Of a single comparison, for `equal`."""


@dataclass(frozen=True)
class Difference:
    """A row less another, over seeds and items, and what may be said of it."""

    estimate: Estimate
    """With its interval: over items and seeds, or over items alone where one side has a single seed."""
    word: str
    """One of the six above."""
    num_items: int
    reason: str = ""
    """Why it is not decided."""
    margin: float | None = None
    p_equal: float | None = None
    """Of the two one-sided tests; None without a margin, or where nothing is tested."""

    @property
    def verdict(self) -> str:
        """The word as it is shown: `worse`, `equal within 0.01`, `one seed: not decided`."""
        if self.word == EQUAL:
            return f"equal within {self.margin:g}"
        return f"{self.reason}: {NOT_DECIDED}" if self.word == NOT_DECIDED else self.word


def judge_pair(pairs: Pairs, first: int, second: int, rule: Rule, *, obstacles: Sequence[str] = ()) -> Difference:
    """Judge row `first` against row `second`.

    Args:
        pairs: Of all rows that share their spread over seeds.
        rule: The direction, the margin and the corrections.
        obstacles: Reasons for which nothing may be said, whatever the numbers are.
    """
    estimate = pairs.difference(first, second, num_rows=rule.num_rows)
    if min(pairs.num_seeds[first], pairs.num_seeds[second]) < 2:
        obstacles = [ONE_SEED, *obstacles]
    if obstacles:
        return Difference(estimate, NOT_DECIDED, pairs.num_items, "; ".join(obstacles), rule.margin)
    p_equal = pairs.p_beyond(first, second, margin=rule.margin) if rule.margin is not None else None
    return Difference(estimate, _word(estimate, p_equal, rule), pairs.num_items, "", rule.margin, p_equal)


def difference_json(difference: Difference | None) -> dict[str, Any] | None:
    """Return the same as plain data, with full digits; None for none."""
    if difference is None:
        return None
    estimate = difference.estimate
    return {
        "value": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "verdict": difference.verdict,
        "word": difference.word,
        "reason": difference.reason or None,
        "margin": difference.margin,
        "p_equal": difference.p_equal,
        "num_items": difference.num_items,
    }


def _word(estimate: Estimate, p_equal: float | None, rule: Rule) -> str:
    """With a margin, `equal` comes first: a difference that is sure to be below it does not matter, sure or not."""
    if p_equal is not None and p_equal <= rule.equal_level:
        return EQUAL
    if not estimate.is_inside_noise:
        return BETTER if (estimate.value > 0) == rule.higher_is_better else WORSE
    return INSIDE if p_equal is None else UNDECIDED
