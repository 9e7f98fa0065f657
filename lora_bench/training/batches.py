"""Which items make up which step: a plan that depends on the seed and the lengths alone.

The order is the same for every method, every number of processes and every micro-batch size, and any step can be
looked up without walking through those before it, so that a resume needs no replay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CHUNK_BATCHES = 32
"""Batches that are sorted by length together: enough for little padding, few enough to stay mixed."""


class BatchPlan:
    """Endless batches over shuffled epochs, with items of like length together.

    The shuffled epochs are laid end to end and cut into chunks of `CHUNK_BATCHES` batches; each chunk is sorted by
    length, cut into batches, and the batches are shuffled. Every batch is full, every item comes once per epoch.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        padded_apart: Sequence[NDArray[np.int64]] | None = None,
    ) -> None:
        self._lengths = lengths
        self._padded_apart = [lengths] if padded_apart is None else padded_apart
        self._batch_size = batch_size
        self._seed = seed
        self._epochs: dict[int, NDArray[np.int64]] = {}
        self._chunks: dict[int, list[NDArray[np.int64]]] = {}

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices of the items of a step, shape (batch_size,), longest first; steps count from 0."""
        chunk, position = divmod(step, CHUNK_BATCHES)
        if chunk not in self._chunks:
            self._chunks = {chunk: self._make_chunk(chunk)}
        return self._chunks[chunk][position]

    def padded_tokens(self, step: int) -> int:
        """Tokens of a step's batch when padded to its longest item, prompts and responses apart where they are."""
        return sum(int(lengths[self.batch(step)].max()) for lengths in self._padded_apart) * self._batch_size

    def _make_chunk(self, chunk: int) -> list[NDArray[np.int64]]:
        size = CHUNK_BATCHES * self._batch_size
        items = self._stream(chunk * size, size)
        # Stable, so that equal lengths keep their shuffled order on every platform.
        items = items[np.argsort(-self._lengths[items], kind="stable")]
        batches = items.reshape(CHUNK_BATCHES, self._batch_size)
        order = np.random.default_rng((self._seed, 1, chunk)).permutation(CHUNK_BATCHES)
        return [batches[index] for index in order]

    def _stream(self, start: int, size: int) -> NDArray[np.int64]:
        """A stretch of the shuffled epochs laid end to end."""
        num_items = len(self._lengths)
        first, last = start // num_items, (start + size - 1) // num_items
        whole = np.concatenate([self._epoch(epoch) for epoch in range(first, last + 1)])
        return whole[start - first * num_items :][:size]

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            if len(self._epochs) > 2:
                self._epochs.clear()
            self._epochs[epoch] = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._lengths))
        return self._epochs[epoch]


def split_micro_batches(items: NDArray[np.int64], micro_batch_size: int | None) -> list[NDArray[np.int64]]:
    """The items of a step in forward passes of at most `micro_batch_size`; None is one pass."""
    if micro_batch_size is None:
        return [items]
    return [items[start : start + micro_batch_size] for start in range(0, len(items), micro_batch_size)]
