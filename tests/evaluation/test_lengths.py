"""Oracle: the definition."""

from __future__ import annotations

import numpy as np
import pytest

from lora_bench.evaluation.lengths import length_batches


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_item_once_longest_first(batch_size):
    lengths = np.random.default_rng(0).integers(1, 9, 23)
    batches = length_batches(lengths, batch_size)
    order = np.concatenate(batches)
    assert sorted(order) == list(range(23))
    assert (np.diff(lengths[order]) <= 0).all()
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_equal_lengths_keep_their_order():
    assert np.concatenate(length_batches(np.full(6, 3), 4)).tolist() == list(range(6))
