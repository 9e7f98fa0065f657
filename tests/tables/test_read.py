"""Oracles: the bytes that each test writes, the libraries that write other formats, and the words that a user reads."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import zipfile

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_bench.tables import Number, TableError, glance, name_places, read_table


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return to_file


def problem(file):
    with pytest.raises(TableError) as caught:
        read_table(file)
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_with_any_line_ends_and_byte_order_mark(write, end, mark):
    table = read_table(write("a.csv", end.join([f"{mark}text,label", "é b,1", '"x, ""y""",0'])))
    assert table.columns is None
    assert table.rows == [["text", "label"], ["é b", "1"], ['x, "y"', "0"]]
    assert table.places == [1, 2, 3]


def test_rows_begin_on_the_line_that_is_named(write):
    table = read_table(write("a.csv", 'a,"two\nlines"\n\n  \nb,c\n'))
    assert table.rows == [["a", "two\nlines"], ["b", "c"]]
    assert table.places == [1, 5]


def test_tsv_has_no_quoting(write):
    table = read_table(write("a.TSV", 'he said "no\t0\n"quoted"\t1\n'))
    assert table.rows == [['he said "no', "0"], ['"quoted"', "1"]]


def test_json_lines_keep_types_and_order(write):
    table = read_table(write("a.jsonl", '{"t": "a\\u2028b", "n": 1}\r\n\n{"n": true, "x": null}'))
    assert table.columns == ("t", "n", "x")
    assert table.rows == [["a\u2028b", "1", None], [None, True, None]]
    assert [type(cell) for cell in table.rows[0][:2]] == [str, Number]
    assert table.places == [1, 3]


def test_cells_longer_than_the_usual_limit_of_the_csv_module(write):
    usual = csv.field_size_limit()
    table = read_table(write("a.csv", f"{'x' * 200_000},1\n"))
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
    read = read_table(str(path)).rows
    # A byte order mark at the very start of the file is not text.
    rows[0][0] = rows[0][0].removeprefix("\ufeff")
    assert read == rows


@settings(deadline=None)  # the first parquet file imports pyarrow
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a", "a.csv.gz"]))
def test_any_bytes_give_rows_of_one_width_or_a_task_error(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(data)
    try:
        table = read_table(str(path))
    except TableError as err:
        table, said = None, str(err)
    if table is None:
        assert str(path) in said
    else:
        assert len({len(row) for row in table.rows}) == 1
        assert len(table.places) == len(table.rows)
        assert glance(str(path)).digest == table.digest


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "is empty; give a file with one item per row"),
        ("a.csv", " \n\n", "is empty"),
        ("a.csv", ",\n,\n", "holds no rows; give a file with one item per row"),
        ("a.jsonl", "\ufeff\n", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.parquet", "text,label", "is not a parquet or Arrow file, whatever its name says; fetch or write it again"),
        ("a.csv", "PAR1,b\nc\n", "line 2: 1 cells, but line 1 has 2"),
        ("a.parquet", b"PAR1" + b"x" * 50 + b"PAR1", "is damaged or cut short"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00cut", "is damaged or cut short"),
        ("a.csv", b"a,b\nfine,1\ncaf\xe9,2\n", "line 3, byte 4 is 0xe9, not UTF-8; save the file as UTF-8"),
        (
            "a.csv",
            b"a,b\rfine,1\rit\x92s,2\r",
            "line 3, byte 3 is 0x92, not UTF-8; save the file as UTF-8 (in Windows-1252 it",
        ),
        ("a.csv", b"\xef\xbb\xbfa,\xff", "line 1, byte 6 is 0xff, not UTF-8"),
        ("a.tsv", "a\tb".encode("utf-16"), "is UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 "),
        ("a.tsv", b"a\tb\nc\0\td\n", "line 2, byte 2 is NUL, so this is not a text file"),
        ("a.csv", "a,b\nc,d\ne\nf,g,h\n", "lines 3, 4: 1 cells, but line 1 has 2 (e); quote cells that hold a comma"),
        (
            "a.tsv",
            "a\tb\nc\n",
            "line 2: 1 cells, but line 1 has 2 (c); replace tabs inside cells, tab-separated text has no quoting",
        ),
        ("a.csv", 'a,b\nc,"d\ne,f\n', "the row that begins on line 2 is malformed (unexpected end of data)"),
        ("a.csv", 'a,b\n"c"d,e\n', "the row that begins on line 2 is malformed"),
        (
            "a.csv",
            'text,label\nhe said "no", ok,x\nb,y\n',
            'line 2: 3 cells, but line 1 has 2 (he said "no", ok,x); put the whole cell in double quotes and',
        ),
        ("a.jsonl", '{"a": 1}\n{"a": \n{b}\n', "lines 2, 3: Expecting value at column 7; give one object per line"),
        ("a.jsonl", '["a"]\n', 'item 1: a text ("a"), not an object'),
        ("a.jsonl", '{"a": 1}\n["b"]\n', 'line 2: a list (["b"]), not an object; give one object per line'),
        ("a.json", '[{"a": 1}, 7, null]', "items 2, 3: a number (7), not an object"),
        ("a.json", '[{"a": 1},\n {"a" 2}]', "line 2: Expecting ':' delimiter at column 7"),
        ("a.json", '{\n "a": 1,\n "b": 2\n}', "is one JSON object with the keys a, b; give one object per line"),
        ("a.jsonl", "[" * 200_000, "brackets are nested too deep; give one object per line"),
        ("a.jsonl", '{"a":' * 200_000, "line 1: brackets are nested too deep"),
        ("a.json", "[" + '{"a":' * 200_000, "brackets are nested too deep"),
    ],
)
def test_bad_files(write, name, content, words):
    assert words in problem(write(name, content))


