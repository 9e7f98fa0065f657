"""Oracle: counting; every item comes once an epoch, whatever the sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lora_bench.training.batches import BatchPlan, split_micro_batches

LENGTHS = np.random.default_rng(0).integers(4, 60, size=1000)


@pytest.mark.parametrize(("num_items", "batch_size"), [(1000, 32), (7, 4), (3, 8), (64, 64)])
def test_every_item_comes_equally_often(num_items, batch_size):
    plan = BatchPlan(LENGTHS[:num_items], batch_size=batch_size, seed=0)
    counts: Counter[int] = Counter()
    # Chunks hold whole stretches of the epochs laid end to end; over whole chunks counts differ by one at most.
    for step in range(32 * num_items):
        counts.update(plan.batch(step).tolist())
        if step > 200 and (step + 1) % 32 == 0 and (step + 1) * batch_size % num_items == 0:
            break
    assert len(counts) == num_items
    assert max(counts.values()) - min(counts.values()) <= 1


def test_any_step_can_be_looked_up_alone():
    walked = BatchPlan(LENGTHS, batch_size=32, seed=5)
    batches = [walked.batch(step) for step in range(150)]
    for step in (149, 3, 77):
        assert np.array_equal(BatchPlan(LENGTHS, batch_size=32, seed=5).batch(step), batches[step])


def test_seeds_differ_and_repeat():
    first, second = (BatchPlan(LENGTHS, batch_size=32, seed=seed).batch(0) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, BatchPlan(LENGTHS, batch_size=32, seed=0).batch(0))


def test_length_grouping_leaves_little_padding():
    plan = BatchPlan(LENGTHS, batch_size=32, seed=0)
    tokens = sum(int(LENGTHS[plan.batch(step)].sum()) for step in range(32))
    padded = sum(plan.padded_tokens(step) for step in range(32))
    rng = np.random.default_rng(1)
    shuffled = [LENGTHS[rng.permutation(1000)[:32]] for _ in range(32)]
    random_share = 1 - sum(int(b.sum()) for b in shuffled) / sum(int(b.max()) * 32 for b in shuffled)
    assert 1 - tokens / padded < 0.06 < random_share


def test_micro_batches_are_the_batch():
    items = np.arange(12)
    assert [len(part) for part in split_micro_batches(items, 4)] == [4, 4, 4]
    assert np.array_equal(np.concatenate(split_micro_batches(items, 4)), items)
    assert len(split_micro_batches(items, None)) == 1
