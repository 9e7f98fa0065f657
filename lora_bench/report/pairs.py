"""Every pair of many rows, compared on the same items and corrected for how many pairs there are. Knows no runs.

Axes: `M` rows, `S` seeds of each row, `N` items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lora_bench.report.statistics import Estimate

ALPHA = 0.05
"""How often one or more pairs of rows that are alike may be told apart."""

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
    level: float
    """Of a single comparison, such that ALPHA holds for all of them together."""

    def difference(self, first: int, second: int) -> Estimate:
        """With its corrected interval, which holds 0 exactly where Holm's procedure does not tell the two apart."""
        from scipy.special import stdtrit

        value = float(self.scores[first] - self.scores[second])
        reach = float(stdtrit(self.freedom[first, second], 1 - self.level / 2) * self.errors[first, second])
        return Estimate(value, value - reach, value + reach)


def compare_pairs(sums_MSN: Floats, weights_N: Floats) -> Pairs:
    """Compares all rows with each other by Student's t.

    Two sources of noise are in an error: other items (paired, since all rows answered the same ones) and training
    again on other seeds. A row's score is a mean over crossed seeds and items, so that the variance of a difference
    is that of its mean items / N, which holds the interplay of seeds and items, and that of the seeds alone
    / S for each side (two crossed random factors: Searle, Casella & McCulloch 1992, Variance Components, chapter 4;
    degrees of freedom: Satterthwaite 1946, Biometrics Bulletin 2:110).

    assumption: seeds spread all rows alike, so that their variance is pooled over the rows; that of one row, from
    three seeds, would be too uncertain to correct with. With one seed there is no such part, and the error says nothing
    of other seeds.

    Not by `paired_bootstrap`: a correction for hundreds of pairs asks for tails that thousands of resamples do not
    reach, and that three seeds, resampled, do not have.

    All pairs are corrected for, not only those with the best, which was made the best by the same scores: among 24
    equal rows (three seeds, 1,000 items, four spreads of the seeds) a correction for the 23 comparisons with the best
    told some row apart in 0.19 to 0.33 of 200 simulated studies, this one in 0.02 to 0.05.

    Args:
        sums_MSN: Sums per item, such as correct (0 or 1) or nats, shape (rows, seeds, items).
        weights_N: What the sums are divided by, such as tokens; 1 each for a mean.

    Raises:
        ValueError: If there are fewer than two items.
    """
    num_rows, num_seeds, num_items = sums_MSN.shape
    if num_items < 2:
        raise ValueError(f"{num_items} items have no spread; two or more are needed")
    scores_MS = sums_MSN.sum(axis=2) / weights_N.sum()
    # What items add to a ratio, to first order (Cochran 1977, Sampling Techniques, chapter 6); of a mean, x - mean.
    parts_MSN = (sums_MSN - scores_MS[:, :, None] * weights_N) / weights_N.mean()
    means_MN = parts_MSN.mean(axis=1)
    covariance_MM = means_MN @ means_MN.T / (num_items - 1)
    own_M = np.diag(covariance_MM)
    # Rounding takes the spread between equal rows below 0.
    of_items_MM = np.maximum(own_M[:, None] + own_M - 2 * covariance_MM, 0) / num_items
    of_seeds = 2 * _seed_variance(scores_MS, parts_MSN - means_MN[:, None]) / num_seeds
    squares_MM = of_items_MM + of_seeds
    spread_MM = of_items_MM**2 / (num_items - 1) + of_seeds**2 / max(num_rows * (num_seeds - 1), 1)
    freedom_MM = np.divide(squares_MM**2, spread_MM, out=np.full_like(spread_MM, num_items - 1), where=spread_MM > 0)
    scores_M, errors_MM = scores_MS.mean(axis=1), np.sqrt(squares_MM)
    return Pairs(scores_M, errors_MM, freedom_MM, holm_level(_p_values(scores_M, errors_MM, freedom_MM)))


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


def _seed_variance(scores_MS: Floats, rest_MSN: Floats) -> float:
    """Between seeds, pooled over the rows, without what items of one seed add to it; not below 0."""
    num_rows, num_seeds, num_items = rest_MSN.shape
    if num_seeds < 2:
        return 0.0
    between = scores_MS.var(axis=1, ddof=1).mean()
    rest = (rest_MSN**2).sum() / (num_rows * (num_seeds - 1) * (num_items - 1))
    return float(max(between - rest / num_items, 0.0))


def _p_values(scores_M: Floats, errors_MM: Floats, freedom_MM: Floats) -> list[float]:
    """Two-sided, of each pair once."""
    from scipy.special import stdtr

    rows = np.triu_indices(len(scores_M), k=1)
    distances = np.abs(scores_M[:, None] - scores_M)[rows]
    # Without any spread, what is equal is equal and what differs differs.
    ratios = np.where(distances > 0, np.inf, 0.0)
    ratios = np.divide(distances, errors_MM[rows], out=ratios, where=errors_MM[rows] > 0)
    return [float(p) for p in 2 * stdtr(freedom_MM[rows], -ratios)]
