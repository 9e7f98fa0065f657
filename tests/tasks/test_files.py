"""Oracles: the real SST-2, GSM8K and E2E read here in the plainest way, and files written by each test."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from lora_bench.config.identity import settle_files
from lora_bench.config.schema import FilesConfig, TaskKind
from lora_bench.tasks import TaskError, check_task, load_task
from lora_bench.tasks.files import load

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not beside this checkout")


@pytest.fixture
def files(tmp_path):
    """Writes train and eval, and gives their configuration; eval's items are those of validation too, if so asked."""

    def make(train, evaluation="a,x\nb,y\n", *, suffix=".csv", has_validation=True, **fields):
        for name, content in (("train", train), ("eval", evaluation)):
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / f"{name}{suffix}").write_bytes(data)
        paths = {name: str(tmp_path / f"{name}{suffix}") for name in ("train", "eval")}
        if has_validation:
            shutil.copy(paths["eval"], tmp_path / f"dev{suffix}")
            fields["validation"] = str(tmp_path / f"dev{suffix}")
        return FilesConfig(**paths, **fields)

    return make


def problems(config):
    """What is wrong, of validation's file once where eval's is the same."""
    with pytest.raises(TaskError) as caught:
        load_task(config)
    assert list(caught.value.faults) == check_task(config)
    return [str(fault) for fault in caught.value.faults if fault.key != "task.validation"]


@needs_shared
def test_sst2_has_no_header_and_loses_no_row():
    paths = {split: str(SHARED / "sst2" / name) for split, name in (("train", "train.tsv"), ("eval", "dev.tsv"))}
    data = load_task(FilesConfig(**paths, validation=paths["eval"]))
    assert data.kind is TaskKind.classification
    assert data.labels == ("0", "1")
    for split, file, name in ((data.train, "train", "train"), (data.test, "dev", "test")):
        lines = (SHARED / "sst2" / f"{file}.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
        assert [f"{item.text}\t{item.label}" for item in split] == lines
        assert [item.item_id for item in split] == [f"{name}:{line}" for line in range(1, len(lines) + 1)]
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
        validation=str(SHARED / "gsm8k" / "test.jsonl"),
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
    files = dict.fromkeys(("train", "validation", "eval"), str(path))
    data = load_task(FilesConfig(**files, prompt="mr", response="ref"))
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(item.text, item.response) for item in data.train] == [
        (f"{row['mr']}\n", row["ref"].strip()) for row in rows
    ]
    assert "4,672 of 4,672 test prompts also stand in train" in data.notes
    several = len({row["mr"] for row in rows})
    assert f"{4672 - several:,} of 4,672 train prompts repeat another" in data.notes


@needs_shared
def test_answers_taken_for_classes_are_refused():
    files = {"train": str(SHARED / "gsm8k" / "train.jsonl"), "eval": str(SHARED / "gsm8k" / "test.jsonl")}
    config = FilesConfig(**files, text="question", label="answer")
    (found,) = problems(config)
    assert "task.train: " in found
    assert "7473 classes in 7473 items" in found
    assert "set task.prompt and task.response" in found


def test_header_is_found_and_quotes_commas_and_line_breaks_stay_in_the_text(files):
    config = files('label,text\nx,"one, ""two""\nthree"\ny,  four  \n', "text,label\nfive,x\nsix,y\n")
    data = load_task(config)
    assert [(item.text, item.label) for item in data.train] == [('one, "two"\nthree', 0), ("four", 1)]
    assert [item.item_id for item in data.train] == ["train:2", "train:4"]
    assert [(item.text, item.label) for item in data.test] == [("five", 0), ("six", 1)]
    assert data.notes[0] == "train.csv: first line taken as names of columns ('label', 'text')"


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
    assert [problem.split(":")[0] for problem in found] == ["task.text", "task.response", "task.train", "task.eval"]


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
        ('{"text": ["a"], "label": "x"}', 'line 3: a list as text (["a"]); give one text per item'),
        ('{"text": "a", "label": ["x"]}', 'line 3: a list as label (["x"]); give one class per item'),
        ('{"text": "a", "label": {"id": 1}}', 'line 3: an object as label ({"id": "1"}); give one class per item'),
        ('{"text": "a", "label": NaN}', "line 3: 'NaN' as label; a missing value is written so; fill the cells or"),
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
    config = files("a,x\nb,y\nc,x\n", "d,x\n", num_train=4, num_eval=2, num_validation=3)
    assert problems(config) == [
        "task.num_train: 4 asked for, 3 there; give at most 3, or null for all",
        "task.num_validation: 3 asked for, 1 there; give at most 1, or null for all",
        "task.num_eval: 2 asked for, 1 there; give at most 1, or null for all",
    ]


