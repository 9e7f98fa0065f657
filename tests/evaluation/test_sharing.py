"""Who scores which items. Oracle: counting, and one process that has all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_bench.evaluation.sharing import ALONE, Sharing


@given(num_items=st.integers(1, 40), size=st.integers(1, 7), num_processes=st.integers(1, 5), in_step=st.booleans())
def test_every_item_is_scored_and_in_step_everybody_scores_as_often(num_items, size, num_processes, in_step):
    batches = [np.arange(start, min(start + size, num_items)) for start in range(0, num_items, size)]
    own = [Sharing(rank, num_processes, in_step=in_step).own(batches) for rank in range(num_processes)]
    assert {int(item) for part in own for batch in part for item in batch} == set(range(num_items))
    assert all(own)
    if in_step:
        assert len({len(part) for part in own}) == 1
    elif len(batches) >= num_processes:
        assert sum(len(batch) for part in own for batch in part) == num_items


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_rows_of_several_processes_are_joined_in_order_once(dtype):
    rows = {item: np.array([item, -item, 7], dtype=dtype) for item in range(5)}
    parts = [{item: rows[item] for item in items} for items in ([0, 3, 4], [1, 2, 4])]
    # What the others would add to the sum; item 4 was scored by both.
    theirs = [sum_of(parts[1], num_items=5), sum_of(parts[0], num_items=5)]
    for rank, (own, (their_counts, their_rows)) in enumerate(zip(parts, theirs, strict=True)):
        to_add = iter([their_counts, their_rows])
        sharing = Sharing(rank, 2, total=lambda values, to_add=to_add: values + next(to_add))
        joined = sharing.joined(own, num_items=5)
        assert joined.dtype == dtype
        assert np.array_equal(joined, ALONE.joined(rows, num_items=5))


def sum_of(rows, *, num_items):
    counts, filled = np.zeros(num_items), np.zeros((num_items, 3))
    for item, row in rows.items():
        counts[item], filled[item] = 1, row
    return counts, filled
