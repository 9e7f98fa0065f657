"""JSON, read by the `json` module: one object per line, or one array of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_bench.tables.source import Tell
from lora_bench.tables.table import Number, Table, TableError, name_places, shorten

_WANTED = 'give one object per line, such as {"text": "...", "label": "a"}, or one array of them'
_TELL_EVERY = 10_000


def read_objects(text: str, path: Path, *, tell: Tell | None = None) -> Table:
    """Return the objects as rows over all of their keys, None where one lacks a key.

    Raises:
        TableError: If it is no JSON or holds anything but objects, with line and column, or the item's number.
    """
    return _read_array(text, path) if text.lstrip()[:1] == "[" else _read_lines(text, path, tell)


def first_objects(text: str, count: int) -> list[dict[str, Any]]:
    """Return up to `count` objects from the start, whatever follows; fewer where there is damage."""
    found: list[dict[str, Any]] = []
    position = len(text) - len(text.lstrip())
    is_array = text[position : position + 1] == "["
    position += is_array
    while len(found) < count:
        while text[position : position + 1] in (" ", "\t", "\n", "\r", ",") and position < len(text):
            position += 1
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        if not isinstance(value, dict):
            break
        found.append(value)
    inner = _unwrap(found[0]) if len(found) == 1 else None
    return inner[0][:count] if inner else found


def columns_of(objects: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return all keys, in the order in which they first occur."""
    return tuple(dict.fromkeys(name for item in objects for name in item))


def _parse(text: str) -> Any:
    return _DECODER.decode(text)


def _read_array(text: str, path: Path) -> Table:
    try:
        items = _parse(text)
    except json.JSONDecodeError as err:
        raise TableError(f"{path}: line {err.lineno}: {err.msg} at column {err.colno}; {_WANTED}") from err
    except (ValueError, RecursionError) as err:
        raise TableError(f"{path}: {_deep(err)}; {_WANTED}") from err
    return _from_items(items, path, notes=())


def _from_items(items: list[Any], path: Path, *, notes: tuple[str, ...]) -> Table:
    bad = [(number, item) for number, item in enumerate(items, start=1) if not isinstance(item, dict)]
    if bad:
        where = name_places([number for number, _ in bad], unit="item")
        raise TableError(f"{path}: {where}: {describe(bad[0][1])}, not an object; {_WANTED}")
    return _as_table(items, list(range(1, len(items) + 1)), path, unit="item", notes=notes)


def _read_lines(text: str, path: Path, tell: Tell | None) -> Table:
    objects: list[dict[str, Any]] = []
    places: list[int] = []
    bad: list[tuple[int, str]] = []
    done = 0
    # Not splitlines, which also breaks at separators that JSON allows inside a string.
    for line, content in enumerate(text.split("\n"), start=1):
        done += len(content) + 1
        if tell and line % _TELL_EVERY == 0:
            tell(done, len(text))
        if not content.strip():
            continue
        try:
            value = _parse(content)
        except json.JSONDecodeError as err:
            bad.append((line, f"{err.msg} at column {err.colno}"))
            continue
        except (ValueError, RecursionError) as err:
            bad.append((line, _deep(err)))
            continue
        if not isinstance(value, dict):
            bad.append((line, f"{describe(value)}, not an object"))
            continue
        objects.append(value)
        places.append(line)
    if (len(objects) + len(bad) == 1 or not objects) and (table := _read_wrapped(text, path)):
        return table
    if bad:
        where = name_places([line for line, _ in bad])
        raise TableError(f"{path}: {where}: {bad[0][1]}; {_WANTED}")
    return _as_table(objects, places, path)


def _read_wrapped(text: str, path: Path) -> Table | None:
    """One object around the list of items, such as `{"data": [...]}`; None if it is none."""
    try:
        whole = _parse(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    if found := _unwrap(whole):
        items, name = found
        return _from_items(items, path, notes=(f"{path.name}: the items are the list under '{name}'",))
    if text.strip().count("\n"):
        keys = ", ".join(map(shorten, list(whole)[:10]))
        raise TableError(f"{path}: is one JSON object with the keys {keys}; {_WANTED}")
    return None


def _unwrap(whole: dict[str, Any]) -> tuple[list[Any], str] | None:
    lists = [
        (name, value)
        for name, value in whole.items()
        if isinstance(value, list) and len(value) > 1 and all(isinstance(item, dict) for item in value)
    ]
    if len(whole) > 1 and len(lists) != 1:
        return None
    # A line with one conversation is an item, not a list of items.
    if not lists or {"role", "from"} & set(lists[0][1][0]):
        return None
    return lists[0][1], lists[0][0]


def _as_table(
    objects: list[dict[str, Any]], places: list[int], path: Path, *, unit: str = "line", notes: tuple[str, ...] = ()
) -> Table:
    columns = columns_of(objects)
    return Table(path, columns, [[item.get(name) for name in columns] for item in objects], places, unit, notes)


def describe(value: Any) -> str:
    """Return what a JSON value is, with the value: `a list (["pos"])`."""
    kind = {list: "a list", dict: "an object", bool: "a truth value", Number: "a number", str: "a text"}
    shown = shorten(str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=True, default=str))
    return "null" if value is None else f"{kind.get(type(value), f'a {type(value).__name__}')} ({shown})"


def _deep(err: Exception) -> str:
    return "brackets are nested too deep" if isinstance(err, RecursionError) else str(err)


_DECODER = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Number)
