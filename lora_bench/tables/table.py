"""Rows with the place of each, and the error of a file that has none to give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_bench.errors import DataError

MAX_PLACES_NAMED = 3
MAX_SHOWN = 60
"""Characters of a value or a line that a message quotes."""


class TableError(DataError):
    """A file cannot be read as a table; the message names the file, the place and the remedy."""


class Number(str):
    """A number as its file spells it, so that `1.0` is the same class in JSON as in CSV."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Rows of equal width, each with its place in the file."""

    path: Path
    columns: tuple[str, ...] | None
    """Names of the columns; None where the format has none and no header was taken yet."""
    rows: list[list[Any]]
    """Cells: text, `Number`, bool, a list or dict of JSON values; None where a value is missing."""
    places: list[int]
    """Line on which each row begins, or its number from 1 on where the format has no lines."""
    unit: str = "line"
    """What `places` counts: `line`, `item` of a JSON array, or `row` of a binary file."""
    notes: tuple[str, ...] = ()
    """How the file was read, where that was not plain from its name."""
    digest: str = ""
    """Of the content as it was read, whatever the file is called and however it is compressed."""

    def with_header(self) -> Table:
        """Return the same table with its first row taken as the names of its columns."""
        columns = tuple(str(cell).strip() for cell in self.rows[0])
        return replace(self, columns=columns, rows=self.rows[1:], places=self.places[1:])

    def name(self, places: Sequence[int]) -> str:
        """Return `line 3`, `items 3, 7` or `lines 3, 7, 9 and 40 more`."""
        return name_places(places, unit=self.unit)


def name_places(places: Sequence[int], *, unit: str = "line") -> str:
    """Return `line 3`, `lines 3, 7` or `lines 3, 7, 9 and 40 more`."""
    named = ", ".join(str(place) for place in places[:MAX_PLACES_NAMED])
    more = len(places) - MAX_PLACES_NAMED
    return f"{unit}{'s' if len(places) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")


def shorten(text: str, limit: int = MAX_SHOWN) -> str:
    """Return a text on one line, cut short, for a message."""
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else f"{text[:limit]}..."
