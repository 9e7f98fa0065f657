"""Which reader a file gets: by its content where that is plain, else by its ending."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from lora_bench.tables.cells import read_cells
from lora_bench.tables.columnar import column_names, read_columnar
from lora_bench.tables.objects import columns_of, first_objects, read_objects
from lora_bench.tables.source import COMPRESSED, Tell, decode, find_file, read_bytes
from lora_bench.tables.table import Table, TableError

FORMATS = ".csv, .tsv, .json, .jsonl, .parquet, .arrow, each also compressed"
_BY_ENDING = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
_COLUMNAR = (b"PAR1", b"ARROW1")
_NUM_GLANCED = 100
"""Objects of a JSON file whose keys are taken for its columns before it is read."""
_GLANCED_BYTES = 2**20


@dataclass(frozen=True)
class Glance:
    """What can be known of a file without making rows of it."""

    digest: str
    """`Table.digest`."""
    first: tuple[str, ...]
    """Names of the columns, or the cells of the first row where the format has no names."""


def read_table(file: str, *, separator: str | None = None, tell: Tell | None = None) -> Table:
    """Return the rows of a file; blank lines are left out.

    Args:
        file: What the user gave; `~` is expanded.
        separator: Between the cells of delimited text; None finds it.
        tell: Called with bytes done and in all, while the file is read and then while it is parsed.

    Raises:
        TableError: If it is missing, empty, a folder, not UTF-8, ragged or malformed.
    """
    path = find_file(file, accepted=FORMATS)
    data = read_bytes(path, tell=tell)
    digest = _digest(data, path, separator)
    form = _form(data, path)
    if form == "columnar":
        table = read_columnar(data, path)
    elif form == "json":
        table = read_objects(decode(data, path), path, tell=tell)
    else:
        decode(data, path)
        table = read_cells(data, path, usual=_usual_separator(form), separator=separator, tell=tell)
    if not table.rows:
        raise TableError(f"{path}: holds no rows; give a file with one item per row")
    return replace(table, digest=digest)


def glance(file: str, *, separator: str | None = None) -> Glance | None:
    """Return digest and first row of a file, or None where it cannot be read: `read_table` says why.

    A file that has not changed is not read again by the same process.
    """
    try:
        path = find_file(file, accepted=FORMATS)
        state = os.stat(path)
        return _glance(path.absolute(), state.st_size, state.st_mtime_ns, state.st_ino, separator)
    except (TableError, OSError):
        return None


@functools.lru_cache(maxsize=64)
def _glance(path: Path, size: int, mtime_ns: int, inode: int, separator: str | None) -> Glance:
    data = read_bytes(path)
    digest = _digest(data, path, separator)
    try:
        return Glance(digest, _first(data, path, separator))
    except TableError:
        # It has an identity, and a fault that reading will tell.
        return Glance(digest, ())


def _first(data: bytes, path: Path, separator: str | None) -> tuple[str, ...]:
    form = _form(data, path)
    if form == "columnar":
        return column_names(data, path)
    start = data[:_GLANCED_BYTES].decode("utf-8-sig", errors="replace")
    if form == "json":
        return columns_of(first_objects(start, _NUM_GLANCED))
    end = max(data.rfind(b"\n", 0, _GLANCED_BYTES), data.rfind(b"\r", 0, _GLANCED_BYTES)) + 1
    part = data[: end or _GLANCED_BYTES] if len(data) > _GLANCED_BYTES else data
    decode(part, path)
    rows = read_cells(part, path, usual=_usual_separator(form), separator=separator).rows
    return tuple(str(cell).strip() for cell in rows[0]) if rows else ()


def _form(data: bytes, path: Path) -> str:
    """`csv`, `tsv`, `json`, `columnar`, or `text` where neither content nor ending decides."""
    if any(data.startswith(magic) and data.endswith(magic) for magic in _COLUMNAR):
        return "columnar"
    endings = [ending.lower() for ending in path.suffixes]
    while endings and endings[-1] in COMPRESSED:
        endings.pop()
    if endings and endings[-1] in _BY_ENDING:
        return _BY_ENDING[endings[-1]]
    if endings and endings[-1] in (".parquet", ".pq", ".arrow", ".feather"):
        raise TableError(f"{path}: is not a parquet or Arrow file, whatever its name says; fetch or write it again")
    start = data[:_GLANCED_BYTES].decode("utf-8-sig", errors="replace")
    return "json" if start.lstrip()[:1] in ("{", "[") and first_objects(start, 1) else "text"


def _usual_separator(form: str) -> str | None:
    return {"csv": ",", "tsv": "\t"}.get(form)


def _digest(data: bytes, path: Path, separator: str | None) -> str:
    """Of the bytes and of what decides how they are read; the name itself decides nothing."""
    try:
        form = _form(data, path)
    except TableError:
        form = "unreadable"
    # Between two ways of reading that give other rows there must be another digest.
    head = f"{form}\0{separator or ''}\0".encode()
    return hashlib.sha256(head + hashlib.sha256(data).digest()).hexdigest()
