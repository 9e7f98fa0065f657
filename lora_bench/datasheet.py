"""`lora-bench data FILE`: what a run would read and tell of a user's files, without training and without torch.

With `model=NAME` the tokenizer's part as well: lengths, what is cut, what is unknown. That part imports torch.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from lora_bench.config.columns import GENERATION_FIELDS
from lora_bench.config.overrides import check_overrides, compose_config, key_of, understood
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import FilesConfig, TaskKind
from lora_bench.errors import ConfigError, Fault, UsageError
from lora_bench.tasks import Example, TaskData, data_notes
from lora_bench.tasks.encode import EncodedSplit
from lora_bench.tasks.files import Tell, load

_MAX_SHOWN = 200
"""Characters of the first item."""


def describe_file(file: str, words: Sequence[str], *, console: Console | None = None) -> dict[str, Any]:
    """Return what a run would read and tell of a file, as data for programs.

    Args:
        file: Taken for `task.train`; `task.eval` and `task.validation` may be among the words.
        words: Keys of the task, and `model=NAME` for the tokenizer's part.
        console: Shows the progress of reading, where it is a terminal.

    Raises:
        ConfigError: If a word cannot be understood, with every such word.
        TaskError: If the files cannot be used, with every fault.
    """
    words = _checked(words)
    task = _task(file, words)
    with _progress(console) as tell:
        data = load(task, tell=tell, needs_all=False)
    splits = {name: items for name, items in _splits(data).items() if items}
    encoded, tokenizer_notes = _encoded(words, data, splits) if _names_model(words) else ({}, [])
    return {
        "file": str(Path(file)),
        "kind": data.kind.value,
        "classes": list(data.labels),
        "splits": {name: _measures(items, encoded.get(name)) for name, items in splits.items()},
        "first_item": _first_item(data.train[0], data.labels),
        "notes": list(dict.fromkeys([*data.notes, *data_notes(data), *tokenizer_notes])),
        "data_digest": data.digest,
    }


def render_description(found: dict[str, Any]) -> str:
    """Return the description as aligned lines, for people."""
    kind = f"{len(found['classes'])} classes" if found["classes"] else "prompts with responses"
    lines = [f"{found['file']}: {found['kind']}, {kind}"]
    rows = [["split", *next(iter(found["splits"].values()))]]
    rows += [[name, *map(str, measures.values())] for name, measures in found["splits"].items()]
    rows[0] = [cell.replace("_", " ") for cell in rows[0]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.append("first item")
    lines += [f"  {name}: {value}" for name, value in found["first_item"].items()]
    lines += [f"- {note}" for note in found["notes"]]
    return "\n".join(lines)


def _checked(words: Sequence[str]) -> list[str]:
    words = understood(["task=files", *words])[1:]
    for word in words:
        key = key_of(word)
        if "=" not in word or key == "task" or key.split(".")[0] not in ("task", "model", "paths"):
            raise UsageError(
                f"'{word}' says nothing about data; give keys of the task (task.label=COLUMN, task.eval=FILE) "
                "or model=NAME for its tokenizer"
            )
    if faults := check_overrides(["task=files", *words], is_sweep=False):
        raise ConfigError(faults)
    return words


def _task(file: str, words: Sequence[str]) -> FilesConfig:
    composed = compose_config(["task=files", *(word for word in words if key_of(word).startswith("task."))])
    task = OmegaConf.to_object(composed.task)
    assert isinstance(task, FilesConfig), "task=files has this schema"
    # Set here, not as a word: a path may hold whatever Hydra would read as syntax.
    task.train = file
    if faults := list(task.faults()):
        raise ConfigError(faults)
    return task


def _names_model(words: Sequence[str]) -> bool:
    return any(key_of(word) == "model" for word in words)


def _splits(data: TaskData) -> dict[str, tuple[Example, ...]]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


@contextlib.contextmanager
def _progress(console: Console | None) -> Iterator[Tell | None]:
    """A bar for each file, on a terminal."""
    if console is None or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bars: dict[str, Any] = {}

        def tell(split: str, done: int, total: int) -> None:
            if split not in bars:
                bars[split] = progress.add_task(f"reading task.{split}", total=total)
            progress.update(bars[split], completed=done, total=total)

        yield tell


def _encoded(
    words: Sequence[str], data: TaskData, splits: dict[str, tuple[Example, ...]]
) -> tuple[dict[str, EncodedSplit], list[str]]:
    """The splits as the model's tokenizer reads them, and the notes on that."""
    from lora_bench.models import read_architecture, reads_segments
    from lora_bench.models.load import load_tokenizer
    from lora_bench.preflight import cache_folder
    from lora_bench.prepared import longest_item, split_notes
    from lora_bench.tasks.encode import encode

    config = resolve(compose_config(["task=files", *words]))
    if data.kind is TaskKind.classification and config.model.architecture.get("is_encoder_decoder"):
        raise ConfigError([Fault("model", f"{config.model.name} answers in text; classification needs another model")])
    tokenizer = load_tokenizer(config.model, cache=cache_folder(config))
    found = {
        name: encode(
            items,
            tokenizer,
            kind=data.kind,
            max_length=longest_item(config),
            cache=None,
            reads_segments=reads_segments(read_architecture(config.model)),
        )
        for name, items in splits.items()
    }
    return found, list(split_notes(found))


def _measures(items: Sequence[Example], encoded: EncodedSplit | None) -> dict[str, int]:
    characters = [sum(map(len, item.content)) for item in items]
    found = {
        "items": len(items),
        "characters_median": round(statistics.median(characters)),
        "characters_longest": max(characters),
    }
    if encoded is None:
        return found
    lengths = encoded.lengths
    return found | {
        "tokens_median": round(statistics.median(lengths.tolist())),
        "tokens_longest": int(lengths.max()),
        "items_cut": encoded.num_cut,
        "tokens_unknown": encoded.num_unknown,
    }


def _first_item(item: Example, labels: Sequence[str]) -> dict[str, str]:
    found = {"text" if item.label is not None else GENERATION_FIELDS[0]: item.text}
    if item.text_pair is not None:
        found["text_pair"] = item.text_pair
    if item.label is not None:
        found["class"] = labels[item.label]
    if item.response is not None:
        found["response"] = item.response
    return {name: repr(text[:_MAX_SHOWN] + ("..." if len(text) > _MAX_SHOWN else "")) for name, text in found.items()}
