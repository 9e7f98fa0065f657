"""The sizes that a batch can be cut into."""

from __future__ import annotations

import math

MOST = 10**6
"""The largest batch that `bounds.py` accepts; a larger one is refused there."""


def divisors(number: int) -> list[int]:
    """Return the divisors in order; none of a number that is no batch's: below 1 or above `MOST`."""
    if not 1 <= number <= MOST:
        return []
    low = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return sorted({*low, *(number // size for size in low)})
