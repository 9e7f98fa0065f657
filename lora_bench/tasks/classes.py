"""The classes of a user's files: found in the training file, in one order, and looked for in the others."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from lora_bench.config.columns import LABEL
from lora_bench.errors import Fault, suggest
from lora_bench.tables.table import MAX_PLACES_NAMED
from lora_bench.tasks.values import Items

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_PERHAPS_MISSING = ("none", "null", "na", "n/a", "-", "?")
_MAX_FEW = 20
"""Classes that any file may have; more are doubted where they are half as many as items."""


def order_classes(found: set[str]) -> tuple[str, ...]:
    """Return the classes by number if all are numbers, else by alphabet; equal numbers by their spelling."""
    if all(_NUMBER.fullmatch(label) for label in found):
        return tuple(sorted(found, key=lambda label: (Decimal(label), label)))
    return tuple(sorted(found))


def find_classes(items: Mapping[str, Items], faults: list[Fault]) -> tuple[str, ...]:
    """Return the classes of the training file; what is wrong with them in any file is added to the faults."""
    if "train" not in items:
        return ()
    train = items["train"]
    targets = train.fields[LABEL]
    labels = order_classes(set(targets))
    count, path = len(targets), train.table.path
    if len(labels) == 1:
        problem = f"all {count} items have the class '{labels[0][:40]}'; classification needs two or more classes"
        faults.append(Fault("task.train", f"{path}: {problem}"))
    elif len(labels) > max(_MAX_FEW, count // 2):
        problem = (
            f"{len(labels)} classes in {count} items, such as '{labels[0][:40]}'; "
            "set task.label to another column, or for free answers set task.prompt and task.response"
        )
        faults.append(Fault("task.train", f"{path}: {problem}"))
    else:
        for split in items:
            if split != "train":
                faults.extend(_unknown_classes(items[split], labels, split=split))
    return labels


def doubtful_classes(labels: Sequence[str], targets: Sequence[str]) -> Iterator[str]:
    """Yield a note for each class that may be a missing value, and for classes that may be one."""
    counts = Counter(targets)
    for label in labels:
        if label.casefold() in _PERHAPS_MISSING:
            yield f"class '{label}' ({counts[label]} items) is a class like any other; is it a missing label?"
    alike: dict[object, list[str]] = defaultdict(list)
    for label in labels:
        alike[Decimal(label) if _NUMBER.fullmatch(label) else label.casefold()].append(label)
    for same in alike.values():
        if len(same) > 1:
            spelt = ", ".join(f"'{label[:40]}'" for label in same)
            yield f"classes {spelt} differ in spelling alone and are {len(same)} classes; is it one?"


def _unknown_classes(items: Items, labels: Sequence[str], *, split: str) -> Iterator[Fault]:
    """Each class of another file that the training file lacks, with its lines."""
    unknown: dict[str, list[int]] = defaultdict(list)
    known = set(labels)
    for place, target in zip(items.places, items.fields[LABEL], strict=True):
        if target not in known:
            unknown[target].append(place)
    shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
    key, path = f"task.{split}", items.table.path
    for label, places in list(unknown.items())[:MAX_PLACES_NAMED]:
        problem = f"class '{label[:40]}' is not in task.train{suggest(label, labels)}; its classes: {shown}"
        yield Fault(key, f"{path} {items.table.name(places)}: {problem}")
    if len(unknown) > MAX_PLACES_NAMED:
        more = len(unknown) - MAX_PLACES_NAMED
        yield Fault(key, f"{path}: {more} more classes that task.train lacks; is task.label the right column?")