# What users have: every kind of input of which a report is known, made here, and what is right.

GOOD, BAD = ("good film", "pos"), ("awful day", "neg")
ITEMS = [(f"{text} 1-{number}", label) for number, (text, label) in enumerate([GOOD, BAD] * 20)]
HELD_OUT = [(f"{text} 2-{number}", label) for number, (text, label) in enumerate([GOOD, BAD] * 5)]


def comma(rows, names="text,label", separator=","):
    return "\n".join([names.replace(",", separator), *(separator.join(row) for row in rows)]) + "\n"


def lines(rows, *names):
    return "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows) + "\n"


def notes_of(config):
    return load_task(config).notes


@pytest.mark.parametrize("comma_inside", ["", ", really"])
def test_another_separator_is_read_and_told(files, comma_inside):
    rows, held_out = ([(text + comma_inside, label) for text, label in part] for part in (ITEMS, HELD_OUT))
    data = load_task(files(comma(rows, separator=";"), comma(held_out, separator=";")))
    assert [item.text for item in data.train] == [text for text, _ in rows]
    assert data.labels == ("neg", "pos")
    assert "train.csv: cells are separated by semicolons (';')" in data.notes


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "#N/A"])
def test_a_class_that_is_a_missing_value_is_refused_with_its_lines(files, word):
    rows = [*ITEMS[:6], ("fine", word), *ITEMS[6:], ("well", word)]
    (found,) = problems(files(comma(rows), comma(HELD_OUT)))
    assert f"train.csv lines 8, 43: '{word}' as label; a missing value is written so; fill the cells or take" in found
    # Numbers with one missing, as pandas writes them, in CSV and in JSON.
    numbers = [(text, "1.0" if label == "pos" else "0.0") for text, label in ITEMS[:8]]
    (found,) = problems(files(comma([*numbers, ("fine", "NaN")]), comma(numbers)))
    assert "line 10: 'NaN' as label" in found


def test_classes_that_may_be_missing_or_one_are_told_with_their_counts(files):
    rows = [*ITEMS, ("a", "None"), ("b", "None"), ("c", "Pos"), ("d", "Pos")]
    notes = notes_of(files(comma(rows), comma(HELD_OUT)))
    assert "class 'None' (2 items) is a class like any other; is it a missing label?" in notes
    assert "classes 'Pos', 'pos' differ in spelling alone and are 2 classes; is it one?" in notes
    assert "items by class (train, validation, test): None 2, 0, 0; Pos 2, 0, 0; neg 20, 5, 5; pos 20, 5, 5" in notes


def test_labels_of_mixed_types_are_told(files):
    rows = [{"text": text, "label": 1 if label == "pos" else "0"} for text, label in ITEMS]
    data = load_task(files("\n".join(map(json.dumps, rows)), "\n".join(map(json.dumps, rows[:4])), suffix=".jsonl"))
    assert data.labels == ("0", "1")
    assert (
        "train.jsonl: the class is a number in 20 items and a text in 20; equal spellings are one class" in data.notes
    )


