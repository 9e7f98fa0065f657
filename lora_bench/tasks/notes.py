"""What a reader of results must know of a task's items: how many of each class, repeats, conflicts, overlap."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from lora_bench.config.schema import TaskKind
from lora_bench.tasks.base import Example, TaskData

_MAX_CLASSES = 20
_MAX_SHOWN = 40


def data_notes(data: TaskData) -> list[str]:
    """Return the notes on the three splits; those that would say "none" are left out."""
    word = "texts" if data.kind is TaskKind.classification else "prompts"
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    splits = {name: items for name, items in splits.items() if items}
    return [_counts(data, splits), *_repeats(splits, word), *_conflicts(data, word), *_overlap(splits, word)]


def _counts(data: TaskData, splits: dict[str, tuple[Example, ...]]) -> str:
    if not data.labels:
        return "items: " + ", ".join(f"{len(items):,} {name}" for name, items in splits.items())
    counts = [Counter(item.label for item in items) for items in splits.values()]
    shown = "; ".join(
        f"{label[:_MAX_SHOWN]} {', '.join(f'{count[index]:,}' for count in counts)}"
        for index, label in enumerate(data.labels[:_MAX_CLASSES])
    )
    more = len(data.labels) - _MAX_CLASSES
    return f"items by class ({', '.join(splits)}): {shown}" + (f"; and {more} more classes" if more > 0 else "")


def _repeats(splits: dict[str, tuple[Example, ...]], word: str) -> Iterator[str]:
    for name, items in splits.items():
        if count := len(items) - len({item.content for item in items}):
            yield f"{count:,} of {len(items):,} {name} {word} repeat another"


def _conflicts(data: TaskData, word: str) -> Iterator[str]:
    """Of all splits: a text that has one class in training and another in the test is a conflict as well."""
    answers: dict[tuple[str, ...], set[int | str | None]] = defaultdict(set)
    every = (*data.train, *data.validation, *data.test)
    for item in every:
        answers[item.content].add(_answer(item))
    disputed = {content for content, found in answers.items() if len(found) > 1}
    if disputed:
        num_items = sum(item.content in disputed for item in every)
        first = next(item.content for item in every if item.content in disputed)
        shown = " | ".join(" ".join(text.split())[:_MAX_SHOWN] for text in first)
        what = "classes" if data.labels else "responses"
        subject = f"{len(disputed):,} {word} have" if len(disputed) > 1 else f"1 {word[:-1]} has"
        yield f"{subject} several {what} ({num_items:,} items), such as '{shown}'"


def _overlap(splits: dict[str, tuple[Example, ...]], word: str) -> Iterator[str]:
    for one, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        count = _num_shared(splits.get(one, ()), splits.get(other, ()))
        if count:
            yield f"{count:,} of {len(splits[one]):,} {one} {word} also stand in {other}"


def _num_shared(items: Sequence[Example], others: Sequence[Example]) -> int:
    known = {item.content for item in others}
    return sum(item.content in known for item in items)


def _answer(item: Example) -> int | str | None:
    return item.response if item.label is None else item.label
