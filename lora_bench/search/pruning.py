"""When a run is stopped early: rules over curves of one named metric, whatever the study's objectives are.

A *curve* is the metric at each evaluation of one run. The controller asks after each new evaluation; the answer is
the reason to stop, in words, or None. Curves of one arm are compared with each other alone. Values are turned so that
more is better before a rule sees them.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Curve = Mapping[int, float]
"""Step -> value, more is better; in step order."""
Items = Callable[[str, int], Sequence[float] | None]
"""(run, step) -> its own score for each evaluated item, more is better; None where there are none."""

MAX_P = 0.1
"""Below this probability of chance alone `wilcoxon` stops a worse run, as in Optuna."""


@dataclass(frozen=True)
class PruningRule:
    """The settings of a study's pruner, see `StudyConfig`."""

    name: str
    min_steps: int = 1
    factor: int = 3
    patience: int = 3
    startup_trials: int = 4

    def reason_to_stop(self, name: str, curves: Mapping[str, Curve], items: Items) -> str | None:
        """Why the run of this name is to stop at its next evaluation; None lets it go on.

        Args:
            name: One of the runs in `curves`.
            curves: Those of the arm, the run's own among them.
            items: Asked by `wilcoxon` alone.
        """
        own = curves.get(name)
        if not own or max(own) < self.min_steps:
            return None
        others = {other: curve for other, curve in curves.items() if other != name}
        return PRUNERS[self.name](self, name, own, others, items)


Peers = Mapping[str, Curve]


def asha(rule: PruningRule, name: str, own: Curve, others: Peers, items: Items) -> str | None:
    """Asynchronous successive halving (arXiv:1810.05934): the best 1 / factor at each rung go on.

    Rungs are at min_steps * factor**k. As in Optuna, whose trials cannot be paused either, the first runs at a rung
    go on if they are the best so far.
    """
    return _halving(rule, own, others, first_rung=rule.min_steps)


def hyperband(rule: PruningRule, name: str, own: Curve, others: Peers, items: Items) -> str | None:
    """Successive halving in several brackets that differ in their first rung (arXiv:1603.06560).

    A run's bracket follows from its name, so that a controller which is started again finds the same one.
    """
    bracket = zlib.crc32(name.encode()) % 3
    return _halving(rule, own, others, first_rung=rule.min_steps * rule.factor**bracket)


def median_rule(rule: PruningRule, name: str, own: Curve, others: Peers, items: Items) -> str | None:
    """Stops what is, at its best so far, below the median of the others' best up to the same step (Vizier, 3.1)."""
    step = max(own)
    reached = [curve for curve in others.values() if _reaches(curve, step)]
    peers = [max(value for at, value in curve.items() if at <= step) for curve in reached]
    if len(peers) < rule.startup_trials:
        return None
    middle = median(peers)
    best = max(own.values())
    return f"median: {_shown(best)} at step {step}, the median is {_shown(middle)}" if best < middle else None


def patience(rule: PruningRule, name: str, own: Curve, others: Peers, items: Items) -> str | None:
    """Stops after `patience` evaluations in a row that bring no better value; looks at no other run."""
    values = list(own.values())
    best_at = max(range(len(values)), key=values.__getitem__)
    waited = len(values) - 1 - best_at
    return f"patience: no better value in {waited} evaluations" if waited >= rule.patience else None


def wilcoxon(rule: PruningRule, name: str, own: Curve, others: Peers, items: Items) -> str | None:
    """Stops what is worse, item by item, than the best run was at the same step (signed-rank test, one-sided).

    Ties are split, as in Optuna's WilcoxonPruner, which pairs over instances.
    """
    step = max(own)
    peers = {other: curve[step] for other, curve in others.items() if step in curve}
    if not peers:
        return None
    best = max(peers, key=peers.__getitem__)
    mine, theirs = items(name, step), items(best, step)
    if own[step] >= peers[best] or not mine or not theirs or len(mine) != len(theirs):
        return None
    from scipy.stats import wilcoxon as signed_rank

    differences = [one - other for one, other in zip(mine, theirs, strict=True)]
    p = float(signed_rank(differences, alternative="less", zero_method="zsplit").pvalue)
    return f"wilcoxon: worse than {best} over {len(mine)} items at step {step}, p {p:.2g}" if p < MAX_P else None


PRUNERS: dict[str, Callable[[PruningRule, str, Curve, Peers, Items], str | None]] = {
    "asha": asha,
    "hyperband": hyperband,
    "median": median_rule,
    "patience": patience,
    "wilcoxon": wilcoxon,
}


def _halving(rule: PruningRule, own: Curve, others: Peers, *, first_rung: int) -> str | None:
    step, previous = max(own), sorted(own)[-2] if len(own) > 1 else 0
    rung = _last_rung(first_rung, rule.factor, step)
    if rung is None or rung <= previous:
        return None  # it was judged at this rung already
    value = own[step]
    at_rung = (_at_rung(curve, rung) for curve in others.values())
    peers = sorted([value, *(other for other in at_rung if other is not None)], reverse=True)
    num_kept = max(1, len(peers) // rule.factor)
    if value >= peers[num_kept - 1]:
        return None
    return f"{rule.name}: {_shown(value)} at step {step} is not among the best {num_kept} of {len(peers)}"


def _last_rung(first: int, factor: int, step: int) -> int | None:
    """The highest rung at or below a step."""
    if step < first:
        return None
    rung = first
    while rung * factor <= step:
        rung *= factor
    return rung


def _at_rung(curve: Curve, rung: int) -> float | None:
    """The value at the first evaluation at or after a rung."""
    steps = list(curve)
    index = bisect_left(steps, rung)
    return curve[steps[index]] if index < len(steps) else None


def _reaches(curve: Curve, step: int) -> bool:
    return bool(curve) and min(curve) <= step <= max(curve)


def _shown(value: float) -> str:
    return f"{abs(value) if math.isfinite(value) else value:.4g}"
