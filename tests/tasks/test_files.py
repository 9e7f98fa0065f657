"""Oracles: the real SST-2, GSM8K and E2E read here in the plainest way, and files written by each test."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from lora_bench.config.schema import FilesConfig, TaskKind
from lora_bench.tasks import TaskError, check_task, load_task

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not beside this checkout")


@pytest.fixture
def files(tmp_path):
    """Writes train and eval, and gives their configuration."""

    def make(train, evaluation="a,x\nb,y\n", *, suffix=".csv", **fields):
        for name, content in (("train", train), ("eval", evaluation)):
            (tmp_path / f"{name}{suffix}").write_text(content, encoding="utf-8", newline="")
        return FilesConfig(train=str(tmp_path / f"train{suffix}"), eval=str(tmp_path / f"eval{suffix}"), **fields)

    return make


def problems(config):
    with pytest.raises(TaskError) as caught:
        load_task(config)
    assert list(caught.value.faults) == check_task(config)
    return [str(fault) for fault in caught.value.faults]


@needs_shared
def test_sst2_has_no_header_and_loses_no_row():
    config = FilesConfig(train=str(SHARED / "sst2" / "train.tsv"), eval=str(SHARED / "sst2" / "dev.tsv"))
    data = load_task(config)
    assert data.kind is TaskKind.classification
    assert data.labels == ("0", "1")
    for split, name in ((data.train, "train"), (data.test, "dev")):
        lines = (SHARED / "sst2" / f"{name}.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
        assert [f"{item.text}\t{item.label}" for item in split] == lines
        assert [item.item_id for item in split] == [f"{name}.tsv:{line}" for line in range(1, len(lines) + 1)]
    assert (len(data.train), len(data.test)) == (6920, 872)
    assert data.notes[0].startswith("train.tsv: first line taken as an item ('a stirring , funny")


@needs_shared
def test_part_of_sst2_is_seeded_keeps_the_order_and_the_classes():
    paths = {"train": str(SHARED / "sst2" / "train.tsv"), "eval": str(SHARED / "sst2" / "dev.tsv")}
    data = load_task(FilesConfig(**paths, num_train=200, num_eval=50))
    assert (len(data.train), len(data.test)) == (200, 50)
    lines = [int(item.item_id.split(":")[1]) for item in data.train]
    assert lines == sorted(lines)
    # 3,610 of the 6,920 are positive.
    assert sum(item.label for item in data.train) == pytest.approx(200 * 3610 / 6920, abs=1)
    assert load_task(FilesConfig(**paths, num_train=200, split_seed=1)).train != data.train


@needs_shared
def test_gsm8k_as_prompt_and_response():
    config = FilesConfig(
        train=str(SHARED / "gsm8k" / "train.jsonl"),
        eval=str(SHARED / "gsm8k" / "test.jsonl"),
        prompt="question",
        response="answer",
    )
    data = load_task(config)
    assert data.kind is TaskKind.generation
    assert (len(data.train), len(data.test), data.labels) == (7473, 1319, ())
    assert (data.headline, data.grading.metric) == ("nll_per_token", "rouge_l")
    with open(SHARED / "gsm8k" / "test.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [item.text for item in data.test] == [f"{row['question'].strip()}\n" for row in rows]
    assert [item.response for item in data.test] == [row["answer"].strip() for row in rows]


@needs_shared
def test_e2e_with_itself_says_that_it_does():
    path = SHARED / "e2e" / "devset.csv"
    data = load_task(FilesConfig(train=str(path), eval=str(path), prompt="mr", response="ref"))
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(item.text, item.response) for item in data.train] == [
        (f"{row['mr']}\n", row["ref"].strip()) for row in rows
    ]
    assert "4672 of 4672 eval texts also stand in train" in data.notes


@needs_shared
def test_answers_taken_for_classes_are_refused():
    config = FilesConfig(train=str(SHARED / "gsm8k" / "train.jsonl"), eval=str(SHARED / "gsm8k" / "test.jsonl"))
    (found,) = problems(config)
    assert "task.train: " in found
    assert "7473 classes in 7473 items" in found
    assert "set task.prompt and task.response" in found


def test_header_is_found_and_quotes_commas_and_line_breaks_stay_in_the_text(files):
    config = files('label,text\nx,"one, ""two""\nthree"\ny,  four  \n', "text,label\nfive,x\nsix,y\n")
    data = load_task(config)
    assert [(item.text, item.label) for item in data.train] == [('one, "two"\nthree', 0), ("four", 1)]
    assert [item.item_id for item in data.train] == ["train.csv:2", "train.csv:4"]
    assert [(item.text, item.label) for item in data.test] == [("five", 0), ("six", 1)]
    assert data.notes == ("train.csv: first line taken as names of columns ('label', 'text')",)


def test_a_small_eval_file_follows_the_training_file_about_its_first_line(files):
    # By itself, eval's first line would look like names: its class occurs in no other row.
    data = load_task(files("a,x\nb,y\nc,x\n", "d,x\ne,y\nf,y\n"))
    assert [item.text for item in data.test] == ["d", "e", "f"]


def test_json_lines_with_numbers_and_booleans_as_classes(files):
    rows = [{"text": f"t{index}", "label": index} for index in (10, 9, 2)]
    content = "\n".join(json.dumps(row) for row in rows)
    data = load_task(files(content, content, suffix=".jsonl"))
    assert data.labels == ("2", "9", "10")
    assert [item.label for item in data.train] == [2, 1, 0]
    flags = '{"text": "a", "label": true}\n{"text": "b", "label": false}'
    assert load_task(files(flags, flags, suffix=".jsonl")).labels == ("false", "true")


def test_same_content_in_other_formats_is_the_same_data(files):
    rows = [("a b", "x"), ("c", "y"), ("d", "x")]
    comma = "".join(f"{text},{label}\n" for text, label in rows)
    tabbed = comma.replace(",", "\t")
    lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)
    digests = {
        load_task(files(content, content, suffix=suffix)).digest
        for content, suffix in ((comma, ".csv"), (tabbed, ".tsv"), (lines, ".jsonl"))
    }
    assert len(digests) == 1


def test_faults_of_both_files_come_together(files):
    config = files("a,x\nb\n", "")
    first, second = problems(config)
    assert first.startswith("task.train: ")
    assert "line 2: 1 cells, but line 1 has 2" in first
    assert second.startswith("task.eval: ")
    assert "is empty" in second


def test_a_fault_of_one_file_does_not_hide_those_of_the_other(files):
    found = problems(files("a,x\nb,x\n", "d,x\ne\n"))
    assert ["all 2 items have the class 'x'" in problem for problem in found] == [False, True]
    assert "eval.csv: line 2: 1 cells" in found[0]
    found = problems(files("a,x\n,y\nc,x\n", "d,\n", num_train=9))
    assert ["train.csv line 2: nothing as text" in found[0], "eval.csv line 1: nothing as label" in found[1]] == [
        True
    ] * 2
    found = problems(files("t,lable,z\na,x,1\n", "", text="t", label="label"))
    assert "task.label: " in found[1]
    assert "did you mean 'lable'?" in found[1]


def test_nothing_set_and_contradictions_come_together():
    found = problems(FilesConfig(prompt="q", text="t"))
    assert [problem.split(":")[0] for problem in found] == ["task.response", "task.text", "task.train", "task.eval"]


@pytest.mark.parametrize(
    ("train", "evaluation", "words"),
    [
        ("a,x\nb,x\n", "c,x\n", "all 2 items have the class 'x'; classification needs two or more classes"),
        (
            "a,cat\nb,dog\nc,cat\n",
            "d,cta\ne,cta\n",
            "eval.csv lines 1, 2: class 'cta' is not in task.train (did you mean",
        ),
        (
            "a,cat\nb,dog\nc,cat\n",
            "d,cow\n",
            "eval.csv line 1: class 'cow' is not in task.train; its classes: cat, dog",
        ),
        ("a,x\nb,y\nc,x\n,x\n  ,y\n", "d,x\n", "train.csv lines 4, 5: nothing as text; fill the cells or take the"),
        ("a,x\nb,y\nc,x\nd, \n", "e,x\n", "train.csv line 4: nothing as label"),
        ("text,label\n", "text,label\na,x\n", "train.csv has no row below its names"),
        ("text,label\na,x\nb,y\n", "text,label\n", "eval.csv has no row below its names"),
        ("text,label\na,x\nb,y\n", "a,x\nb,y\n", "eval.csv has no column 'text'; its columns: a, x"),
        ("a,x\nb,y\nc,x\n", "text,label\nd,x\n", "eval.csv line 1: class 'label' is not in task.train"),
    ],
)
def test_data_that_cannot_be_used(files, train, evaluation, words):
    found = problems(files(train, evaluation))
    split = "eval" if "eval.csv" in words else "train"
    assert any(problem.startswith(f"task.{split}: ") and words in problem for problem in found)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": 7, "label": "x"}', "line 3: a value that is no text as text"),
        ('{"text": "a", "label": 1.5}', "line 3: a value that is no text as label"),
        ('{"text": "a", "label": null}', "line 3: nothing as label"),
        ('{"label": "x"}', "line 3: nothing as text"),
        ('{"text": "\\ud800", "label": "x"}', "line 3: half of a surrogate pair as text"),
    ],
)
def test_json_values_that_cannot_be_used(files, line, words):
    good = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
    (found,) = problems(files(good + line, good, suffix=".jsonl"))
    assert words in found


def test_many_unknown_classes_are_each_named_once(files):
    found = problems(files("a,x\nb,y\nc,x\n", "d,z\ne,w\nf,z\n"))
    assert len(found) == 2
    assert "lines 1, 3: class 'z'" in found[0]
    found = problems(files("a,x\nb,y\nc,x\n", "".join(f"d,z{index}\n" for index in range(9))))
    assert len(found) == 4
    assert "6 more classes that task.train lacks" in found[3]


def test_asking_for_more_than_there_is(files):
    config = files("a,x\nb,y\nc,x\n", "d,x\n", num_train=4, num_eval=2)
    assert problems(config) == [
        "task.num_train: 4 asked for, 3 there; give at most 3, or null for all",
        "task.num_eval: 2 asked for, 1 there; give at most 1, or null for all",
    ]
