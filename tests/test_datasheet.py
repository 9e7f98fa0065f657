"""Oracles: the files that each test writes, the task that a run would load, and the modules that were imported."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from lora_bench import cli
from lora_bench.datasheet import describe_file
from lora_bench.errors import ConfigError, UsageError
from lora_bench.tasks import TaskError

ROWS = [(f"text {number}", ("neg", "pos")[number % 2]) for number in range(40)]


@pytest.fixture
def write(tmp_path):
    def to_file(name, rows, names="text,label"):
        path = tmp_path / name
        path.write_text("\n".join([names, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
        return str(path)

    return to_file


def test_one_file_is_described_as_a_run_would_tell_it(write):
    found = describe_file(write("train.csv", [*ROWS, ROWS[0], ("text 0", "pos")]), [])
    assert (found["kind"], found["classes"]) == ("classification", ["neg", "pos"])
    assert {name: split["items"] for name, split in found["splits"].items()} == {"train": 38, "validation": 4}
    assert found["splits"]["train"] | {"items": 0} == {"items": 0, "characters_median": 7, "characters_longest": 7}
    assert found["first_item"] == {"text": "'text 0'", "class": "'neg'"} or found["first_item"]["text"] == "'text 1'"
    assert "2 of 38 train texts repeat another" in found["notes"]
    assert "1 text has several classes (3 items), such as 'text 0'" in found["notes"]
    assert "columns used: text = text, label = label" in found["notes"]


def test_words_name_columns_and_further_files(write):
    train = write("a, b=c.csv", [(text, text, label) for text, label in ROWS], "body,other,kind")
    test = write("test.csv", [("new", "x", "pos")], "body,other,kind")
    found = describe_file(train, ["task.text=body", "task.label=kind", f"task.eval={test}", "task.num_train=10"])
    assert {name: split["items"] for name, split in found["splits"].items()} == {
        "train": 10,
        "validation": 4,
        "test": 1,
    }
    assert "columns used: text = body, label = kind; left out: other" in found["notes"]


def test_the_tokenizer_s_part_comes_with_a_model(write, tmp_path):
    rows = [*ROWS, ("\u13a0\u13a1 \u13a2", "pos"), ("word " * 50, "neg")]
    found = describe_file(write("train.csv", rows), ["model=minilm", "task.max_length=20", "task.num_validation=2"])
    train = found["splits"]["train"]
    assert (train["tokens_median"], train["tokens_longest"], train["items_cut"]) == (4, 20, 1)
    assert train["tokens_unknown"] > 0
    assert "1 of 40 train texts cut to 20 tokens" in found["notes"]
    assert any("which knows nothing of 1 of 40 texts" in note for note in found["notes"])


def test_a_wrong_word_is_refused(write):
    file = write("train.csv", ROWS)
    with pytest.raises(ConfigError, match=r"task.lable: no key 'lable' in 'task' \(did you mean 'task.label=x'\?\)"):
        describe_file(file, ["task.lable=x"])
    with pytest.raises(UsageError, match=r"'lora.r=4' says nothing about data; give keys of the task"):
        describe_file(file, ["lora.r=4"])
    with pytest.raises(TaskError, match=r"task.text: .* has no column 'x'"):
        describe_file(file, ["task.text=x"])


def test_progress_is_shown_on_a_terminal_alone(write):
    file = write("train.csv", ROWS)
    for is_terminal in (True, False):
        console = Console(file=StringIO(), force_terminal=is_terminal, width=100)
        describe_file(file, [], console=console)
        assert ("reading task.train" in console.file.getvalue()) == is_terminal


def test_the_command_prints_for_people_and_for_programs(write, capsys):
    file = write("train.csv", ROWS)
    assert cli.main(["data", file]) == cli.EXIT_DONE
    said = capsys.readouterr().out
    assert said.startswith(f"{file}: classification, 2 classes\n")
    assert "\n  validation      4 " in said
    assert "\n- items by class (train, validation): neg 18, 2; pos 18, 2\n" in said
    assert cli.main(["data", file, "--json"]) == cli.EXIT_DONE
    assert json.loads(capsys.readouterr().out)["splits"]["validation"]["items"] == 4


@pytest.mark.parametrize("name", [b"\xff.csv", b"n" * 300, b"none.csv", b"."])
def test_hostile_names_are_refused_without_a_traceback(name, tmp_path):
    command = [sys.executable, "-m", "lora_bench.cli", "data", name]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii", **_path()})
    assert done.returncode == cli.EXIT_FAILED
    assert b"Traceback" not in done.stderr
    assert b"task.train: " in done.stderr


def test_without_a_model_no_torch_is_imported(write):
    code = (
        "import sys; from lora_bench.cli import main; main(['data', sys.argv[1]])\n"
        "print({'torch', 'transformers', 'pyarrow', 'pandas', 'mlflow'} & set(sys.modules))"
    )
    file = write("train.csv", ROWS)
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def _path():
    import os

    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