def test_folder_and_missing_file(tmp_path, write):
    assert "is a folder; give a file" in problem(str(tmp_path))
    write("train.csv", "a,b")
    assert "does not exist (did you mean 'train.csv'?); relative paths start at /" in problem(
        str(tmp_path / "trian.csv")
    )
    assert "does not exist; relative" in problem(str(tmp_path / "no" / "x.csv"))


def test_a_file_used_as_a_folder_and_what_is_no_file(write, tmp_path):
    file = write("a.csv", "a,b")
    assert "a.csv/b.csv does not exist" in problem(f"{file}/b.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe.csv is not a regular file; save its content to one" in problem(str(tmp_path / "pipe.csv"))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives root's rights up")
def test_a_folder_that_may_not_be_entered_and_a_file_that_may_not_be_read(write, tmp_path):
    (tmp_path / "closed").mkdir()
    write("closed/a.csv", "a,b")
    (tmp_path / "closed").chmod(0o600)
    os.chmod(write("b.csv", "a,b"), 0o200)
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest" in folder.as_posix():  # pytest's own folders, which are closed to other users
            folder.chmod(0o755)
    code = (
        "import os, sys; from lora_bench.tables import TableError, read_table, glance\n"
        "os.seteuid(65534)\n"
        "for file in sys.argv[1:]:\n"
        "    assert glance(file) is None\n"
        "    try: read_table(file)\n"
        "    except TableError as err: print(err)\n"
    )
    files = [str(tmp_path / "closed" / "a.csv"), str(tmp_path / "b.csv")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.endswith(f"(Permission denied at {tmp_path}/closed); let this user enter that folder, or give a copy")
    assert second.endswith(f"(Permission denied at {tmp_path}/b.csv); let this user read it, or give a copy")


@pytest.mark.parametrize("name", ["\udcff.csv", "a\ud800.csv", "a\0b.csv"])
def test_paths_that_no_file_can_have_are_shown_in_ascii(name):
    said = problem(name)
    assert said.isascii()
    assert "holds characters that no portable file name has; rename the file" in said


def test_home_is_expanded(write, tmp_path, monkeypatch):
    write("a.csv", "a,b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_table("~/a.csv").rows == [["a", "b"]]


def test_name_places():
    assert name_places([3]) == "line 3"
    assert name_places([3, 7, 9]) == "lines 3, 7, 9"
    assert name_places(range(1, 44)) == "lines 1, 2, 3 and 40 more"
    assert name_places([1, 2], unit="item") == "items 1, 2"


ROWS = [["text", "label"], ["a, b; c", "x"], ["d\te", "y"], ['he said "no"', "x"]]


@pytest.mark.parametrize("separator", [",", ";", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a"])
def test_any_separator_is_found(write, separator, name):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=separator).writerows(ROWS)
    table = read_table(write(name, buffer.getvalue()))
    assert table.rows == ROWS
    assert (table.notes != ()) == (separator != "," and name == "a.csv")
    assert glance(str(table.path)).first == ("text", "label")


def test_a_separator_that_texts_hold_is_not_taken_for_the_one_between_cells(write):
    table = read_table(write("a.csv", "text;label\nI love it, really;pos\nno, never, no;neg\n"))
    assert table.rows[1:] == [["I love it, really", "pos"], ["no, never, no", "neg"]]
    assert table.notes == ("a.csv: cells are separated by semicolons (';')",)
    table = read_table(write("b.csv", "text,label\na; b,x\nc; d,y\n"))
    assert table.rows[1:] == [["a; b", "x"], ["c; d", "y"]]
    assert read_table(write("c.csv", "a~x\nb~y\n"), separator="~").rows == [["a", "x"], ["b", "y"]]
    assert "line 3: 1 cells, but line 1 has 2 (c); quote cells that hold a semicolon" in problem(
        write("d.csv", "text;label\na, b;x\nc\n")
    )


def test_tabs_have_no_quoting_and_quotes_that_look_like_it_are_told(write):
    table = read_table(write("a.tsv", '"a b"\tx\nc\ty\n'))
    assert table.rows[0] == ['"a b"', "x"]
    assert table.notes == ("a.tsv: 1 cells stand in double quotes, which are kept: tabs leave no quoting",)
    assert read_table(write("sms", "ham\tsee you, then\nspam\tfree, now\n")).rows[0] == ["ham", "see you, then"]


def objects(rows):
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


@pytest.mark.parametrize(
    ("name", "dump", "unit"),
    [
        ("a.json", lambda found: json.dumps(found), "item"),
        ("a.json", lambda found: json.dumps(found, indent=2), "item"),
        ("a.jsonl", lambda found: json.dumps(found), "item"),
        ("a", lambda found: json.dumps(found), "item"),
        ("a.jsonl", lambda found: "\n".join(map(json.dumps, found)), "line"),
        ("a.json", lambda found: "\n".join(map(json.dumps, found)), "line"),
        ("a", lambda found: "\n\n".join(map(json.dumps, found)), "line"),
        ("a.json", lambda found: json.dumps({"version": "1", "data": found}), "item"),
    ],
)
def test_json_in_every_layout(write, name, dump, unit):
    table = read_table(write(name, dump(objects(ROWS))))
    assert table.columns == ("text", "label") == glance(str(table.path)).first
    assert (table.rows, table.unit) == (ROWS[1:], unit)
    assert ("the items are the list under 'data'" in " ".join(table.notes)) == ("version" in dump(objects(ROWS)))


def test_one_object_with_a_conversation_is_an_item(write):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    table = read_table(write("a.jsonl", json.dumps({"messages": turns})))
    assert table.rows == [[turns]]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip", ".zst", ".lz4", ""])
def test_compressed_files_are_known_by_their_content(write, ending, tmp_path):
    plain = b"text,label\na,x\nb,y\n"
    if ending == ".zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("inside.csv", plain)
        data = buffer.getvalue()
    elif ending in (".zst", ".lz4"):
        with pyarrow.CompressedOutputStream(str(tmp_path / "packed"), "zstd" if ending == ".zst" else "lz4") as out:
            out.write(plain)
        data = (tmp_path / "packed").read_bytes()
    else:
        data = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, "": gzip.compress}[ending](plain)
    table = read_table(write(f"a.csv{ending}", data))
    assert table.rows == [["text", "label"], ["a", "x"], ["b", "y"]]
    # What is read counts, not how it was packed.
    assert table.digest == read_table(write("other.csv", plain)).digest


def test_archives_of_several_files_and_workbooks_are_refused(write):
    def packed(*names):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        return buffer.getvalue()

    assert "is an archive of 2 files; give one of them, unpacked" in problem(write("a.zip", packed("a", "b")))
    assert "is an Excel workbook; save the sheet as CSV" in problem(write("a.xlsx", packed("[Content_Types].xml", "b")))


@pytest.mark.parametrize("write_with", [pyarrow.parquet.write_table, pyarrow.feather.write_feather])
def test_parquet_and_arrow_as_pyarrow_writes_them(tmp_path, write_with):
    columns = {"text": ["a", None], "label": [1, 2], "score": [1.0, float("nan")], "ok": [True, False]}
    path = tmp_path / "renamed.data"
    write_with(pyarrow.table(columns), str(path))
    table = read_table(str(path))
    assert (table.columns, table.unit) == (("text", "label", "score", "ok"), "row")
    assert table.rows == [["a", "1", "1.0", True], [None, "2", "nan", False]]
    assert glance(str(path)).first == table.columns


def test_numbers_keep_the_spelling_of_their_file(write):
    table = read_table(write("a.jsonl", '{"n": 1.0, "m": 1.10, "k": 007, "e": 1e3}'.replace("007", "7")))
    assert table.rows == [["1.0", "1.10", "7", "1e3"]]


def test_a_long_file_tells_its_progress(write):
    told = []
    content = "text,label\n" + "a,x\n" * 30_000
    read_table(write("a.csv", content), tell=lambda done, total: told.append((done, total)))
    assert len(told) > 2
    assert all(0 <= done <= total == len(content) for done, total in told)


def test_one_line_of_many_megabytes(write):
    # 20 MB here; 200 MB take 2 s (measured once).
    file = write("a.csv", b"x" * 20_000_000)
    table = read_table(file)
    assert [len(row) for row in table.rows] == [1]


def test_a_glance_follows_the_content(write):
    first = glance(write("a.csv", "text,label\na,x\n"))
    again = glance(write("a.csv", "text,label\nbb,x\n"))
    moved = glance(write("b.csv", "text,label\nbb,x\n"))
    assert first.digest != again.digest == moved.digest
    # The same bytes are read in another way under another ending.
    assert glance(write("b.tsv", "text,label\nbb,x\n")).digest != moved.digest
    assert glance(write("b.csv", b"\xff\n")).first == ()
    assert glance("/nowhere/a.csv") is None


def test_reading_csv_and_json_needs_no_heavy_library(write):
    files = [write("a.csv.gz", gzip.compress(b"a,b\n")), write("a.json", '[{"a": 1}]')]
    code = (
        "import sys; from lora_bench.tables import read_table\n"
        "for file in sys.argv[1:]: read_table(file)\n"
        "print({'pyarrow', 'pandas', 'datasets', 'numpy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