def test_equal_numbers_have_one_order_whatever_the_seed_of_hashes(files):
    rows = [(f"item {index}", ("01", "1", "2")[index % 3]) for index in range(30)]
    config = files(comma(rows), comma(rows[:6]))
    code = (
        "import sys; from lora_bench.config.schema import FilesConfig; from lora_bench.tasks import load_task\n"
        "print(load_task(FilesConfig(train=sys.argv[1], eval=sys.argv[1])).labels)"
    )
    said = set()
    for seed in range(6):
        command = [sys.executable, "-c", code, config.train]
        environment = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        said.add(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert said == {"('01', '1', '2')\n"}
    assert "classes '01', '1' differ in spelling alone and are 2 classes; is it one?" in notes_of(config)


def test_negative_numbers_and_fractions_are_ordered_as_numbers(files):
    rows = [(f"item {index}", ("-1", "10", "-10", "2.5")[index % 4]) for index in range(40)]
    assert load_task(files(comma(rows), comma(rows[:4]))).labels == ("-10", "-1", "2.5", "10")


SUMS = [("Add one.", str(number), str(number + 1)) for number in range(20)]


@pytest.mark.parametrize("fields", [{}, {"prompt": "instruction", "response": "output"}, {"prompt": "instruction"}])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_alpaca_keeps_its_input(files, fields, suffix):
    content = lines(SUMS, "instruction", "input", "output")
    if suffix == ".json":
        content = f"[{','.join(content.splitlines())}]"
    data = load_task(files(content, content, suffix=suffix, **fields))
    assert data.kind is TaskKind.generation
    assert [(item.text, item.response) for item in data.train[:2]] == [("Add one.\n0\n", "1"), ("Add one.\n1\n", "2")]
    assert "columns used: prompt = instruction, input = input, response = output" in data.notes


def test_an_empty_input_leaves_the_prompt_alone_and_one_that_is_left_out_is_told(files):
    content = lines([("Say one.", "", "1"), ("Add one.", None, "2")], "instruction", "input", "output")
    data = load_task(files(content, content, suffix=".jsonl"))
    assert [item.text for item in data.train] == ["Say one.\n", "Add one.\n"]
    rows = lines([(*row, "x") for row in SUMS], "q", "where", "a", "source")
    notes = notes_of(files(rows, rows, suffix=".jsonl", prompt="q", response="a"))
    assert "columns used: prompt = q, response = a; left out: where, source" in notes
    # Without its input every prompt is the same, and has every answer.
    assert "1 prompt has several responses (60 items), such as 'Add one.'" in notes
    assert "19 of 20 train prompts repeat another" in notes


@pytest.mark.parametrize("names", [("prompt", "completion"), ("question", "answer"), ("prompt", "response")])
def test_prompts_and_responses_under_usual_names_as_texts_or_numbers(files, names):
    rows = [(f"What is {number} plus 0?", number) for number in range(20)]
    content = lines(rows, *names)
    data = load_task(files(content, content, suffix=".jsonl"))
    assert [(item.text, item.response) for item in data.train[:2]] == [
        ("What is 0 plus 0?\n", "0"),
        ("What is 1 plus 0?\n", "1"),
    ]
    as_csv = comma([(prompt, str(number)) for prompt, number in rows], ",".join(names))
    assert load_task(files(as_csv, as_csv)).digest == data.digest


CHAT = [
    [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": f"What is {number}+1?"},
        {"role": "assistant", "content": str(number + 1)},
    ]
    for number in range(20)
]


def test_conversations_have_their_last_answer_as_response(files):
    content = lines([(turns,) for turns in CHAT], "messages")
    data = load_task(files(content, content, suffix=".jsonl"))
    assert data.kind is TaskKind.generation
    assert data.train[3].text == "System: You are terse.\nUser: What is 3+1?\nAssistant:\n"
    assert data.train[3].response == "4"
    assert data.train[3].messages == (("system", "You are terse."), ("user", "What is 3+1?"))
    roles = {"system": "system", "user": "human", "assistant": "gpt"}
    shared = [[{"from": roles[turn["role"]], "value": turn["content"]} for turn in turns] for turns in CHAT]
    content = lines([(turns,) for turns in shared], "conversations")
    assert load_task(files(content, content, suffix=".jsonl")).digest == data.digest
    # A CSV file holds their JSON.
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["messages", "x"], *([json.dumps(turns), "1"] for turns in CHAT)])
    with_csv = buffer.getvalue()
    assert load_task(files(with_csv, with_csv)).digest == data.digest


def test_conversations_without_an_answer_are_refused_with_their_lines(files):
    bad = [CHAT[0], CHAT[1][:2], CHAT[2][:2], [], "hello", [{"role": "robot", "content": "x"}]]
    found = problems(
        files(lines([(turns,) for turns in bad], "messages"), lines([(CHAT[0],)], "messages"), suffix=".jsonl")
    )
    assert (
        "lines 2, 3: a conversation that ends with 'user', not with an answer of the assistant as messages" in found[0]
    )
    assert "line 4: a conversation without turns" in found[1]
    assert "line 5: a value that is not a list of turns" in found[2]
    assert "line 6: a turn with the role 'robot'; roles: system, user, assistant, tool" in found[3]


