"""Who scores which items, where several processes evaluate one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _alone(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values


@dataclass(frozen=True)
class Sharing:
    """One process's part of an evaluation; by default there is no other process."""

    rank: int = 0
    num_processes: int = 1
    total: Callable[[NDArray[np.float64]], NDArray[np.float64]] = _alone
    """The sum of an array over all processes, in each of them."""
    in_step: bool = False
    """Whether all processes take part in every forward pass, since none of them has all weights."""

    def own(self, batches: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """The batches of this process, at least one. In step, those with fewer score the last one again, so that none
        of the others waits for a forward pass that does not come."""
        own = list(batches[self.rank :: self.num_processes])
        wanted = -(-len(batches) // self.num_processes) if self.in_step else 1
        return own + [batches[-1]] * (wanted - len(own))

    def joined(self, rows: dict[int, NDArray[Any]], *, num_items: int) -> NDArray[Any]:
        """The rows of all processes, in the order of the items; `rows` are this process's, of one shape and dtype.

        Every process calls it.
        """
        example = next(iter(rows.values()))
        if self.num_processes == 1:
            return np.stack([rows[index] for index in range(num_items)])
        filled, counts = np.zeros((num_items, *np.shape(example))), np.zeros(num_items)
        for index, row in rows.items():
            filled[index], counts[index] = row, 1
        # An item that two have scored is their mean, which is what both found.
        counts = self.total(counts).reshape(-1, *[1] * np.ndim(example))
        joined: NDArray[Any] = (self.total(filled) / counts).astype(np.asarray(example).dtype)
        return joined


ALONE = Sharing()
"""One process, which scores everything."""
