"""Names of columns that users' files usually have, and what they say about the kind of a task.

A file with prompts and answers makes a generation task, whatever its columns are called; the kind decides about the
head, so it must be known before any text is read. Sources of the names: the data sets of the hub and of GLUE, Alpaca
(https://github.com/tatsu-lab/stanford_alpaca), OpenAI's and ShareGPT's conversations.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

TEXT, TEXT_PAIR, LABEL = "text", "text_pair", "label"
PROMPT, INPUT, RESPONSE, MESSAGES = "prompt", "input", "response", "messages"
CLASSIFICATION_FIELDS = (TEXT, TEXT_PAIR, LABEL)
GENERATION_FIELDS = (PROMPT, INPUT, RESPONSE, MESSAGES)

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    TEXT: ("text", "sentence", "review", "tweet", "message", "comment", "utterance", "document", "content", "v2"),
    LABEL: (
        *("label", "labels", "class", "category", "sentiment", "target", "intent", "topic", "polarity", "emotion"),
        *("is_duplicate", "rating", "stars", "gold_label", "v1"),
    ),
    PROMPT: ("prompt", "instruction", "question"),
    INPUT: ("input", "context", "passage"),
    RESPONSE: ("completion", "response", "output", "answer"),
    MESSAGES: ("messages", "conversations"),
}
"""Names that are looked for where the user names no column, the first that is there counts."""

PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "passage"),
    ("text", "text_pair"),
)
"""Names of two texts whose relation is the class."""

_INDEX = re.compile(r"|unnamed: \d+|idx|id|index|guid|uid|uuid|row|row_?id|pair_?id|prompt_?id|item_?id", re.IGNORECASE)


def is_index(name: str) -> bool:
    """Return whether a column of this name numbers the rows, as pandas and GLUE write it."""
    return _INDEX.fullmatch(name.strip()) is not None


def find_usual(names: Sequence[str], field: str, *, taken: Collection[str] = ()) -> str | None:
    """Return the column that has a usual name of this field; None if there is none."""
    by_name = {name.strip().casefold(): name for name in reversed(names) if name not in taken}
    return next((by_name[usual] for usual in USUAL_NAMES[field] if usual in by_name), None)


def find_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of two texts, by their usual names; None if there are none."""
    by_name = {name.strip().casefold(): name for name in reversed(names)}
    return next(((by_name[one], by_name[two]) for one, two in PAIRS if one in by_name and two in by_name), None)


def recognise(names: Sequence[str], given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the fields of a generation task that the names of the columns fill; empty for classification.

    Args:
        names: Of the columns of the training file, or the cells of its first row.
        given: What the user set, by field. Where text or label is set it is a classification; where a prompt is set,
            its response and its input are found.
    """
    known = {field: name for field, name in given.items() if name}
    if any(field in known for field in (*CLASSIFICATION_FIELDS, MESSAGES)):
        return {}
    if not known:
        if find_pair(names) and find_usual(names, LABEL):
            return {}
        if find_usual(names, TEXT) and find_usual(names, LABEL):
            return {}
        if messages := find_usual(names, MESSAGES):
            return {MESSAGES: messages}
    found = dict(known)
    for field in (PROMPT, RESPONSE):
        if field not in found and (name := find_usual(names, field, taken=found.values())):
            found[field] = name
    if PROMPT not in found or RESPONSE not in found:
        return {}
    is_usual_prompt = found[PROMPT].strip().casefold() in USUAL_NAMES[PROMPT]
    if INPUT not in found and is_usual_prompt and (name := find_usual(names, INPUT, taken=found.values())):
        found[INPUT] = name
    return {field: name for field, name in found.items() if field not in known}
