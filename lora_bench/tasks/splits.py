"""Splits and orders that depend on a seed and on the texts alone, not on a library's random numbers."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from lora_bench.config.schema import TaskConfig
from lora_bench.errors import Fault
from lora_bench.tasks.base import Example, TaskError

_WORDS = re.compile(r"[a-z0-9]+")


def normalise(text: str) -> str:
    """The words of an English text, case and punctuation aside: equal for texts that repeat each other."""
    return " ".join(_WORDS.findall(text.lower()))


def seeded_order(texts: Sequence[str], strata: Sequence[int], *, seed: int) -> list[int]:
    """Indices in a shuffled order in which every prefix holds each stratum in proportion, to within one item.

    Items are ranked by a hash of seed and text, so that the order is the same on every platform and version,
    and an item that is added leaves the order of the others as it was. Equal texts keep their own order.
    """
    hashes = [hashlib.sha256(f"{seed}\0{text}".encode()).digest() for text in texts]
    sizes = Counter(strata)
    seen: Counter[int] = Counter()
    places = {}
    for index in sorted(range(len(texts)), key=hashes.__getitem__):
        stratum = strata[index]
        # Centre of the item's share of its stratum: strata of any size then fill every prefix evenly.
        places[index] = ((seen[stratum] + 0.5) / sizes[stratum], hashes[index])
        seen[stratum] += 1
    return sorted(places, key=places.__getitem__)


VALIDATION_FRACTION = 1 / 3
"""Of the held-out items; the others are test items."""

HELD_OUT_OF_TRAIN = 1 / 10
"""Of a training pool that has no validation items beside it."""

Splits = tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]
"""Train, validation and test."""


def split_examples(
    examples: Sequence[Example], strata: Sequence[int], *, config: TaskConfig, held_out_fraction: float
) -> Splits:
    """Return train, validation and test. Pools are fixed fractions, and each count takes from the front of its pool.

    So a different `num_train`, `num_validation` or `num_eval` never moves an item from one split to another.

    Raises:
        TaskError: If more items are asked for than a pool holds.
    """
    order = seeded_order([item.text for item in examples], strata, seed=config.split_seed)
    return cut_splits([examples[index] for index in order], config=config, held_out_fraction=held_out_fraction)


def cut_splits(ordered: Sequence[Example], *, config: TaskConfig, held_out_fraction: float) -> Splits:
    """Return train, validation and test of items that are in their seeded order: the held-out ones come first.

    Raises:
        TaskError: If more items are asked for than a pool holds.
    """
    num_held_out = round(len(ordered) * held_out_fraction)
    num_validation = round(num_held_out * VALIDATION_FRACTION)
    return take_counts(
        ordered[num_held_out:], ordered[:num_validation], ordered[num_validation:num_held_out], config=config
    )


def take_counts(
    train: Sequence[Example], validation: Sequence[Example], test: Sequence[Example], *, config: TaskConfig
) -> Splits:
    """Return the first `num_train`, `num_validation` and `num_eval` items.

    Raises:
        TaskError: If more are asked for than there are, naming every such count.
    """
    asked = (
        ("num_train", config.num_train, train),
        ("num_validation", config.num_validation, validation),
        ("num_eval", config.num_eval, test),
    )
    faults = [
        Fault(f"task.{key}", f"{count} asked for, {len(pool)} there; give at most {len(pool)}, or null for all")
        for key, count, pool in asked
        if count is not None and count > len(pool)
    ]
    if faults:
        raise TaskError(faults)
    return tuple(train[: config.num_train]), tuple(validation[: config.num_validation]), tuple(test[: config.num_eval])


def hold_out(
    examples: Sequence[Example], *, count: int | None, num_classes: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return what is left of a training pool, and a seeded part of it for validation, both in their order.

    Items with equal texts stay together, and every class keeps an item to train on. So the part may be smaller than
    `count`, and is empty where there is nothing to spare.

    Args:
        examples: The pool.
        count: Items to hold out; None takes one in ten, at least one for each class, at most half.
        num_classes: 0 for generation.
        seed: Of the order.
    """
    if count is None:
        count = min(max(round(HELD_OUT_OF_TRAIN * len(examples)), num_classes, 1), len(examples) // 2)
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, item in enumerate(examples):
        groups.setdefault(item.content, []).append(index)
    members = list(groups.values())
    firsts = [examples[group[0]] for group in members]
    order = seeded_order(["\0".join(item.content) for item in firsts], [item.label or 0 for item in firsts], seed=seed)
    left = Counter(item.label for item in examples)
    held: set[int] = set()
    for position in order:
        group = members[position]
        taken = Counter(examples[index].label for index in group)
        if len(held) + len(group) <= count and all(left[label] > number for label, number in taken.items()):
            held.update(group)
            left -= taken
    train = [item for index, item in enumerate(examples) if index not in held]
    return train, [item for index, item in enumerate(examples) if index in held]
