"""Which columns of a user's table hold what a task needs: text and class, two texts and class, prompt and response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_bench.config.columns import (
    CLASSIFICATION_FIELDS,
    GENERATION_FIELDS,
    INPUT,
    LABEL,
    MESSAGES,
    PROMPT,
    RESPONSE,
    TEXT,
    TEXT_PAIR,
    USUAL_NAMES,
    find_pair,
    find_usual,
    is_index,
)
from lora_bench.config.schema import FilesConfig, TaskKind
from lora_bench.errors import Fault, suggest
from lora_bench.tables import Table
from lora_bench.tasks.base import TaskError

Chosen = Mapping[str, str | int]
"""Field -> name of its column, or its position in a table without names."""
_MAX_NAMED = 12
"""Columns that a message lists."""


def check_fields(config: FilesConfig) -> Iterator[Fault]:
    """Yield what is wrong with the named columns before any file is read."""
    named = [field for field, name in config.columns.items() if name]
    if config.kind is TaskKind.generation:
        for field in CLASSIFICATION_FIELDS:
            if field in named:
                yield Fault(f"task.{field}", f"set beside task.{_others(named)}; set columns of one kind of task alone")
        if MESSAGES in named:
            for field in (PROMPT, INPUT, RESPONSE):
                if field in named:
                    yield Fault(f"task.{field}", "set beside task.messages, which holds prompt and response; drop one")
        else:
            for field in (PROMPT, RESPONSE):
                if field not in named:
                    yield Fault(f"task.{field}", "not set; task.prompt and task.response are set both, or neither")
    elif TEXT_PAIR in named and TEXT not in named:
        yield Fault("task.text", "not set beside task.text_pair; name the column of the first text")
    if config.header is False:
        for field in named:
            yield Fault(f"task.{field}", "names a column, but task.header=false says that none has a name; drop one")


def has_header(table: Table, config: FilesConfig) -> bool:
    """Return whether the first row names the columns, for a table whose format does not say it.

    What the user says counts; then, a name that the user gives, or a usual one that its column does not repeat, means
    yes. Of two columns without either, the first row names them if its class occurs in no other row. More need names.
    """
    if config.header is not None:
        return config.header
    first = [str(cell).strip().casefold() for cell in table.rows[0]]
    if any(config.columns.values()) or len(first) != 2:
        return True
    usual = {name for names in USUAL_NAMES.values() for name in names}
    if any(cell in usual and cell not in _column(table, index) for index, cell in enumerate(first)):
        return True
    index = _label_position(table)
    return first[index] not in _column(table, index)


def choose_columns(table: Table, config: FilesConfig) -> Chosen:
    """Return the columns of the training table, by field.

    Raises:
        TaskError: If a column is missing or cannot be told; lists those that are there.
    """
    names = table.columns
    if names is None:
        return _choose_positions(table)
    chosen = _choose(table, names, config)
    faults = []
    for field, name in chosen.items():
        if name is None:
            faults.append(Fault(f"task.{field}", _not_found(table, field)))
        elif names.count(name) != 1:
            faults.append(Fault(f"task.{field}", _absence(table, name)))
    found = [(field, name) for field, name in chosen.items() if name is not None]
    if not faults:
        for index, (field, name) in enumerate(found):
            others = [other for other, taken in found[:index] if taken == name]
            if others:
                problem = f"'{_shorten(name)}' is task.{others[0]}'s column as well; name another"
                faults.append(Fault(f"task.{field}", problem))
    if faults:
        raise TaskError(faults)
    return dict(found)


def find_columns(table: Table, chosen: Chosen, *, key: str) -> dict[str, int]:
    """Return the positions of the chosen columns in a table.

    Raises:
        TaskError: If the table lacks one, or cannot be read by position.
    """
    by_position = {field: column for field, column in chosen.items() if isinstance(column, int)}
    if by_position:
        if len(table.rows[0]) != 2:
            raise TaskError([Fault(key, _nameless(table))])
        return by_position
    names = table.columns or ()
    wanted = {field: str(name) for field, name in chosen.items()}
    faults = [Fault(key, _absence(table, name)) for name in wanted.values() if names.count(name) != 1]
    if faults:
        raise TaskError(faults)
    return {field: names.index(name) for field, name in wanted.items()}


def columns_note(table: Table, chosen: Chosen) -> str:
    """Return which columns are used, and which are left out."""
    if table.columns is None:
        used = ", ".join(f"{field} = column {int(column) + 1}" for field, column in chosen.items())
        return f"columns used: {used}"
    used = ", ".join(f"{field} = {_shorten(str(name))}" for field, name in chosen.items())
    left = [name for name in table.columns if name not in chosen.values()]
    return f"columns used: {used}" + (f"; left out: {_show([name or '(no name)' for name in left])}" if left else "")


def _choose(table: Table, names: tuple[str, ...], config: FilesConfig) -> dict[str, str | None]:
    given = {field: name for field, name in config.columns.items() if name}
    if config.kind is TaskKind.generation:
        return {field: given[field] for field in GENERATION_FIELDS if field in given}
    usable = [name for name in names if not is_index(name) or name in given.values()]
    chosen: dict[str, str | None] = dict(given)
    if TEXT not in given and (pair := find_pair(usable)) is not None:
        label = given.get(LABEL) or find_usual(usable, LABEL, taken=pair)
        if label or len(usable) == 3:
            chosen |= {TEXT: pair[0], TEXT_PAIR: pair[1]}
    for field in (TEXT, LABEL):
        if field not in chosen:
            taken = [name for name in chosen.values() if name]
            chosen[field] = find_usual(usable, field, taken=taken)
    free = [name for name in usable if name not in chosen.values()]
    missing = [field for field in (TEXT, LABEL) if chosen[field] is None]
    if len(missing) == 2 and len(free) == 2:
        positions = [names.index(name) for name in free]
        is_swapped = _label_position(table, *positions) == positions[0]
        chosen |= zip((LABEL, TEXT) if is_swapped else (TEXT, LABEL), free, strict=True)
    elif len(missing) == 1 and len(free) == 1:
        chosen[missing[0]] = free[0]
    return {field: chosen[field] for field in CLASSIFICATION_FIELDS if field in chosen}


def _choose_positions(table: Table) -> Chosen:
    if len(table.rows[0]) != 2:
        raise TaskError([Fault("task.train", _nameless(table))])
    label = _label_position(table)
    return {TEXT: 1 - label, LABEL: label}


def _label_position(table: Table, first: int = 0, second: int = 1) -> int:
    """Which of two columns holds the class: the second, unless it has at least twice as many values as the first."""
    return first if 2 * len(_column(table, first)) <= len(_column(table, second)) else second


def _column(table: Table, index: int) -> set[str]:
    """Return the values of a column behind the first row, which may hold names."""
    start = 0 if table.columns is not None else 1
    return {str(row[index]).strip().casefold() for row in table.rows[start:]}


def _others(named: list[str]) -> str:
    return " and task.".join(field for field in named if field in GENERATION_FIELDS)


def _nameless(table: Table) -> str:
    count = len(table.rows[0])
    if count == 1:
        return f"{table.path} has one column, where a text and its class are read; {_one_column_advice()}"
    return (
        f"{table.path} has {count} columns and no names, where two are read: text and label; "
        "add a first line that names the columns"
    )


def _one_column_advice() -> str:
    return "add a column with the class, or set task.separator if cells are separated by another character"


def _not_found(table: Table, field: str) -> str:
    names = table.columns or ()
    if len(names) == 1:
        return f"{table.path} has one column, '{_shorten(names[0])}'; {_one_column_advice()}"
    usual = ", ".join(USUAL_NAMES[field][:3])
    return (
        f"not set, and none of {table.path}'s columns has a usual name ({usual} and so on); give one of: {_show(names)}"
    )


def _absence(table: Table, name: str) -> str:
    names = table.columns or ()
    shown = _shorten(name)
    if name in names:
        return f"{table.path} has {names.count(name)} columns '{shown}'; give each a name of its own"
    return f"{table.path} has no column '{shown}'{suggest(name, names)}; its columns: {_show(names)}"


def _show(names: tuple[str, ...] | list[str]) -> str:
    """The names, cut short: where a first line was an item, they are whole texts."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(map(_shorten, names[:_MAX_NAMED])) + more


def _shorten(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."
