"""Which columns of a user's table hold the text and the class, or the prompt and the response."""

from __future__ import annotations

from collections.abc import Iterator

from lora_bench.config.schema import FilesConfig, TaskKind
from lora_bench.errors import Fault, suggest
from lora_bench.tasks.base import TaskError
from lora_bench.tasks.tables import Table

USUAL_NAMES = {"text": ("text", "sentence"), "label": ("label",), "prompt": ("prompt",), "response": ("response",)}
"""Names that are looked for where the user names no column."""


def fields_of(config: FilesConfig) -> tuple[str, str]:
    """The two fields of the configuration that name columns: source and target."""
    return ("prompt", "response") if config.kind is TaskKind.generation else ("text", "label")


def check_fields(config: FilesConfig) -> Iterator[Fault]:
    """What is wrong with the named columns before any file is read."""
    if config.kind is TaskKind.generation:
        for name in fields_of(config):
            if not getattr(config, name):
                yield Fault(f"task.{name}", "not set; task.prompt and task.response are set both, or neither")
        for name in ("text", "label"):
            if getattr(config, name):
                yield Fault(f"task.{name}", "set beside task.prompt or task.response; set one pair alone")
    for name in fields_of(config):
        if config.header is False and getattr(config, name):
            yield Fault(f"task.{name}", "names a column, but task.header=false says that none has a name; drop one")


def has_header(table: Table, config: FilesConfig) -> bool:
    """Whether the first row names the columns, for a table whose format does not say it.

    What the user says counts; then, a name that the user gives, or a usual one in the first row, means yes. Of two
    columns without either, the first row names them if its class occurs in no other row. More need names.
    """
    if config.header is not None:
        return config.header
    first = [str(cell).strip().casefold() for cell in table.rows[0]]
    if any(getattr(config, name) for name in fields_of(config)) or len(first) != 2:
        return True
    if any(name in first for names in USUAL_NAMES.values() for name in names):
        return True
    return first[1] not in {str(row[1]).strip().casefold() for row in table.rows[1:]}


def choose_columns(table: Table, config: FilesConfig) -> tuple[str, str] | None:
    """The names of the source and target columns of the training table; None for the two of a table without names.

    Raises:
        TaskError: If a column is missing or cannot be told; lists those that are there.
    """
    names = table.columns
    if names is None:
        return None
    fields = fields_of(config)
    chosen = {field: getattr(config, field) or _usual(names, field) for field in fields}
    if len(names) == 2:
        free = [name for name in names if name not in chosen.values()]
        chosen |= {field: free.pop(0) for field in fields if chosen[field] is None and free}
    faults = []
    for field, name in chosen.items():
        if name is None:
            problem = f"not set, and none of {table.path}'s columns is called {' or '.join(USUAL_NAMES[field])}; "
            faults.append(Fault(f"task.{field}", f"{problem}give one of: {_show(names)}"))
        elif names.count(name) != 1:
            faults.append(Fault(f"task.{field}", _absence(table, name)))
    source, target = (chosen[field] for field in fields)
    if not faults and source == target:
        faults.append(Fault(f"task.{fields[1]}", f"'{target}' is task.{fields[0]}'s column as well; name another"))
    if faults:
        raise TaskError(faults)
    assert source is not None, "a column that was not found is a fault"
    assert target is not None, "a column that was not found is a fault"
    return source, target


def find_columns(table: Table, chosen: tuple[str, str] | None, *, key: str) -> tuple[int, int]:
    """The positions of the chosen columns in a table.

    Raises:
        TaskError: If the table lacks one, or cannot be read by position.
    """
    if chosen is None:
        if len(table.rows[0]) == 2:
            return 0, 1
        problem = f"{table.path} has {len(table.rows[0])} columns and no names, where two are read: text and label; "
        raise TaskError([Fault(key, f"{problem}add a first line that names the columns")])
    names = table.columns or ()
    faults = [Fault(key, _absence(table, name)) for name in chosen if names.count(name) != 1]
    if faults:
        raise TaskError(faults)
    return names.index(chosen[0]), names.index(chosen[1])


def _usual(names: tuple[str, ...], field: str) -> str | None:
    return next((name for usual in USUAL_NAMES[field] for name in names if name.casefold() == usual), None)


def _absence(table: Table, name: str) -> str:
    names = table.columns or ()
    if name in names:
        return f"{table.path} has {names.count(name)} columns '{name}'; give each a name of its own"
    return f"{table.path} has no column '{name}'{suggest(name, names)}; its columns: {_show(names)}"


def _show(names: tuple[str, ...]) -> str:
    """The names, cut short: where a first line was an item, they are whole texts."""
    return ", ".join(name if len(name) <= 40 else f"{name[:40]}..." for name in names)
