"""Oracle: the rules in the docstrings, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest
from lora_bench.tasks.tables import Table

from lora_bench.config.schema import FilesConfig
from lora_bench.tasks.base import TaskError
from lora_bench.tasks.columns import check_fields, choose_columns, find_columns, has_header


def table(*rows, columns=None):
    return Table(Path("a.csv"), columns, [list(row) for row in rows], list(range(1, len(rows) + 1)))


@pytest.mark.parametrize(
    ("rows", "fields", "wanted"),
    [
        ([("text", "label"), ("a", "1")], {}, True),
        ([("Sentence", "class"), ("a", "1")], {}, True),
        ([("a", "1"), ("b", "0"), ("c", "1")], {}, False),
        ([("review", "polarity"), ("a", "pos"), ("b", "neg")], {}, True),
        ([("a", "pos"), ("b", "neg"), ("c", " POS ")], {}, False),
        ([("a", "1"), ("b", "1")], {"text": "a"}, True),
        ([("a", "b", "1"), ("c", "d", "1")], {}, True),
        ([("text", "label"), ("a", "1")], {"header": False}, False),
        ([("a", "1"), ("b", "1")], {"header": True}, True),
        ([("q", "r"), ("a", "r")], {"prompt": "q", "response": "r"}, True),
    ],
)
def test_has_header(rows, fields, wanted):
    assert has_header(table(*rows), FilesConfig(**fields)) is wanted


@pytest.mark.parametrize(
    ("columns", "fields", "wanted"),
    [
        (("label", "text"), {}, ("text", "label")),
        (("id", "Sentence", "Label"), {}, ("Sentence", "Label")),
        (("review", "polarity"), {}, ("review", "polarity")),
        (("polarity", "review"), {"label": "polarity"}, ("review", "polarity")),
        (("gold", "text"), {}, ("text", "gold")),
        (("a", "b", "c"), {"text": "c", "label": "a"}, ("c", "a")),
        (("question", "answer"), {"prompt": "question", "response": "answer"}, ("question", "answer")),
        (None, {}, None),
    ],
)
def test_choose_columns(columns, fields, wanted):
    assert choose_columns(table(("x", "y", "z"), columns=columns), FilesConfig(**fields)) == wanted


@pytest.mark.parametrize(
    ("columns", "fields", "words"),
    [
        (
            ("a", "b", "c"),
            {},
            ["task.text: not set, and none of a.csv's columns is called text or sentence; give one of: a, b, c"],
        ),
        (("text", "c", "d"), {}, ["task.label: not set, and none of a.csv's columns is called label"]),
        (
            ("text", "label"),
            {"text": "txt", "label": "lable"},
            [
                "task.text: a.csv has no column 'txt' (did you mean 'text'?)",
                "'lable' (did you mean 'label'?); its columns: text",
            ],
        ),
        (("text", "label", "text"), {}, ["task.text: a.csv has 2 columns 'text'; give each a name of its own"]),
        (("a", "b"), {"text": "a", "label": "a"}, ["task.label: 'a' is task.text's column as well; name another"]),
        (("x" * 50, "y"), {"text": "t"}, [f"its columns: {'x' * 40}..., y"]),
    ],
)
def test_columns_that_cannot_be_told(columns, fields, words):
    with pytest.raises(TaskError) as caught:
        choose_columns(table(("x", "y", "z"), columns=columns), FilesConfig(**fields))
    for expected in words:
        assert expected in str(caught.value)


def test_find_columns_in_the_other_file():
    assert find_columns(table(("1", "x"), columns=("label", "text")), ("text", "label"), key="task.eval") == (1, 0)
    assert find_columns(table(("x", "1")), None, key="task.eval") == (0, 1)
    with pytest.raises(TaskError, match=r"task.eval: a.csv has no column 'text'; its columns: a, b"):
        find_columns(table(("x", "1"), columns=("a", "b")), ("text", "label"), key="task.eval")
    with pytest.raises(TaskError, match=r"task.train: a.csv has 3 columns and no names, where two are read"):
        find_columns(table(("x", "1", "z")), None, key="task.train")


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({}, []),
        ({"text": "t", "label": "l"}, []),
        ({"prompt": "p", "response": "r"}, []),
        ({"prompt": "p"}, ["task.response"]),
        ({"response": "p", "text": "t"}, ["task.prompt", "task.text"]),
        ({"prompt": "p", "response": "r", "label": "l"}, ["task.label"]),
        ({"header": False, "text": "t"}, ["task.text"]),
    ],
)
def test_fields_that_contradict_each_other(fields, keys):
    assert [fault.key for fault in check_fields(FilesConfig(**fields))] == keys
