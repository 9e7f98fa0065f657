"""What a task is: texts in three splits, and how answers to them are graded.

A task is one module with `load(config) -> TaskData`, one schema in `config/schema.py`, one YAML file in
`conf/task/`, and one line in the table in `tasks/__init__.py`. The shortest valid one:

    def load(config: EchoConfig) -> TaskData:
        examples = [Example(f"echo-{index}", "say yes:", response=" yes") for index in range(100)]
        splits = split_examples(examples, [0] * 100, config=config, held_out_fraction=0.3)
        return TaskData("echo", TaskKind.generation, *splits, headline="nll_per_token")

Training sees `train`. Whatever is chosen (a learning rate, a rank, the step to stop at) is chosen on `validation`;
`test` is scored once, when the run has ended, and is what tables show.

`load` is called by every run, before any weight is loaded, and on every process: it is deterministic, reads no
network and imports no torch. Its split and its order depend on the texts and on `split_seed` alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lora_bench.config.schema import TaskKind
from lora_bench.errors import DataError, Fault


class TaskError(DataError):
    """A task's data cannot be used as asked; carries every fault found, not only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        count = len(self.faults)
        head = f"{count} problem{'s' if count != 1 else ''} in the data of this task"
        return "\n".join([head, *(f"  {fault}" for fault in self.faults)])


@dataclass(frozen=True)
class Example:
    """One item: a text, or two, with the index of the class, or a prompt (`text`) with its response."""

    item_id: str
    """Says where the item comes from; unique within its split and the same for every split seed."""
    text: str
    label: int | None = None
    response: str | None = None
    text_pair: str | None = None
    """The second of two texts that the class is about."""
    messages: tuple[tuple[str, str], ...] = ()
    """The turns before the response as (role, content), for a tokenizer that has a template; `text` says the same."""

    @property
    def content(self) -> tuple[str, ...]:
        """What the model is given: equal for items that repeat each other."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)


@dataclass(frozen=True)
class Grading:
    """How a generated answer becomes a number in [0, 1], higher is better."""

    metric: str
    """Name of the score, which is the mean over the items that were generated for."""
    grade: Callable[[str, str], float]
    """Called with what was generated and with the reference."""
    is_binary: bool = False
    """Whether an answer is right (1) or wrong (0) and nothing between."""

    @property
    def field(self) -> str:
        """Name of an item's own grade among its predictions."""
        return "correct" if self.is_binary else self.metric


@dataclass(frozen=True)
class TaskData:
    """The splits of a task, each in the order in which its predictions are stored."""

    name: str
    kind: TaskKind
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...] = ()
    """Names of the classes, by index; empty for generation."""
    headline: str = "accuracy"
    """Name of the score that stands for a run of this task."""
    grading: Grading | None = None
    """None generates nothing."""
    notes: tuple[str, ...] = ()
    """What a reader of the results must know: repeats left out, damage in the source."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the classes and the texts and answers of all splits, in order."""
        digest = hashlib.sha256(json.dumps([self.kind.value, self.labels]).encode())
        for split in (self.train, self.validation, self.test):
            for item in split:
                further = [part for part in (item.text_pair, item.messages) if part]
                digest.update(json.dumps([item.text, item.label, item.response, *further]).encode())
            digest.update(b"\n")
        return digest.hexdigest()
