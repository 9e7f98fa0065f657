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


def split_examples(
    examples: Sequence[Example], strata: Sequence[int], *, config: TaskConfig, eval_fraction: float
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Train and eval: the eval pool is a fixed fraction, and both counts take from the front of their pool.

    So a different `num_train` or `num_eval` never moves an item from one side to the other.

    Raises:
        TaskError: If more items are asked for than a pool holds.
    """
    order = seeded_order([item.text for item in examples], strata, seed=config.split_seed)
    num_eval = round(len(order) * eval_fraction)
    return take_both([examples[i] for i in order[num_eval:]], [examples[i] for i in order[:num_eval]], config=config)


def take_both(
    train: Sequence[Example], evaluation: Sequence[Example], *, config: TaskConfig
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The first `num_train` and `num_eval` items.

    Raises:
        TaskError: If more are asked for than there are, naming both counts at once.
    """
    asked = (("num_train", config.num_train, train), ("num_eval", config.num_eval, evaluation))
    faults = [
        Fault(f"task.{key}", f"{count} asked for, {len(pool)} there; give at most {len(pool)}, or null for all")
        for key, count, pool in asked
        if count is not None and count > len(pool)
    ]
    if faults:
        raise TaskError(faults)
    return tuple(train[: config.num_train]), tuple(evaluation[: config.num_eval])
