"""Oracles: the definition of proportional prefixes, and the hash itself."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_bench.config.schema import TaskConfig
from lora_bench.tasks.base import Example, TaskError
from lora_bench.tasks.splits import hold_out, normalise, seeded_order, split_examples

TEXTS = [f"text {index}" for index in range(200)]
STRATA = [0 if index < 20 else 1 for index in range(200)]


def test_normalise_sees_repeats():
    assert normalise("  Hello, WORLD!\n") == normalise("hello world") == "hello world"
    assert normalise("hello worlds") != normalise("hello world")


def test_order_of_one_stratum_is_the_order_of_the_hashes():
    wanted = sorted(range(200), key=lambda index: hashlib.sha256(f"7\0text {index}".encode()).hexdigest())
    assert seeded_order(TEXTS, [0] * 200, seed=7) == wanted


def test_order_depends_on_the_seed_and_not_on_the_other_texts():
    order = seeded_order(TEXTS, [0] * 200, seed=0)
    assert sorted(order) == list(range(200))
    assert order != seeded_order(TEXTS, [0] * 200, seed=1)
    without = [index for index in order if index < 150]
    assert without == seeded_order(TEXTS[:150], [0] * 150, seed=0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_every_prefix_holds_each_stratum_in_proportion(strata, seed):
    order = seeded_order([str(index) for index in range(len(strata))], strata, seed=seed)
    assert sorted(order) == list(range(len(strata)))
    sizes, seen = Counter(strata), Counter()
    for length, index in enumerate(order, start=1):
        seen[strata[index]] += 1
        for stratum, size in sizes.items():
            # One item of the stratum itself, and one of each of the others that may come before it.
            assert abs(seen[stratum] - size * length / len(strata)) <= len(sizes)


def split(**counts):
    examples = [Example(text, text, label=label) for text, label in zip(TEXTS, STRATA, strict=True)]
    return split_examples(examples, STRATA, config=TaskConfig(name="toy", **counts), held_out_fraction=0.25)


def test_split_is_whole_disjoint_and_in_proportion():
    train, validation, test = split()
    assert (len(train), len(validation), len(test)) == (150, 17, 33)
    assert {item.text for item in train + validation + test} == set(TEXTS)
    # One item in ten has the class 0.
    assert [sum(item.label == 0 for item in part) for part in (train, validation + test)] == [15, 5]
    assert 1 <= sum(item.label == 0 for item in validation) <= 3


def test_counts_take_from_the_front_and_move_nothing_across():
    train, validation, test = split()
    assert split(num_train=10, num_validation=5, num_eval=7) == (train[:10], validation[:5], test[:7])
    assert split(num_eval=7)[:2] == (train, validation)


def test_asking_for_more_than_there_is_names_every_count():
    with pytest.raises(TaskError, match=r"task.num_train: 151 asked for, 150 there; give at most 150") as caught:
        split(num_train=151, num_validation=18, num_eval=34)
    assert [fault.key for fault in caught.value.faults] == ["task.num_train", "task.num_validation", "task.num_eval"]


def pool(*texts_and_labels):
    return [Example(str(index), text, label=label) for index, (text, label) in enumerate(texts_and_labels)]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.integers(0, 3)), min_size=1, max_size=60),
    st.one_of(st.none(), st.integers(0, 70)),
    st.integers(0, 3),
)
def test_what_is_held_out_shares_no_text_and_leaves_every_class(rows, count, seed):
    items = pool(*rows)
    classes = {label for _, label in rows}
    train, held = hold_out(items, count=count, num_classes=len(classes), seed=seed)
    assert sorted([*train, *held], key=lambda item: int(item.item_id)) == items
    assert not {item.text for item in train} & {item.text for item in held}
    assert {item.label for item in train} == classes
    limit = min(max(round(len(rows) / 10), len(classes), 1), len(rows) // 2) if count is None else count
    assert len(held) <= limit


def test_one_in_ten_is_held_out_in_proportion_and_in_order():
    train, held = hold_out(pool(*((f"text {n}", n % 2) for n in range(200))), count=None, num_classes=2, seed=0)
    assert (len(train), len(held)) == (180, 20)
    assert sum(item.label for item in held) == 10
    assert [int(item.item_id) for item in held] == sorted(int(item.item_id) for item in held)
    assert hold_out([*train, *held], count=20, num_classes=2, seed=1)[1] != held
