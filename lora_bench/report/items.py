"""What each run of a row answered, item by item, as arrays for `pairs`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lora_bench.report.load import Record, read_predictions

ITEM_FIELDS = {
    "accuracy": ("correct", None),
    "exact_match": ("correct", None),
    "nll_per_token": ("nll", "num_tokens"),
}
"""Score -> what is summed over items, and what that is divided by; any other score is a mean of its own field."""

Items = dict[str, tuple[float, float]]
"""Item -> (its part of the sum, its weight)."""


def read_items(record: Record, score: str) -> Items:
    """The items that a score was taken over; empty if the run's predictions do not hold it."""
    field, weight = ITEM_FIELDS.get(score, (score, None))
    return {
        item["item_id"]: (float(item[field]), float(item[weight]) if weight else 1.0)
        for item in read_predictions(record)
        if item.get(field) is not None
    }


def answered(runs: Sequence[Items], order: Items) -> bool:
    """Return whether there are runs and all of them answered the items of `order`, two or more."""
    return len(order) > 1 and bool(runs) and all(items.keys() == order.keys() for items in runs)


def item_sums(runs: Sequence[Items], order: Items) -> NDArray[np.float64]:
    """What runs add to the sum, shape (runs, items); the items are those of `order`."""
    return np.array([[items[item_id][0] for item_id in order] for items in runs])


def item_weights(items: Items) -> NDArray[np.float64]:
    """What the sum is divided by, shape (items,)."""
    return np.array([weight for _, weight in items.values()])
