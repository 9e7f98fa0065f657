"""Oracle: the contract in the docstrings."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from lora_bench.config.schema import TaskKind
from lora_bench.errors import DataError, Fault
from lora_bench.tasks.base import Example, Grading, TaskData, TaskError

DATA = TaskData(
    "toy",
    TaskKind.classification,
    train=(Example("a", "good", label=1), Example("b", "bad", label=0)),
    validation=(Example("c", "fine", label=1),),
    test=(Example("d", "poor", label=0),),
    labels=("no", "yes"),
)


def test_digest_is_repeatable_and_reads_content_not_names():
    assert DATA.digest == replace(DATA).digest
    assert len(DATA.digest) == 64
    assert DATA.digest == replace(DATA, test=(Example("renamed", "poor", label=0),)).digest


@pytest.mark.parametrize(
    "change",
    [
        {"train": DATA.train[::-1]},
        {"train": DATA.train + DATA.validation, "validation": ()},
        {"validation": DATA.test, "test": DATA.validation},
        {"validation": (Example("c", "fine", label=0),)},
        {"test": (Example("d", "poor.", label=0),)},
        {"test": (Example("d", "poor", label=0, response="x"),)},
        {"labels": ("no", "maybe")},
    ],
)
def test_digest_changes_with_every_part_of_the_content(change):
    assert replace(DATA, **change).digest != DATA.digest


def test_task_error_is_a_data_error_with_every_fault():
    err = TaskError([Fault("task.train", "gone"), Fault("task.eval", "empty")])
    assert isinstance(err, DataError)
    assert isinstance(err, ValueError)
    assert str(err) == "2 problems in the data of this task\n  task.train: gone\n  task.eval: empty"
    assert str(pickle.loads(pickle.dumps(err))) == str(err)


def test_grading_names_its_field():
    assert Grading("exact_match", lambda a, b: 1.0, is_binary=True).field == "correct"
    assert Grading("rouge_l", lambda a, b: 0.5).field == "rouge_l"
