"""Oracle: counts that can be seen in the items of each test."""

from __future__ import annotations

from lora_bench.config.schema import TaskKind
from lora_bench.tasks import Example, TaskData
from lora_bench.tasks.notes import data_notes


def classes(*items):
    return tuple(Example(str(index), text, label=label) for index, (text, label) in enumerate(items))


def test_classes_repeats_conflicts_and_overlap():
    data = TaskData(
        "toy",
        TaskKind.classification,
        classes(("a", 0), ("a", 0), ("b", 1), ("c", 1), ("e", 1)),
        classes(("b", 1), ("d", 0)),
        classes(("c", 0), ("d", 0), ("z", 1)),
        labels=("no", "yes"),
    )
    assert data_notes(data) == [
        "items by class (train, validation, test): no 2, 1, 2; yes 3, 1, 1",
        "1 of 5 train texts repeat another",
        "1 text has several classes (2 items), such as 'c'",
        "1 of 2 validation texts also stand in train",
        "1 of 3 test texts also stand in train",
        "1 of 3 test texts also stand in validation",
    ]


def test_what_is_not_there_is_not_said():
    data = TaskData("toy", TaskKind.classification, classes(("a", 0), ("b", 1)), (), (), labels=("no", "yes"))
    assert data_notes(data) == ["items by class (train): no 1; yes 1"]


def test_prompts_with_several_responses():
    items = tuple(Example(str(index), "add\n", response=str(index)) for index in range(3))
    data = TaskData("toy", TaskKind.generation, items, (), ())
    assert data_notes(data) == [
        "items: 3 train",
        "2 of 3 train prompts repeat another",
        "1 prompt has several responses (3 items), such as 'add'",
    ]


def test_many_classes_and_long_names_are_cut():
    items = classes(*((f"t{index}", index) for index in range(30)))
    data = TaskData("toy", TaskKind.classification, items, (), (), labels=tuple("n" * 99 + str(n) for n in range(30)))
    (note,) = data_notes(data)
    assert note.endswith("; and 10 more classes")
    assert "n" * 40 in note
    assert "n" * 41 not in note
