"""Oracles: the bytes that each test writes, and the words that a user reads."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_bench.tasks.tables import name_lines, read_table

from lora_bench.tasks.base import TaskError


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return to_file


def problem(file):
    with pytest.raises(TaskError) as caught:
        read_table(file, key="task.train")
    assert [fault.key for fault in caught.value.faults] == ["task.train"]
    return str(caught.value.faults[0])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_with_any_line_ends_and_byte_order_mark(write, end, mark):
    table = read_table(write("a.csv", end.join([f"{mark}text,label", "é b,1", '"x, ""y""",0'])), key="k")
    assert table.columns is None
    assert table.rows == [["text", "label"], ["é b", "1"], ['x, "y"', "0"]]
    assert table.lines == [1, 2, 3]


def test_rows_begin_on_the_line_that_is_named(write):
    table = read_table(write("a.csv", 'a,"two\nlines"\n\n  \nb,c\n'), key="k")
    assert table.rows == [["a", "two\nlines"], ["b", "c"]]
    assert table.lines == [1, 5]


def test_tsv_has_no_quoting(write):
    table = read_table(write("a.TSV", 'he said "no\t0\n"quoted"\t1\n'), key="k")
    assert table.rows == [['he said "no', "0"], ['"quoted"', "1"]]


def test_json_lines_keep_types_and_order(write):
    table = read_table(write("a.jsonl", '{"t": "a\\u2028b", "n": 1}\r\n\n{"n": true, "x": null}'), key="k")
    assert table.columns == ("t", "n", "x")
    assert table.rows == [["a\u2028b", 1, None], [None, True, None]]
    assert table.lines == [1, 3]


def test_cells_longer_than_the_usual_limit_of_the_csv_module(write):
    usual = csv.field_size_limit()
    table = read_table(write("a.csv", f"{'x' * 200_000},1\n"), key="k")
    assert len(table.rows[0][0]) == 200_000
    assert csv.field_size_limit() == usual


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    rows = [
        [cell.encode("utf-8", "replace").decode().replace("\0", "x") + "." for cell in row]  # no surrogates, no blanks
        for row in rows
    ]
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(buffer.getvalue().encode())
    read = read_table(str(path), key="k").rows
    # A byte order mark at the very start of the file is not text.
    rows[0][0] = rows[0][0].removeprefix("\ufeff")
    assert read == rows


@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.tsv", "a.jsonl"]))
def test_any_bytes_give_rows_of_one_width_or_a_task_error(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(data)
    try:
        table = read_table(str(path), key="k")
    except TaskError as err:
        table, said = None, str(err)
    if table is None:
        assert str(path) in said
    else:
        assert len({len(row) for row in table.rows}) == 1
        assert len(table.lines) == len(table.rows)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "is empty; give a file with one item per row"),
        ("a.csv", " \n\n", "is empty"),
        ("a.csv", ",\n,\n", "holds nothing but blank lines"),
        ("a.jsonl", "\ufeff\n", "holds nothing but blank lines"),
        ("a.txt", "a,b", "ends in '.txt'; accepted: .csv, .tsv, .jsonl"),
        ("a.json", "[]", "ends in '.json'; accepted: .csv, .tsv, .jsonl (JSON lines are .jsonl)"),
        ("a.csv", b"a,b\nfine,1\ncaf\xe9,2\n", "line 3, byte 4 is 0xe9, not UTF-8; save the file as UTF-8"),
        ("a.csv", b"\xef\xbb\xbfa,\xff", "line 1, byte 6 is 0xff, not UTF-8"),
        ("a.tsv", "a\tb".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.tsv", b"a\tb\nc\0\td\n", "line 2, byte 2 is NUL, so this is no text file"),
        ("a.csv", "a,b\nc,d\ne\nf,g,h\n", "lines 3, 4: 1 cells, but line 1 has 2; quote cells that hold a comma"),
        ("a.tsv", "a\tb\nc\n", "line 2: 1 cells, but line 1 has 2; replace tabs inside cells, a .tsv has no quoting"),
        ("a.csv", 'a,b\nc,"d\ne,f\n', "the row that begins on line 2 is malformed (unexpected end of data)"),
        ("a.csv", 'a,b\n"c"d,e\n', "the row that begins on line 2 is malformed"),
        ("a.jsonl", '{"a": 1}\n{"a": \n{b}\n', "lines 2, 3: Expecting value at column 7; give one object per line"),
        ("a.jsonl", '["a"]\n', "line 1: a JSON list, not an object"),
        ("a.jsonl", "[" * 100_000, "line 1: maximum recursion depth exceeded"),
        ("a.jsonl", json.dumps([{"a": 1}], indent=1), "lines 1, 2, 3 and 2 more: Expecting value"),
    ],
)
def test_bad_files(write, name, content, words):
    assert words in problem(write(name, content))


def test_not_set_folder_and_missing_file(tmp_path, write):
    assert problem(None) == "task.train: not set; task=files needs a file with one item per row (.csv, .tsv, .jsonl)"
    assert "is a folder; give a file" in problem(str(tmp_path))
    write("train.csv", "a,b")
    assert "does not exist (did you mean 'train.csv'?); relative paths start at /" in problem(
        str(tmp_path / "trian.csv")
    )
    assert "does not exist; relative" in problem(str(tmp_path / "no" / "x.csv"))


def test_file_that_may_not_be_read(write, monkeypatch):
    file = write("a.csv", "a,b")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert "a.csv cannot be read (Permission denied)" in problem(file)


def test_home_is_expanded(write, tmp_path, monkeypatch):
    write("a.csv", "a,b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_table("~/a.csv", key="k").rows == [["a", "b"]]


def test_name_lines():
    assert name_lines([3]) == "line 3"
    assert name_lines([3, 7, 9]) == "lines 3, 7, 9"
    assert name_lines(range(1, 44)) == "lines 1, 2, 3 and 40 more"
