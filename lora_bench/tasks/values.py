"""From the cells of a user's table to texts and classes: one rule for every format, and every unusable cell told.

A number is the text that its file spells (`1.0` stays `1.0`), and truth values are `true` and `false` however a
format writes them, so that the same data has the same classes as CSV, JSON or parquet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora_bench.config.columns import INPUT, LABEL, MESSAGES
from lora_bench.errors import Fault
from lora_bench.tables import Number, Table
from lora_bench.tables.objects import describe
from lora_bench.tables.source import is_text
from lora_bench.tasks.base import TaskError
from lora_bench.tasks.conversations import ConversationError, Turn, read_conversation

MISSING = {"nan", "<na>", "#n/a", "nat"}
"""How pandas and spreadsheets write a value that is missing, in lower case; no class is called so on purpose."""


@dataclass(frozen=True)
class Items:
    """What was read from one file: a value per field and row, with the place of each row."""

    table: Table
    places: list[int]
    fields: Mapping[str, list[str]]
    conversations: list[tuple[tuple[Turn, ...], str]]
    """Turns before the answer, and the answer; empty where the task has no conversations."""
    notes: list[str]


def read_items(table: Table, columns: Mapping[str, int], *, key: str) -> Items:
    """Return the values of the chosen columns as texts.

    Raises:
        TaskError: With a fault for each kind of unusable cell, with the lines.
    """
    bad: dict[tuple[str, str], list[int]] = defaultdict(list)
    shown: dict[tuple[str, str], str] = {}
    fields: dict[str, list[str]] = {field: [] for field in columns if field != MESSAGES}
    conversations: list[tuple[tuple[Turn, ...], str]] = []
    for place, row in zip(table.places, table.rows, strict=True):
        for name, column in columns.items():
            cell = row[column]
            try:
                if name == MESSAGES:
                    conversations.append(_conversation(cell))
                else:
                    fields[name].append(_text(cell, field=name))
            except _UnusableError as err:
                bad[err.problem, name].append(place)
                shown.setdefault((err.problem, name), err.shown)
    if bad:
        faults = []
        for (problem, name), places in bad.items():
            said = f"{table.path} {table.name(places)}: {problem} as {name}{shown[problem, name]}"
            faults.append(Fault(key, f"{said}; {_remedy(problem, name, table.unit)}"))
        raise TaskError(faults)
    return Items(table, table.places, fields, conversations, list(_notes(table, columns, fields)))


class _UnusableError(ValueError):
    def __init__(self, problem: str, shown: str = "") -> None:
        self.problem = problem
        self.shown = shown
        super().__init__(problem)


def _text(cell: Any, *, field: str) -> str:
    """A cell without the spaces around it."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if cell is None:
        text = ""
    elif isinstance(cell, str):
        text = str(cell).strip()
    else:
        shown = describe(cell)
        raise _UnusableError(shown.split(" (")[0], f" ({shown.split(' (', 1)[1]}" if " (" in shown else "")
    if not text and field != INPUT:
        raise _UnusableError("nothing")
    if not is_text(text):
        # JSON can spell it (backslash u d800); no tokenizer and no file can take it.
        raise _UnusableError("half of a surrogate pair")
    if field == LABEL:
        if text.casefold() in MISSING:
            raise _UnusableError(f"'{text}'")
        if text.casefold() in ("true", "false"):
            return text.casefold()
    return text


def _conversation(cell: Any) -> tuple[tuple[Turn, ...], str]:
    if cell is None or cell == "":
        raise _UnusableError("nothing")
    try:
        turns, answer = read_conversation(cell)
    except ConversationError as err:
        raise _UnusableError(str(err)) from err
    if not all(is_text(text) for text in (answer, *(content for _, content in turns))):
        raise _UnusableError("half of a surrogate pair")
    return turns, answer


def _remedy(problem: str, field: str, unit: str) -> str:
    if problem.startswith("'"):
        what = f"fill the cells or take the {unit}s out"
        return f"a missing value is written so; {what}, or give the class another name"
    if problem.startswith(("a list", "an object")):
        return "give one class per item" if field == LABEL else "give one text per item"
    if field == MESSAGES and problem != "nothing":
        return f"mend the {unit}s or take them out"
    return f"fill the cells or take the {unit}s out"


def _notes(table: Table, columns: Mapping[str, int], fields: Mapping[str, list[str]]) -> Iterator[str]:
    name = table.path.name
    if LABEL in columns:
        cells = [row[columns[LABEL]] for row in table.rows]
        numbers = sum(isinstance(cell, Number) for cell in cells)
        texts = sum(isinstance(cell, str) for cell in cells) - numbers
        if numbers and texts:
            yield (
                f"{name}: the class is a number in {numbers} items and a text in {texts}; equal spellings are one class"
            )
    for of, values in fields.items():
        if of not in (LABEL, INPUT) and (count := sum(value.casefold() in MISSING for value in values)):
            yield f"{name}: {of} is 'nan' or the like in {count} items, as a missing value is written"
