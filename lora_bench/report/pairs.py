"""The one engine behind every verdict: rows compared on the same items over their seeds. Knows no runs and no words.

Axes: `M` rows, `S` seeds of a row, `R` runs (the seeds of all rows), `N` items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lora_bench.report.ranges import pair_level
from lora_bench.report.statistics import Estimate

ALPHA = 0.05
"""How often rows that are alike may be told apart: a pair that is judged alone, or any pair after a correction."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Differences between rows, first minus second, and how sure they are."""

    scores: Floats
    """Shape (M,)."""
    errors: Floats
    """Standard errors of the differences, shape (M, M)."""
    freedom: Floats
    """Their degrees of freedom, shape (M, M)."""
    num_seeds: tuple[int, ...]
    """Seeds of each row. Where one side of a pair has a single seed, its error is that of the items alone."""
    num_items: int

    def difference(self, first: int, second: int, *, num_rows: int = 2) -> Estimate:
        """Return the difference with its 95 % interval, corrected for all pairs of `num_rows` rows (`ranges`)."""
        from scipy.special import stdtrit

        freedom = float(self.freedom[first, second])
        level = pair_level(num_rows, freedom, alpha=ALPHA)
        value = float(self.scores[first] - self.scores[second])
        reach = float(stdtrit(freedom, 1 - level / 2) * self.errors[first, second])
        return Estimate(value, value - reach, value + reach)

    def p_beyond(self, first: int, second: int, *, margin: float) -> float:
        """Return the p-value that the difference is `margin` or more: the larger of two one-sided tests.

        It is at most `level` exactly where the (1 - 2 level) interval lies inside +-margin (Schuirmann 1987, Journal of
        Pharmacokinetics and Biopharmaceutics 15:657).
        """
        return self._tail(margin - abs(float(self.scores[first] - self.scores[second])), first, second)

    def equal_level(self, rows: Sequence[int], *, margin: float) -> float:
        """Return the level of one pair at which some pair of these rows is called equal wrongly in ALPHA of tables."""
        pairs = [(first, second) for index, first in enumerate(rows) for second in rows[index + 1 :]]
        return holm_level([self.p_beyond(*pair, margin=margin) for pair in pairs])

    def _tail(self, distance: float, first: int, second: int) -> float:
        from scipy.special import stdtr

        error = float(self.errors[first, second])
        if error > 0:
            return float(stdtr(self.freedom[first, second], -distance / error))
        # Without any spread, what is equal is equal and what differs differs.
        return 0.0 if distance > 0 else 0.5 if distance == 0 else 1.0


def compare_pairs(sums: Sequence[Floats], weights_N: Floats) -> Pairs:
    """Compare all rows with each other by Student's t.

    Two sources of noise are in an error: other items (paired, since all rows answered the same ones) and training
    again on other seeds. A row's score is a mean over crossed seeds and items, so that the variance of a difference
    is that of its mean items / N, which holds the interplay of seeds and items, and that of the seeds alone
    / S for each side (two crossed random factors: Searle, Casella & McCulloch 1992, Variance Components, chapter 4).

    Degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2:110) of the two mean squares that are
    estimated: the items' and the one between seeds. The latter counts whole, with what the items of one seed add to it,
    although that part is taken off its variance again (Hillis 2007, Statistics in Medicine 26:596, for readers and
    cases in the place of seeds and items). With the remainder alone there are too many, and rows that are alike were
    told apart in 0.074 of simulated tables instead of 0.05 (`benchmarks/verdict_rates.py`). Where nothing remains, the
    items' stand alone.

    assumption: seeds spread all rows alike, so that their variance is pooled over the rows; that of one row, from
    three seeds, would be too uncertain to judge with. 13 methods at their best rates kept it (`results/LOG.md`,
    2026-11-22): the logarithms of their variances over three seeds spread by 1.7, and those of equal ones by 1.6. A row
    that spreads three times as much as four others is told apart wrongly in 0.13 to 0.16 of tables. With the larger of
    the pooled and the pair's own variance it is in 0.05 to 0.08, and true differences are found in up to 0.13 fewer.

    Args:
        sums: Of each row, sums per item, such as correct (0 or 1) or nats, shape (seeds, items); seeds may differ in
            number.
        weights_N: What the sums are divided by, such as tokens; 1 each for a mean.

    Raises:
        ValueError: If there are fewer than two items.
    """
    sums_RN, seeds_M = np.concatenate(list(sums)), np.array([len(row_SN) for row_SN in sums])
    num_items = sums_RN.shape[1]
    if num_items < 2:
        raise ValueError(f"{num_items} items have no spread; two or more are needed")
    starts_M = np.cumsum(seeds_M) - seeds_M
    scores_R = sums_RN.sum(axis=1) / weights_N.sum()
    # What items add to a ratio, to first order (Cochran 1977, Sampling Techniques, chapter 6); of a mean, x - mean.
    parts_RN = (sums_RN - scores_R[:, None] * weights_N) / weights_N.mean()
    means_MN = np.add.reduceat(parts_RN, starts_M, axis=0) / seeds_M[:, None]
    scores_M = np.add.reduceat(scores_R, starts_M) / seeds_M
    covariance_MM = means_MN @ means_MN.T / (num_items - 1)
    own_M = np.diag(covariance_MM)
    # Rounding takes the spread between equal rows below 0.
    of_items_MM = np.maximum(own_M[:, None] + own_M - 2 * covariance_MM, 0) / num_items
    row_of_R = np.repeat(np.arange(len(seeds_M)), seeds_M)
    between, of_seed = _seed_variances(scores_R - scores_M[row_of_R], parts_RN - means_MN[row_of_R], len(seeds_M))
    is_repeated_MM = np.minimum.outer(seeds_M, seeds_M) > 1
    shares_MM = np.where(is_repeated_MM & (of_seed > 0), np.add.outer(1 / seeds_M, 1 / seeds_M), 0.0)
    squares_MM = of_items_MM + of_seed * shares_MM
    freedom_of_seeds = max(len(scores_R) - len(seeds_M), 1)
    spread_MM = of_items_MM**2 / (num_items - 1) + (between * shares_MM) ** 2 / freedom_of_seeds
    freedom_MM = np.divide(squares_MM**2, spread_MM, out=np.full_like(spread_MM, num_items - 1), where=spread_MM > 0)
    return Pairs(scores_M, np.sqrt(squares_MM), freedom_MM, tuple(map(int, seeds_M)), num_items)


def holm_level(p_values: Sequence[float], *, alpha: float = ALPHA) -> float:
    """The level at which Holm's step-down procedure stops: what has a p-value up to it is told apart, no other is.

    The p-values in ascending order are held against alpha / m, alpha / (m - 1), ... until one is larger (Holm 1979,
    Scandinavian Journal of Statistics 6:65).
    """
    for index, p_value in enumerate(sorted(p_values)):
        level = alpha / (len(p_values) - index)
        if p_value > level:
            return level
    return alpha


def _seed_variances(scores_R: Floats, rest_RN: Floats, num_rows: int) -> tuple[float, float]:
    """Between the seeds of a row, pooled over the rows: whole, and without what the items of one seed add to it.

    Both arrays are less the mean of their row. The second is not below 0.
    """
    freedom, num_items = len(scores_R) - num_rows, rest_RN.shape[1]
    if freedom < 1:
        return 0.0, 0.0
    between = float((scores_R**2).sum()) / freedom
    rest = float((rest_RN**2).sum()) / (freedom * (num_items - 1))
    return between, max(between - rest / num_items, 0.0)
