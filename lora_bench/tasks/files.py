"""A user's own texts.

Dataset: files that the user names: `task.train`, `task.eval` (the test items) and, if there is one, `task.validation`
    (formats: https://www.rfc-editor.org/rfc/rfc4180, https://jsonlines.org, https://parquet.apache.org).
Metric: with classes, accuracy and macro F1 in [0, 1], higher is better, and negative log-likelihood in nats per text;
    with responses, negative log-likelihood in nats per token, lower is better, and ROUGE-L F1 in [0, 1]
    (https://github.com/google-research/google-research/tree/master/rouge).
Pattern: no examples; a response follows its prompt after a line break; the whole greedy continuation is the answer.
    An input follows its prompt on a line of its own; conversations are rendered by the tokenizer's chat template.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from lora_bench.config.columns import INPUT, LABEL, PROMPT, RESPONSE, TEXT, TEXT_PAIR, recognise
from lora_bench.config.identity import CONTENT_MARK, files_digest
from lora_bench.config.schema import FilesConfig, TaskKind
from lora_bench.errors import Fault
from lora_bench.tables import FORMATS, Table, TableError, read_table
from lora_bench.tasks.base import Example, TaskData, TaskError
from lora_bench.tasks.classes import doubtful_classes, find_classes
from lora_bench.tasks.columns import check_fields, choose_columns, columns_note, find_columns, has_header
from lora_bench.tasks.conversations import render
from lora_bench.tasks.grading import ROUGE_L
from lora_bench.tasks.splits import hold_out, seeded_order, take_counts
from lora_bench.tasks.values import Items, read_items

Tell = Callable[[str, int, int], None]
"""Called with the split, the bytes that are done and their total, while files are read."""


def load(config: FilesConfig, *, tell: Tell | None = None, needs_all: bool = True) -> TaskData:
    """Return the files' items; the counts take a seeded part of each split, in the file's order.

    Args:
        config: As the user typed it, or resolved.
        tell: Hears of the progress of reading.
        needs_all: Whether `eval` must be there and train must leave items for validation; without, they may be empty.

    Raises:
        TaskError: With every fault found, in the naming of the columns and in every file.
    """
    faults: list[Fault] = []
    tables = _read_tables(config, faults, tell=tell, needs_all=needs_all)
    config = _recognised(config, tables.get("train"))
    field_faults = list(check_fields(config))
    faults[:0] = field_faults
    notes = [note for table in tables.values() for note in table.notes]
    items = {} if field_faults else _read_items(config, tables, faults, notes)
    labels = find_classes(items, faults) if config.kind is TaskKind.classification else ()
    if not faults and len(tables) == len(config.files):
        faults.extend(_changed(config, tables))
    if faults:
        raise TaskError(faults)
    if labels:
        notes.extend(doubtful_classes(labels, items["train"].fields[LABEL]))
    train, validation, test = _split(config, items, labels, notes, needs_all=needs_all)
    return TaskData(
        config.name,
        config.kind,
        train,
        validation,
        test,
        labels=labels,
        headline="accuracy" if labels else "nll_per_token",
        grading=None if labels else ROUGE_L,
        notes=tuple(dict.fromkeys(notes)),
    )


def _read_tables(config: FilesConfig, faults: list[Fault], *, tell: Tell | None, needs_all: bool) -> dict[str, Table]:
    """What can be read of the files, by split; faults are added to."""
    tables: dict[str, Table] = {}
    for split, file in config.files.items():
        key = f"task.{split}"
        if not file:
            if split == "train" or needs_all:
                faults.append(Fault(key, f"not set; task=files needs a file with one item per row ({FORMATS})"))
            continue
        try:
            tables[split] = read_table(file, separator=config.separator, tell=_telling(split, tell))
        except TableError as err:
            faults.append(Fault(key, str(err)))
    return tables


def _telling(split: str, tell: Tell | None) -> Callable[[int, int], None] | None:
    if tell is None:
        return None
    return lambda done, total: tell(split, done, total)


def _recognised(config: FilesConfig, train: Table | None) -> FilesConfig:
    """The configuration with the columns of a generation task that the training file's names say."""
    if train is None or config.header is False:
        return config
    names = train.columns or tuple(str(cell).strip() for cell in train.rows[0])
    found: dict[str, Any] = dict(recognise(names, config.columns))
    return replace(config, **found)


