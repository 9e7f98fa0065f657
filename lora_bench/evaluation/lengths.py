"""Batches of like length, so that evaluation pads little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def length_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Every index once, longest items first (so that running out of memory shows at once), `batch_size` at a time."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