@pytest.mark.parametrize(
    ("value", "spelt"), [(1.0, "1.0"), (1.5, "1.5"), (True, "true"), (1, "1"), (-1, "-1"), ("a", "a")]
)
def test_the_same_value_is_the_same_class_in_every_format(files, value, spelt):
    rows = [(text, value if label == "pos" else "other") for text, label in ITEMS]
    content = lines(rows, "text", "label")
    data = load_task(files(content, content, suffix=".jsonl"))
    assert set(data.labels) == {spelt, "other"}
    as_csv = comma([(text, str(label)) for text, label in rows])
    assert load_task(files(as_csv, as_csv)).digest == data.digest
    table = pyarrow.table({"text": [text for text, _ in rows], "label": [str(label) for _, label in rows]})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    packed = sink.getvalue().to_pybytes()
    assert load_task(files(packed, packed, suffix=".parquet")).digest == data.digest


def test_a_text_that_is_a_number_is_read_in_every_format(files):
    rows = [(number, "even" if number % 2 == 0 else "odd") for number in range(20)]
    content = lines(rows, "text", "label")
    data = load_task(files(content, content, suffix=".jsonl"))
    assert data.train[7].text == "7"
    as_csv = comma([(str(number), label) for number, label in rows])
    assert load_task(files(as_csv, as_csv)).digest == data.digest


@pytest.mark.parametrize("names", ["premise,hypothesis,label", "sentence1,sentence2,label", "question,sentence,label"])
def test_two_texts(files, names):
    rows = [(f"one {number}", f"other {number}", ("yes", "no")[number % 2]) for number in range(20)]
    data = load_task(files(comma(rows, names), comma(rows, names)))
    assert [(item.text, item.text_pair, item.label) for item in data.train[:2]] == [
        ("one 0", "other 0", 1),
        ("one 1", "other 1", 0),
    ]
    first, second, _ = names.split(",")
    assert f"columns used: text = {first}, text_pair = {second}, label = label" in data.notes
    half = [(f"one {number}", label) for number, (_, _, label) in enumerate(rows)]
    assert load_task(files(comma(half), comma(half))).digest != data.digest


def test_conflicts_repeats_and_overlap_are_counted_over_both_texts(files):
    same = [("same again", "x y", label) for label in ("yes", "no", "no")]
    rows = [*same, *((f"same {number}", "x y", "yes") for number in range(9))]
    notes = notes_of(files(comma(rows, "text1,text2,label"), comma(rows[:4], "text1,text2,label")))
    assert "2 of 12 train texts repeat another" in notes
    assert "1 text has several classes (9 items), such as 'same again | x y'" in notes
    assert "4 of 4 test texts also stand in train" in notes
    assert "4 of 4 test texts also stand in validation" in notes


def test_index_columns_and_usual_names(files):
    indexed = comma([(str(index), *row) for index, row in enumerate(ITEMS)], ",text,label")
    data = load_task(files(indexed, indexed))
    assert "columns used: text = text, label = label; left out: (no name)" in data.notes
    named = comma(ITEMS, "review,sentiment")
    assert "columns used: text = review, label = sentiment" in notes_of(files(named, named))
    reversed_rows = [row[::-1] for row in ITEMS]
    spam = comma(reversed_rows, "v1,v2")
    assert load_task(files(spam, spam)).digest == data.digest


def test_compressed_and_under_a_name_without_ending(files):
    packed = gzip.compress(comma(ITEMS).encode())
    data = load_task(files(packed, packed, suffix=".csv.gz"))
    assert len(data.train) == 40
    reversed_rows = comma([row[::-1] for row in ITEMS], separator="\t").split("\n", 1)[1]
    found = load_task(files(reversed_rows, reversed_rows, suffix=""))
    assert found.digest == data.digest
    assert "columns used: text = column 2, label = column 1" in found.notes


def test_a_damaged_encoding_and_broken_quotes_name_the_line_the_byte_and_the_remedy(files):
    content = comma([(f"{text} Müller\u2019s", label) for text, label in ITEMS[:3]]).encode("cp1252")
    found = problems(files(content, content))[0]
    assert "line 2, byte 16 is 0xfc, not UTF-8; save the file as UTF-8" in found
    apostrophe = comma([(f"{text} M\u2019s", label) for text, label in ITEMS[:3]]).encode("cp1252")
    assert (
        "line 2, byte 16 is 0x92, not UTF-8; save the file as UTF-8 (in Windows-1252 it is an apostrophe: iconv -f"
        in (problems(files(apostrophe, apostrophe))[0])
    )
    quotes = comma([(f'he said "{text}", ok', label) for text, label in ITEMS])
    assert (
        'lines 2, 3, 4 and 37 more: 3 cells, but line 1 has 2 (he said "good film 1-0", ok,pos)'
        in (problems(files(quotes, quotes))[0])
    )
    returns = comma(ITEMS).replace("\n", "\r")
    assert len(load_task(files(returns, returns)).train) == 40


