"""Reads a user's CSV, TSV or JSON lines into rows, and says precisely what is wrong with a file it cannot read.

CSV is RFC 4180: cells that hold a comma, a quote or a line break stand in double quotes. TSV is as IANA's
text/tab-separated-values defines it and GLUE uses it: no quoting, so a quote is a character like any other.
JSON lines are one object per line. All are UTF-8, with or without a byte order mark, with any line ends.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_bench.errors import Fault, suggest
from lora_bench.tasks.base import TaskError

EXTENSIONS = (".csv", ".tsv", ".jsonl")
MAX_LINES_NAMED = 3


@dataclass(frozen=True)
class Table:
    """Rows of equal width, each with the line on which it begins."""

    path: Path
    columns: tuple[str, ...] | None
    """Names of the columns; None where the format has none and no header was taken yet."""
    rows: list[list[Any]]
    """Cells: strings; in JSON lines any JSON value, None where a line lacks the key."""
    lines: list[int]

    def with_header(self) -> Table:
        """The same table with its first row taken as the names of its columns."""
        columns = tuple(str(cell).strip() for cell in self.rows[0])
        return Table(self.path, columns, self.rows[1:], self.lines[1:])


def read_table(file: str | None, *, key: str) -> Table:
    """The rows of a file; blank lines are left out.

    Args:
        file: What the user gave; `~` is expanded.
        key: Dotted key that faults are reported under.

    Raises:
        TaskError: With every fault of the file: missing, empty, a folder, not UTF-8, ragged, malformed.
    """
    path = _check_path(file, key=key)
    text = _decode(path, key=key)
    suffix = path.suffix.lower()
    try:
        table = _read_json_lines(path, text) if suffix == ".jsonl" else _read_cells(path, text, is_tsv=suffix == ".tsv")
    except _BadLinesError as err:
        raise TaskError([Fault(key, f"{path}: {err}")]) from err
    if not table.rows:
        raise TaskError([Fault(key, f"{path}: holds nothing but blank lines; give a file with one item per row")])
    return table


def name_lines(lines: Sequence[int]) -> str:
    """`line 3`, `lines 3, 7` or `lines 3, 7, 9 and 40 more`."""
    named = ", ".join(str(line) for line in lines[:MAX_LINES_NAMED])
    more = len(lines) - MAX_LINES_NAMED
    return f"line{'s' if len(lines) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")


class _BadLinesError(ValueError):
    """Lines that cannot be read; the message lacks only the key and the path."""


def _check_path(file: str | None, *, key: str) -> Path:
    accepted = ", ".join(EXTENSIONS)
    if not file:
        raise TaskError([Fault(key, f"not set; task=files needs a file with one item per row ({accepted})")])
    path = Path(file).expanduser()
    if path.is_dir():
        raise TaskError([Fault(key, f"{path} is a folder; give a file ({accepted})")])
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        problem = f"{path} does not exist{suggest(path.name, siblings)}; relative paths start at {Path.cwd()}"
        raise TaskError([Fault(key, problem)])
    if path.suffix.lower() not in EXTENSIONS:
        raise TaskError([Fault(key, f"{path} ends in '{path.suffix}'; accepted: {accepted} (JSON lines are .jsonl)")])
    return path


def _decode(path: Path, *, key: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise TaskError([Fault(key, f"{path} cannot be read ({os.strerror(err.errno or 0)}); check it")]) from err
    if not data.strip():
        raise TaskError([Fault(key, f"{path} is empty; give a file with one item per row")])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TaskError([Fault(key, f"{path} is UTF-16; save it as UTF-8")])
    if (nul := data.find(b"\0")) >= 0:
        problem = f"{path}: {_place(data, nul)} is NUL, so this is no text file; save it as UTF-8 text"
        raise TaskError([Fault(key, problem)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        # The position counts from behind a byte order mark, which the codec takes off first.
        position = err.start + (len(data) - len(err.object))
        problem = f"{path}: {_place(data, position)} is {data[position]:#04x}, not UTF-8; save the file as UTF-8"
        raise TaskError([Fault(key, problem)]) from err


def _place(data: bytes, position: int) -> str:
    start = data.rfind(b"\n", 0, position) + 1
    line = data.count(b"\n", 0, position) + 1
    return f"line {line}, byte {position - start + 1}"


def _read_cells(path: Path, text: str, *, is_tsv: bool) -> Table:
    rows: list[list[Any]] = []
    lines: list[int] = []
    for line, row in _records(text, is_tsv=is_tsv):
        if any(cell.strip() for cell in row):
            rows.append(row)
            lines.append(line)
    width = len(rows[0]) if rows else 0
    ragged = [(line, len(row)) for line, row in zip(lines, rows, strict=True) if len(row) != width]
    if ragged:
        way = "replace tabs inside cells, a .tsv has no quoting" if is_tsv else "quote cells that hold a comma"
        raise _BadLinesError(
            f"{name_lines([line for line, _ in ragged])}: {ragged[0][1]} cells, but line {lines[0]} has {width}; {way}"
        )
    return Table(path, None, rows, lines)


def _records(text: str, *, is_tsv: bool) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it begins."""
    source = io.StringIO(text, newline="")
    if is_tsv:
        reader = csv.reader(source, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(source, strict=True)
    # The limit is the whole process's; the default of 128 KiB is less than a long document.
    usual = csv.field_size_limit(max(len(text), 1))
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as err:
        raise _BadLinesError(
            f"the row that begins on line {line} is malformed ({err}); "
            "put cells that hold a quote or a line break in double quotes, and double each quote inside"
        ) from err
    finally:
        csv.field_size_limit(usual)


def _read_json_lines(path: Path, text: str) -> Table:
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    bad: list[tuple[int, str]] = []
    # Not splitlines, which also breaks at separators that JSON allows inside a string.
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except json.JSONDecodeError as err:
            bad.append((line, f"{err.msg} at column {err.colno}"))
            continue
        except (ValueError, RecursionError) as err:
            bad.append((line, str(err)))
            continue
        if not isinstance(value, dict):
            bad.append((line, f"a JSON {type(value).__name__}, not an object"))
            continue
        objects.append(value)
        lines.append(line)
    if bad:
        where = name_lines([line for line, _ in bad])
        raise _BadLinesError(f'{where}: {bad[0][1]}; give one object per line, such as {{"text": "...", "label": "a"}}')
    columns = tuple(dict.fromkeys(name for item in objects for name in item))
    return Table(path, columns, [[item.get(name) for name in columns] for item in objects], lines)
