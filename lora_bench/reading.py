"""Reads a file of a record: whole, or with one sentence that names the file, what is wrong with it and what to do.

Whatever stands in a file's place is met: a folder, a loop of links, a pipe, bytes that are no UTF-8, brackets without
end. What cannot be read is a `RecordError`, never another exception; what is not there is a `FileNotFoundError`.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lora_bench.errors import RecordError

MAX_BYTES = 2**30
"""Of one file. A longer one is no record of this program, and would fill the memory."""
MAX_DEPTH = 60
"""Of nested lists and mappings; records have about six."""
MOVE_AWAY = "move it away, or bring it back from a copy"

# The C loader reads a hundred configurations in 0.1 s, not 1 s. It recurses without a limit, hence `_check_depth`.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def damaged(path: Path, problem: object, remedy: str = MOVE_AWAY) -> RecordError:
    """The error about a file: its path, what is wrong, what to do."""
    words = " ".join(str(problem).split())
    return RecordError(f"{path}: {words if len(words) <= 300 else words[:299] + '…'}; {remedy}")


def read_bytes(path: Path, *, remedy: str = MOVE_AWAY) -> bytes:
    """The content of a regular file; does not wait for a pipe.

    Raises:
        FileNotFoundError: If it is not there.
        RecordError: If it is there and cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise damaged(path, "is no file", remedy)
            if about.st_size > MAX_BYTES:
                raise damaged(path, f"has {about.st_size} bytes, and no record is that long", remedy)
            return file.read()
    except FileNotFoundError:
        if path.is_symlink():
            raise damaged(path, "is a link that leads nowhere", remedy) from None
        raise
    except IsADirectoryError:
        raise damaged(path, "is a folder, not a file", remedy) from None
    except NotADirectoryError as err:
        raise damaged(path, f"is in no folder ({err.strerror})", remedy) from err
    except OSError as err:
        raise damaged(path, f"cannot be read ({err.strerror or err})", remedy) from err


def read_text(path: Path, *, remedy: str = MOVE_AWAY) -> str:
    """The same as text."""
    try:
        return read_bytes(path, remedy=remedy).decode("utf-8")
    except UnicodeDecodeError as err:
        raise damaged(path, f"is not UTF-8 (byte {err.start})", remedy) from err


def read_json(path: Path, *, remedy: str = MOVE_AWAY) -> dict[str, Any]:
    """A JSON object. Numbers that JSON does not know (NaN, Infinity) are refused; nothing writes them."""
    return parse_object(read_text(path, remedy=remedy), path, remedy=remedy)


def read_yaml(path: Path, *, remedy: str = MOVE_AWAY) -> dict[str, Any]:
    """A YAML mapping of plain data."""
    text = read_text(path, remedy=remedy)
    try:
        _check_depth(text)
        data = yaml.load(text, Loader=_YAML_LOADER)
        _check_plain(data)
    except (ValueError, RecursionError, yaml.YAMLError) as err:
        raise damaged(path, f"is no YAML of plain data ({_first_line(err)})", remedy) from err
    if not isinstance(data, dict):
        raise damaged(path, "holds no mapping of keys to values", remedy)
    return data


def read_objects(path: Path, *, remedy: str = MOVE_AWAY) -> list[dict[str, Any]]:
    """One JSON object a line; a torn last line is left out, and none is in a file that is not there."""
    return list(iterate_objects(path, remedy=remedy))


def iterate_objects(path: Path, *, remedy: str = MOVE_AWAY) -> Iterator[dict[str, Any]]:
    """The same one by one, up to the first line that is damaged."""
    try:
        data = read_bytes(path, remedy=remedy)
    except FileNotFoundError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    for number, line in enumerate(whole.split(b"\n"), start=1):
        if line.strip():
            yield parse_object(line, path, line=number, remedy=remedy)


def parse_object(text: str | bytes, path: Path, *, line: int | None = None, remedy: str = MOVE_AWAY) -> dict[str, Any]:
    """A JSON object from text that was read from `path`."""
    where = f"line {line} " if line is not None else ""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        _check_plain(data)
    except RecursionError as err:
        raise damaged(path, f"{where}is nested too deeply", remedy) from err
    except ValueError as err:
        raise damaged(path, f"{where}is no JSON ({_first_line(err)})", remedy) from err
    if not isinstance(data, dict):
        raise damaged(path, f"{where}holds no JSON object", remedy)
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(text: str) -> None:
    """Refuses YAML that is nested so deeply that the C loader would end the process; looks at suspicious text only."""
    if not any(text.count(mark) > MAX_DEPTH for mark in "[{&") and not _is_steep(text):
        return
    depth = 0
    for event in yaml.parse(text, Loader=_YAML_LOADER):
        name = type(event).__name__
        if name == "AliasEvent":
            raise ValueError("it refers to itself, as no record does")
        depth += name in ("SequenceStartEvent", "MappingStartEvent")
        depth -= name in ("SequenceEndEvent", "MappingEndEvent")
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _is_steep(text: str) -> bool:
    return any(
        len(line) - len(line.lstrip(" ")) > MAX_DEPTH or max(line.count("- "), line.count("? ")) > MAX_DEPTH
        for line in text.splitlines()
    )


def _check_plain(value: Any, depth: int = 0) -> None:
    """Raises a ValueError unless all of it is what JSON can hold: a cycle, a date or half a character is not."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {str(key)[:40]!r} is not text")
            _check_plain(key, depth + 1)
            _check_plain(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _check_plain(entry, depth + 1)
    elif isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number is not finite")
    elif isinstance(value, int):
        if value.bit_length() > 63:
            raise ValueError("a number has more than 63 bits")
    elif value is not None:
        raise ValueError(f"a {type(value).__name__} is no plain value")


def _first_line(err: BaseException) -> str:
    return next(iter(str(err).splitlines()), type(err).__name__)
