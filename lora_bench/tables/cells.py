"""Delimited text, read by the `csv` module of the standard library in its strict mode.

CSV is RFC 4180 with any of four separators: cells that hold the separator, a quote or a line break stand in double
quotes. With tabs it is IANA's text/tab-separated-values, as GLUE uses it: no quoting, so a quote is a character like
any other. Lines end in LF, CR LF or CR.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lora_bench.tables.source import Tell
from lora_bench.tables.table import Table, TableError, name_places, shorten

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_SAMPLE = 2**20
"""Bytes from the start by which the separator is found."""
_TELL_EVERY = 10_000
"""Records between two words of progress."""


def read_cells(data: bytes, path: Path, *, usual: str | None, separator: str | None, tell: Tell | None = None) -> Table:
    """Return the rows of delimited UTF-8 text; blank lines are left out.

    Args:
        data: Valid UTF-8.
        path: For messages.
        usual: The separator that the file's name promises; None promises none.
        separator: The one that the user gives; None finds it.
        tell: Hears of the progress.

    Raises:
        TableError: If quoting is broken or a row has another number of cells, with the lines.
    """
    chosen = separator or find_separator(data, usual=usual)
    rows: list[list[str]] = []
    places: list[int] = []
    source = io.BytesIO(data)
    try:
        for line, row in _records(source, chosen, limit=len(data)):
            if tell and len(rows) % _TELL_EVERY == 0:
                tell(source.tell(), len(data))
            if any(cell.strip() for cell in row):
                rows.append(row)
                places.append(line)
    except _MalformedError as err:
        raise TableError(f"{path}: {err}") from err.__cause__
    width = len(rows[0]) if rows else 0
    ragged = [(line, row) for line, row in zip(places, rows, strict=True) if len(row) != width]
    if ragged:
        raise TableError(f"{path}: {_explain_ragged(ragged, first=places[0], width=width, separator=chosen)}")
    notes = []
    if chosen != (usual or chosen):
        notes.append(f"{path.name}: cells are separated by {SEPARATORS.get(chosen, 'the character')}s ('{chosen}')")
    if chosen == "\t" and (num_quoted := sum(_looks_quoted(cell) for row in rows for cell in row)):
        notes.append(f"{path.name}: {num_quoted} cells stand in double quotes, which are kept: tabs leave no quoting")
    return Table(path, None, [list(row) for row in rows], places, notes=tuple(notes))


def find_separator(data: bytes, *, usual: str | None) -> str:
    """Return the separator that gives every record of a sample the same number of cells, at least two.

    The usual one is preferred; without a usual one, tab, comma, semicolon, bar. Where none fits, the first that splits
    the first record and half of the others alike, so that a message can name the ragged lines.
    """
    sample = data[:_SAMPLE]
    is_cut = len(sample) < len(data)
    if is_cut:
        sample = sample[: max(sample.rfind(b"\n"), sample.rfind(b"\r")) + 1]
    order = [usual] if usual else ["\t"]
    order += [separator for separator in SEPARATORS if separator not in order]
    widths: dict[str, list[int]] = {}
    for separator in order:
        found = widths[separator] = _widths(sample, separator, is_cut=is_cut)
        if found and found[0] > 1 and len(set(found)) == 1:
            return separator
    for separator, found in widths.items():
        if found and found[0] > 1 and (separator == usual or Counter(found)[found[0]] * 2 > len(found)):
            return separator
    return usual or ","


class _MalformedError(ValueError):
    """A record that breaks the rules of quoting."""


def _widths(sample: bytes, separator: str, *, is_cut: bool) -> list[int]:
    """Cells of each record that is not blank; one of a width of its own where quoting is broken."""
    widths = []
    try:
        for _, row in _records(io.BytesIO(sample), separator, limit=len(sample)):
            if any(cell.strip() for cell in row):
                widths.append(len(row))
    except _MalformedError:
        widths = widths if is_cut and widths else [*widths, 0]
    return widths


def _records(source: io.BytesIO, separator: str, *, limit: int) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it begins."""
    text = io.TextIOWrapper(source, encoding="utf-8-sig", newline="")
    # The limit is the whole process's; the default of 128 KiB is less than a long document.
    usual = csv.field_size_limit(max(limit, 1))
    line = 1
    try:
        if separator == "\t":
            reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
        else:
            reader = csv.reader(text, delimiter=separator, strict=True)
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as err:
        raise _MalformedError(
            f"the row that begins on line {line} is malformed ({err}); "
            "put cells that hold a quote or a line break in double quotes, and double each quote inside"
        ) from err
    finally:
        csv.field_size_limit(usual)
        text.detach()


def _explain_ragged(ragged: list[tuple[int, list[str]]], *, first: int, width: int, separator: str) -> str:
    row = ragged[0][1]
    shown = shorten(separator.join(row))
    name = SEPARATORS.get(separator, f"'{separator}'")
    if separator == "\t":
        way = "replace tabs inside cells, tab-separated text has no quoting"
    elif any('"' in cell for cell in row) and len(row) > width:
        way = f'put the whole cell in double quotes and double each quote inside: "he said ""no""{separator} twice"'
    else:
        way = f"quote cells that hold a {name}"
    where = name_places([place for place, _ in ragged])
    return f"{where}: {len(row)} cells, but line {first} has {width} ({shown}); {way}"


def _looks_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'