def _read_items(
    config: FilesConfig, tables: dict[str, Table], faults: list[Fault], notes: list[str]
) -> dict[str, Items]:
    """Texts and targets of each file; the training file says how all are laid out."""
    items: dict[str, Items] = {}
    if "train" not in tables:
        return items
    train = tables["train"]
    is_named = train.columns is not None or has_header(train, config)
    if train.columns is None:
        first = ", ".join(repr(str(cell)[:40]) for cell in train.rows[0][:10])
        taken = "names of columns" if is_named else "an item"
        notes.append(f"{train.path.name}: first line taken as {taken} ({first})")
    with _gathering(faults):
        named = _named(train, key="task.train") if is_named else train
        chosen = choose_columns(named, config)
        notes.append(columns_note(named, chosen))
        for split, table in tables.items():
            key = f"task.{split}"
            with _gathering(faults):
                ready = _named(table, key=key) if is_named else table
                items[split] = read_items(ready, find_columns(ready, chosen, key=key), key=key)
                notes.extend(items[split].notes)
    return items


@contextlib.contextmanager
def _gathering(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of a step to the others, so that one fault does not hide the next."""
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
        if len(table.rows[0]) == 1:
            problem = f"{table.path} is one line without a separator; give one item per row, with its class beside it"
        raise TaskError([Fault(key, problem)])
    return table.with_header()


def _changed(config: FilesConfig, tables: dict[str, Table]) -> Iterator[Fault]:
    """Whether the files still hold what they held when the configuration was resolved, at a run's first start."""
    known = config.content_digest or ""
    now = files_digest({split: table.digest for split, table in tables.items()})
    if known.startswith(CONTENT_MARK) and known != now:
        names = ", ".join(str(table.path) for table in tables.values())
        yield Fault(
            "task.train",
            f"{names}: not what this run began with (then {known[:15]}, now {now[:15]}); "
            "bring the files back, or start the same command again, which makes a run of its own",
        )


def _split(
    config: FilesConfig, items: dict[str, Items], labels: Sequence[str], notes: list[str], *, needs_all: bool
) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    pools = {split: _examples(found, labels, split=split) for split, found in items.items()}
    train, seed = pools["train"], config.split_seed
    if "validation" in pools:
        validation = pools["validation"]
    else:
        whole = len(train)
        train, validation = hold_out(train, count=config.num_validation, num_classes=len(labels), seed=seed)
        if not validation and needs_all:
            problem = f"not set, and the {whole} items of task.train leave none for it; give task.validation=FILE"
            raise TaskError([Fault("task.validation", problem)])
        notes.append(
            f"validation: {len(validation):,} of the {whole:,} items of task.train, drawn by task.split_seed and not "
            "trained on; task.validation=FILE takes others"
        )
    return take_counts(
        _thin(train, config.num_train, seed=seed),
        _thin(validation, config.num_validation, seed=seed),
        _thin(pools.get("eval", []), config.num_eval if "eval" in pools else None, seed=seed),
        config=config if "eval" in pools else replace(config, num_eval=None),
    )


def _examples(items: Items, labels: Sequence[str], *, split: str) -> list[Example]:
    """Items as examples; a prompt ends in the line break that separates it from its response."""
    ids = [f"{'test' if split == 'eval' else split}:{place}" for place in items.places]
    fields = items.fields
    if items.conversations:
        return [
            Example(item_id, render(turns), response=answer, messages=turns)
            for item_id, (turns, answer) in zip(ids, items.conversations, strict=True)
        ]
    if labels:
        index = {label: number for number, label in enumerate(labels)}
        pairs: Sequence[str | None] = fields.get(TEXT_PAIR) or [None] * len(ids)
        rows = zip(ids, fields[TEXT], pairs, fields[LABEL], strict=True)
        return [Example(item_id, text, label=index[label], text_pair=pair) for item_id, text, pair, label in rows]
    inputs = fields.get(INPUT) or [""] * len(ids)
    rows = zip(ids, fields[PROMPT], inputs, fields[RESPONSE], strict=True)
    return [
        Example(item_id, f"{prompt}\n{given}\n" if given else f"{prompt}\n", response=response)
        for item_id, prompt, given, response in rows
    ]


def _thin(examples: Sequence[Example], count: int | None, *, seed: int) -> Sequence[Example]:
    """A seeded part with every class in proportion; all where all or too many are asked for."""
    if count is None or count >= len(examples):
        return examples
    order = seeded_order([item.text for item in examples], [item.label or 0 for item in examples], seed=seed)
    return [examples[index] for index in sorted(order[:count])]
