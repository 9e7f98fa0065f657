"""Two rows of a table compared item by item: the same items, answered by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lora_bench.report.load import Record, read_predictions
from lora_bench.report.statistics import Estimate, mcnemar_exact, paired_bootstrap

ITEM_FIELDS = {
    "accuracy": ("correct", None),
    "exact_match": ("correct", None),
    "nll_per_token": ("nll", "num_tokens"),
}
"""Score -> what is summed over items, and what that is divided by; any other score is a mean of its own field."""

Items = dict[str, tuple[float, float]]
"""Item -> (its part of the sum, its weight)."""


@dataclass(frozen=True)
class Difference:
    """How far a row is from the baseline."""

    estimate: Estimate
    num_items: int
    mcnemar_p: float | None
    """Where both rows are one run with right and wrong answers."""

    def verdict(self, *, higher_is_better: bool) -> str:
        """`better`, `worse`, or `inside the noise`."""
        if self.estimate.is_inside_noise:
            return "inside the noise"
        return "better" if (self.estimate.value > 0) == higher_is_better else "worse"


def read_items(record: Record, score: str) -> Items:
    """The items that a score was taken over; empty if the run's predictions do not hold it."""
    field, weight = ITEM_FIELDS.get(score, (score, None))
    return {
        item["item_id"]: (float(item[field]), float(item[weight]) if weight else 1.0)
        for item in read_predictions(record)
        if item.get(field) is not None
    }


def paired_difference(own: Sequence[Items], baseline: Sequence[Items]) -> Difference | None:
    """Own runs minus the baseline's, over seeds and items; None unless all of them answered the same items."""
    first = own[0] if own else {}
    if not first or not baseline or any(items.keys() != first.keys() for items in (*own, *baseline)):
        return None
    own_SN, baseline_SN = item_sums(own, first), item_sums(baseline, first)
    return Difference(
        paired_bootstrap(own_SN, baseline_SN, item_weights(first)),
        num_items=len(first),
        mcnemar_p=_mcnemar(own_SN, baseline_SN),
    )


def item_sums(runs: Sequence[Items], order: Items) -> NDArray[np.float64]:
    """What runs add to the sum, shape (runs, items); the items are those of `order`."""
    return np.array([[items[item_id][0] for item_id in order] for items in runs])


def item_weights(items: Items) -> NDArray[np.float64]:
    """What the sum is divided by, shape (items,)."""
    return np.array([weight for _, weight in items.values()])


def _mcnemar(own_SN: NDArray[np.float64], baseline_SN: NDArray[np.float64]) -> float | None:
    both = np.vstack([own_SN, baseline_SN])
    if len(both) != 2 or not np.isin(both, (0.0, 1.0)).all():
        return None
    return mcnemar_exact(int((both[0] > both[1]).sum()), int((both[0] < both[1]).sum()))