def test_validation_is_a_seeded_part_of_train_that_shares_no_text_with_it(files):
    repeated = [*ITEMS, *ITEMS[:10], ("good film 1-0", "neg")]
    config = files(comma(repeated), comma(HELD_OUT), has_validation=False)
    data = load_task(config)
    assert (len(data.train) + len(data.validation), len(data.validation)) == (51, 5)
    assert not {item.text for item in data.train} & {item.text for item in data.validation}
    assert {item.label for item in data.validation} == {0, 1}
    assert load_task(config) == data
    (note,) = [note for note in data.notes if note.startswith("validation: ")]
    assert note.startswith("validation: 5 of the 51 items of task.train, drawn by task.split_seed and not trained on")
    # Another number of training items leaves validation as it is.
    config.num_train = 20
    assert load_task(config).validation == data.validation
    config.split_seed = 1
    assert load_task(config).validation != data.validation
    config.num_validation = 8
    assert len(load_task(config).validation) == 8


def test_validation_has_an_item_for_each_class_and_leaves_one_to_train_on(files):
    rows = [(f"item {number}", f"class {number % 9}") for number in range(20)]
    data = load_task(files(comma(rows), comma(rows[:1]), has_validation=False))
    assert len(data.validation) == 9
    assert {item.label for item in data.train} == set(range(9))
    config = files(comma(ITEMS[:2]), comma(HELD_OUT), has_validation=False)
    with pytest.raises(TaskError, match=r"task.validation: not set, and the 2 items of task.train leave none for it"):
        load_task(config)


def test_a_class_of_validation_that_train_lacks_is_refused(files, tmp_path):
    config = files(comma(ITEMS), comma(HELD_OUT))
    (tmp_path / "dev.csv").write_text(comma([("a", "posi"), ("b", "neg")]))
    with pytest.raises(TaskError, match=r"task.validation: .*dev.csv line 2: class 'posi' is not in task.train \(did"):
        load_task(config)


def test_files_that_changed_since_the_run_began_are_refused(files, tmp_path):
    config = files(comma(ITEMS), comma(HELD_OUT))
    settle_files(config)
    assert load_task(config).labels == ("neg", "pos")
    # Moved, it is the same data.
    (tmp_path / "moved").mkdir()
    for split in ("train", "validation", "eval"):
        setattr(config, split, str(shutil.copy(getattr(config, split), tmp_path / "moved" / f"{split}.csv")))
    before = load_task(config)
    (tmp_path / "moved" / "eval.csv").write_text(comma(HELD_OUT[1:]))
    (found,) = problems(config)
    assert "eval.csv: not what this run began with (then sha256:" in found
    assert "bring the files back, or start the same command again, which makes a run of its own" in found
    config.content_digest = None
    assert load_task(config).digest != before.digest


def test_one_column_and_names_of_300_characters_are_told_short(files):
    (found,) = problems(files("text\na\nb\n", "text\na\n"))
    assert found.startswith("task.label: ")
    assert "has one column, 'text'; add a column with the class, or set task.separator" in found
    assert "is one line without a separator; give one item per row" in problems(files("x" * 3_000_000, "a,b"))[0]
    long = "n" * 300
    found = problems(files(comma([("a", "b", "c")], f"{long},y,z"), comma([("a", "b", "c")], f"{long},y,z")))
    assert all(len(problem) < 400 for problem in found)
    assert f"give one of: {'n' * 40}..., y, z" in found[0]


@pytest.mark.parametrize("path", ["\udcff.csv", "\ud800/x.csv"])
def test_paths_that_are_no_unicode_are_faults_that_can_be_printed(path):
    found = problems(FilesConfig(train=path, eval=path))
    assert all("holds characters that no portable file name has" in problem and problem.isascii() for problem in found)


def test_progress_is_told_by_split(files):
    told = []
    load(files(comma(ITEMS), comma(HELD_OUT)), tell=lambda *said: told.append(said))
    assert {split for split, _, _ in told} == {"train", "validation", "eval"}
