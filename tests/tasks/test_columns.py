"""Oracle: the rules in the docstrings, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_bench.config.schema import FilesConfig
from lora_bench.tables import Table
from lora_bench.tasks.base import TaskError
from lora_bench.tasks.columns import check_fields, choose_columns, columns_note, find_columns, has_header


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
        # A class may be called as columns are: it is no name where its column repeats it.
        ([("a", "topic"), ("b", "comment"), ("c", "topic")], {}, False),
    ],
)
def test_has_header(rows, fields, wanted):
    assert has_header(table(*rows), FilesConfig(**fields)) is wanted


@pytest.mark.parametrize(
    ("columns", "fields", "wanted"),
    [
        (("label", "text"), {}, {"text": "text", "label": "label"}),
        (("id", "Sentence", "Label"), {}, {"text": "Sentence", "label": "Label"}),
        (("review", "polarity"), {}, {"text": "review", "label": "polarity"}),
        (("polarity", "body"), {"label": "polarity"}, {"text": "body", "label": "polarity"}),
        (("gold", "text"), {}, {"text": "text", "label": "gold"}),
        (("a", "b", "c"), {"text": "c", "label": "a"}, {"text": "c", "label": "a"}),
        (
            ("question", "answer"),
            {"prompt": "question", "response": "answer"},
            {"prompt": "question", "response": "answer"},
        ),
        # SMS spam, IMDB, GLUE's RTE, SNLI, QNLI, QQP and SetFit's columns; an index of pandas.
        (("v1", "v2", "", "", ""), {}, {"text": "v2", "label": "v1"}),
        (("review", "sentiment"), {}, {"text": "review", "label": "sentiment"}),
        (
            ("index", "sentence1", "sentence2", "label"),
            {},
            {"text": "sentence1", "text_pair": "sentence2", "label": "label"},
        ),
        (("premise", "hypothesis", "gold"), {}, {"text": "premise", "text_pair": "hypothesis", "label": "gold"}),
        (("question", "sentence", "label", "idx"), {}, {"text": "question", "text_pair": "sentence", "label": "label"}),
        (
            ("question1", "question2", "is_duplicate"),
            {},
            {"text": "question1", "text_pair": "question2", "label": "is_duplicate"},
        ),
        (("text", "label", "label_text"), {}, {"text": "text", "label": "label"}),
        (("", "words", "verdict"), {}, {"text": "words", "label": "verdict"}),
        (("Unnamed: 0", "text", "label"), {}, {"text": "text", "label": "label"}),
        (("premise", "hypothesis", "label"), {"text": "premise"}, {"text": "premise", "label": "label"}),
        (("a", "b", "c"), {"text": "a", "text_pair": "b"}, {"text": "a", "text_pair": "b", "label": "c"}),
    ],
)
def test_choose_columns(columns, fields, wanted):
    rows = [[f"{letter}{column}" for column in columns] for letter in "xyz"]
    assert choose_columns(table(*rows, columns=columns), FilesConfig(**fields)) == wanted


def test_of_two_columns_without_usual_names_the_class_has_fewer_values():
    rows = [("spam", "a b"), ("ham", "c"), ("ham", "d"), ("spam", "e"), ("ham", "f")]
    assert choose_columns(table(*rows, columns=("kind", "words")), FilesConfig()) == {"text": "words", "label": "kind"}
    assert choose_columns(table(*rows), FilesConfig()) == {"text": 1, "label": 0}
    assert choose_columns(table(*[row[::-1] for row in rows]), FilesConfig()) == {"text": 0, "label": 1}
    assert not has_header(table(*rows), FilesConfig())


def test_note_names_what_is_used_and_what_is_left_out():
    found = table(("1", "a", "x", "?"), columns=("", "text", "label", "source"))
    chosen = choose_columns(found, FilesConfig())
    assert columns_note(found, chosen) == "columns used: text = text, label = label; left out: (no name), source"
    assert columns_note(table(("a", "x")), {"text": 0, "label": 1}) == "columns used: text = column 1, label = column 2"


@pytest.mark.parametrize(
    ("columns", "fields", "words"),
    [
        (
            ("a", "b", "c"),
            {},
            ["task.text: not set, and none of a.csv's columns has a usual name (text, sentence, review and so on)"],
        ),
        (("text", "c", "d"), {}, ["task.label: not set, and none of a.csv's columns has a usual name (label, labels,"]),
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
        (
            ("text",),
            {},
            ["task.label: a.csv has one column, 'text'; add a column with the class, or set task.separator"],
        ),
        (tuple("abcdefghijklmno"), {}, ["give one of: a, b, c, d, e, f, g, h, i, j, k, l and 3 more"]),
    ],
)
def test_columns_that_cannot_be_told(columns, fields, words):
    with pytest.raises(TaskError) as caught:
        choose_columns(table(["x"] * len(columns), columns=columns), FilesConfig(**fields))
    for expected in words:
        assert expected in str(caught.value)


def test_find_columns_in_the_other_file():
    chosen = {"text": "text", "label": "label"}
    assert find_columns(table(("1", "x"), columns=("label", "text")), chosen, key="k") == {"text": 1, "label": 0}
    assert find_columns(table(("x", "1")), {"text": 1, "label": 0}, key="k") == {"text": 1, "label": 0}
    with pytest.raises(TaskError, match=r"task.eval: a.csv has no column 'text'; its columns: a, b"):
        find_columns(table(("x", "1"), columns=("a", "b")), chosen, key="task.eval")
    with pytest.raises(TaskError, match=r"task.train: a.csv has 3 columns and no names, where two are read"):
        choose_columns(table(("x", "1", "z")), FilesConfig())
    with pytest.raises(TaskError, match=r"task.eval: a.csv has one column, where a text and its class are read"):
        find_columns(table(("x",)), {"text": 0, "label": 1}, key="task.eval")


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({}, []),
        ({"text": "t", "label": "l"}, []),
        ({"prompt": "p", "response": "r"}, []),
        ({"prompt": "p"}, ["task.response"]),
        ({"response": "p", "text": "t"}, ["task.text", "task.prompt"]),
        ({"prompt": "p", "response": "r", "label": "l"}, ["task.label"]),
        ({"messages": "m"}, []),
        ({"messages": "m", "response": "r"}, ["task.response"]),
        ({"text_pair": "t"}, ["task.text"]),
        ({"header": False, "text": "t"}, ["task.text"]),
    ],
)
def test_fields_that_contradict_each_other(fields, keys):
    assert [fault.key for fault in check_fields(FilesConfig(**fields))] == keys
