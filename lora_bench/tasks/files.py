"""A user's own texts.

Dataset: two files that the user names, `task.train` and `task.eval`; no split is made
    (formats: https://www.rfc-editor.org/rfc/rfc4180 and https://jsonlines.org).
Metric: with classes, accuracy and macro F1 in [0, 1], higher is better, and negative log-likelihood in nats per text;
    with responses, negative log-likelihood in nats per token, lower is better, and ROUGE-L F1 in [0, 1]
    (https://github.com/google-research/google-research/tree/master/rouge).
Pattern: no examples; a response follows its prompt after a line break; the whole greedy continuation is the answer.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.config.schema import FilesConfig, TaskKind
from lora_bench.errors import Fault, suggest
from lora_bench.tasks.base import Example, TaskData, TaskError
from lora_bench.tasks.columns import check_fields, choose_columns, fields_of, find_columns, has_header
from lora_bench.tasks.grading import ROUGE_L
from lora_bench.tasks.splits import seeded_order, take_counts
from lora_bench.tasks.tables import MAX_LINES_NAMED, Table, name_lines, read_table


@dataclass(frozen=True)
class _Items:
    """What was read from one file: texts and targets, with the line of each."""

    table: Table
    lines: list[int]
    sources: list[str]
    targets: list[str]


def load(config: FilesConfig) -> TaskData:
    """The two files as they are; `num_train` and `num_eval` take a seeded part, in the file's order.

    Raises:
        TaskError: With every fault found, in the naming of the columns and in both files.
    """
    faults = list(check_fields(config))
    notes: list[str] = []
    items = _read_both(config, faults, notes)
    labels = _find_labels(items, faults) if config.kind is TaskKind.classification else ()
    if faults:
        raise TaskError(faults)
    pool = _examples(items["train"], labels)
    order = seeded_order([item.text for item in pool], [item.label or 0 for item in pool], seed=config.split_seed)
    num_validation = max(1, len(pool) // 10) if config.num_validation is None else config.num_validation
    held_out = set(order[: min(num_validation, len(pool) - 1)])
    train, validation, evaluation = take_counts(
        _thin([i for n, i in enumerate(pool) if n not in held_out], config.num_train, seed=config.split_seed),
        [item for number, item in enumerate(pool) if number in held_out],
        _thin(_examples(items["eval"], labels), config.num_eval, seed=config.split_seed),
        config=config,
    )
    known = {item.text for item in train}
    if num_known := sum(item.text in known for item in evaluation):
        notes.append(f"{num_known} of {len(evaluation)} eval texts also stand in train")
    return TaskData(
        config.name,
        config.kind,
        train,
        validation,
        evaluation,
        labels=labels,
        headline="accuracy" if labels else "nll_per_token",
        grading=None if labels else ROUGE_L,
        notes=tuple(notes),
    )


def _read_both(config: FilesConfig, faults: list[Fault], notes: list[str]) -> dict[str, _Items]:
    """What can be read of both files; faults and notes are added to. The training file says how both are laid out."""
    are_fields_sound = not faults
    tables: dict[str, Table] = {}
    for split, file in (("train", config.train), ("eval", config.eval)):
        with _gathering(faults):
            tables[split] = read_table(file, key=f"task.{split}")
    items: dict[str, _Items] = {}
    if not are_fields_sound or "train" not in tables:
        return items
    train = tables["train"]
    is_named = train.columns is not None or has_header(train, config)
    if train.columns is None:
        first = ", ".join(repr(str(cell)[:40]) for cell in train.rows[0])
        notes.append(
            f"{train.path.name}: first line taken as {'names of columns' if is_named else 'an item'} ({first})"
        )
    with _gathering(faults):
        chosen = choose_columns(_named(train, key="task.train") if is_named else train, config)
        for split, table in tables.items():
            with _gathering(faults):
                ready = _named(table, key=f"task.{split}") if is_named else table
                items[split] = _read_items(ready, chosen, key=f"task.{split}", fields=fields_of(config))
    return items


@contextlib.contextmanager
def _gathering(faults: list[Fault]) -> Iterator[None]:
    """Adds the faults of a step to the others, so that one fault does not hide the next."""
    try:
        yield
    except TaskError as err:
        faults.extend(err.faults)


def _named(table: Table, *, key: str) -> Table:
    """The table with names for its columns, from its first row where the format has none."""
    if table.columns is not None:
        return table
    if len(table.rows) == 1:
        problem = f"{table.path} has no row below its names; task.header=false if its first line is an item"
        raise TaskError([Fault(key, problem)])
    return table.with_header()


def _read_items(table: Table, chosen: tuple[str, str] | None, *, key: str, fields: tuple[str, str]) -> _Items:
    """Texts and targets as strings, every unusable cell gathered by what is wrong with it."""
    columns = find_columns(table, chosen, key=key)
    bad: dict[str, list[int]] = defaultdict(list)
    cells: tuple[list[str], list[str]] = ([], [])
    for line, row in zip(table.lines, table.rows, strict=True):
        for field, column, into in zip(fields, columns, cells, strict=True):
            text = _as_text(row[column], is_label=field == "label")
            problem = _cell_problem(text)
            if problem:
                bad[f"{problem} as {field}"].append(line)
            into.append(text or "")
    if bad:
        raise TaskError(
            [
                Fault(key, f"{table.path} {name_lines(lines)}: {problem}; fill the cells or take the lines out")
                for problem, lines in bad.items()
            ]
        )
    return _Items(table, table.lines, *cells)


def _as_text(cell: Any, *, is_label: bool) -> str | None:
    """A cell without the spaces around it; None if it is no text. A class may be a whole number or true or false."""
    if isinstance(cell, str):
        return cell.strip()
    if is_label and isinstance(cell, int):
        return str(cell).lower() if isinstance(cell, bool) else str(cell)
    return "" if cell is None else None


def _cell_problem(text: str | None) -> str | None:
    if text is None:
        return "a value that is no text"
    if not text:
        return "nothing"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # JSON can spell it (backslash u d800); no tokenizer and no file can take it.
        return "half of a surrogate pair"
    return None


def _find_labels(items: dict[str, _Items], faults: list[Fault]) -> tuple[str, ...]:
    """The classes of the training file, by number if all are whole numbers, else by alphabet; faults are added to."""
    if "train" not in items:
        return ()
    train = items["train"]
    found = set(train.targets)
    labels = sorted(found, key=int) if all(label.isdecimal() for label in found) else sorted(found)
    count = len(train.targets)
    if len(labels) == 1:
        problem = f"all {count} items have the class '{labels[0]}'; classification needs two or more classes"
        faults.append(Fault("task.train", f"{train.table.path}: {problem}"))
    elif len(labels) > max(20, count // 2):
        problem = (
            f"{len(labels)} classes in {count} items, such as '{labels[0][:40]}'; "
            "set task.label to another column, or for free answers set task.prompt and task.response"
        )
        faults.append(Fault("task.train", f"{train.table.path}: {problem}"))
    elif "eval" in items:
        faults.extend(_unknown_labels(items["eval"], labels))
    return tuple(labels)


def _unknown_labels(evaluation: _Items, labels: Sequence[str]) -> Iterator[Fault]:
    """Each class of the evaluation file that the training file lacks, with its lines."""
    unknown: dict[str, list[int]] = defaultdict(list)
    for line, target in zip(evaluation.lines, evaluation.targets, strict=True):
        if target not in labels:
            unknown[target].append(line)
    shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
    for label, lines in list(unknown.items())[:MAX_LINES_NAMED]:
        problem = f"class '{label[:40]}' is not in task.train{suggest(label, labels)}; its classes: {shown}"
        yield Fault("task.eval", f"{evaluation.table.path} {name_lines(lines)}: {problem}")
    if len(unknown) > MAX_LINES_NAMED:
        problem = (
            f"{len(unknown) - MAX_LINES_NAMED} more classes that task.train lacks; is task.label the right column?"
        )
        yield Fault("task.eval", f"{evaluation.table.path}: {problem}")


def _examples(items: _Items, labels: Sequence[str]) -> list[Example]:
    """Items as examples; a prompt ends in the line break that parts it from its response."""
    name = items.table.path.name
    rows = zip(items.lines, items.sources, items.targets, strict=True)
    if labels:
        index = {label: number for number, label in enumerate(labels)}
        return [Example(f"{name}:{line}", source, label=index[target]) for line, source, target in rows]
    return [Example(f"{name}:{line}", f"{source}\n", response=target) for line, source, target in rows]


def _thin(examples: list[Example], count: int | None, *, seed: int) -> list[Example]:
    """A seeded part with every class in proportion; all where all or too many are asked for."""
    if count is None or count >= len(examples):
        return examples
    order = seeded_order([item.text for item in examples], [item.label or 0 for item in examples], seed=seed)
    return [examples[index] for index in sorted(order[:count])]
