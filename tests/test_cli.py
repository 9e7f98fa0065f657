"""Oracles: exit codes, the text and JSON that a user sees, the clock, and the modules that were imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from support.recorded_studies import rank_study
from support.synthetic_runs import finished_run, rank_grid, start_run, synthetic_config

from lora_bench import cli
from lora_bench.config.resolve import config_digest

COMMAND = [sys.executable, "-m", "lora_bench.cli"]


def test_help_names_every_command_at_once_and_imports_nothing_heavy():
    code = (
        "import sys; from lora_bench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'mlflow', 'hydra', 'yaml', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("runs", "report", "dashboard", "sync", "doctor"):
        assert f"\n    {command} " in done.stdout or f"\n    {command}\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reprot"], r"unknown command 'reprot' \(did you mean 'report'\?\); commands: runs, report"),
        (["qqq"], r"unknown command 'qqq'; commands: runs, report"),
        (["runs", "--jsn"], r"lora-bench runs: unknown word '--jsn' \(did you mean '--json'\?\)"),
        (["report", "--markdwon=1"], r"unknown word '--markdwon=1' \(did you mean '--markdown'\?\)"),
        (["runs", "outputs"], r"unknown word 'outputs'; see lora-bench runs --help"),
        (["report", "--margin", "x"], r"argument --margin: 'x' is not a number above 0; 0.01 of an accuracy is usual"),
        (["report", "--margin", "-1"], r"argument --margin: '-1' is not a number above 0"),
        (["dashboard", "--port", "abc"], r"argument --port: invalid int value: 'abc'"),
    ],
)
def test_a_word_that_is_nearly_right_is_named(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("paths.root=other", "give --root other"),
        ("executor.partition=gpu", "give --cluster before it, or leave it out"),
    ],
)
def test_a_key_that_doctor_does_not_read_leads_to_its_option(word, remedy, capsys):
    assert cli.main(["doctor", word]) == cli.EXIT_USAGE
    assert f"'{word}' is read with --cluster only; {remedy}" in capsys.readouterr().err


def test_no_command_shows_help(capsys):
    assert cli.main([]) == cli.EXIT_USAGE
    assert "COMMAND" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("lora-bench 0.")


@pytest.mark.parametrize("command", ["runs", "report", "sync", "dashboard"])
def test_a_root_that_is_not_there_is_said_so(command, tmp_path, capsys):
    assert cli.main([command, "--root", str(tmp_path / "nowhere")]) == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert "--root:" in error
    assert "nowhere does not exist; give the folder of the runs" in error
    (tmp_path / "file").write_text("")
    assert cli.main([command, "--root", str(tmp_path / "file")]) == cli.EXIT_USAGE
    assert "file is not a folder" in capsys.readouterr().err


def test_runs_as_json_have_path_status_digest_and_headline(tmp_path, capsys):
    config = synthetic_config(r=4)
    done = finished_run(tmp_path, config, name="a")
    start_run(tmp_path, synthetic_config(seed=1), name="b")
    live = start_run(tmp_path, synthetic_config(seed=2), name="c")
    with live.hold():
        assert cli.main(["runs", "--root", str(tmp_path), "--json"]) == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert first["path"] == str(done.path)
    assert [first["status"], second["status"], third["status"]] == ["finished", "interrupted", "running"]
    assert first["config_digest"] == config_digest(config) == done.read_result().config_digest
    assert second["config_digest"] == config_digest(synthetic_config(seed=1))
    assert first["headline"] == "accuracy"
    assert first["ci_low"] < first["value"] < first["ci_high"]
    assert first["r"] == 4
    assert second["value"] is None


def test_runs_as_text_are_columns_whose_last_is_the_name_or_on_request_the_folder(tmp_path, capsys, monkeypatch):
    runs = rank_grid(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["runs", "--root", "."]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["status", "step", "score", "what", "run"]
    assert {line.split()[-1] for line in lines} == {run.path.name for run in runs}
    assert any("  lora r=64 lr 2e-3 s0  " in line for line in lines)
    assert cli.main(["runs", "--root", ".", "--paths"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert all((tmp_path / line.split()[-1]).is_dir() for line in lines)


def test_runs_and_reports_are_of_a_study_alone(tmp_path, capsys):
    rank_study(tmp_path)
    finished_run(tmp_path, synthetic_config(r=64, lr=1e-4), name="other")
    assert cli.main(["runs", "--root", str(tmp_path), "--study", "ranks", "--method", "full", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["study"], entry["label"]) for entry in entries] == [
        ("run-4", "ranks", "full lr 1e-4 s0"),
        ("run-5", "ranks", "full lr 3e-4 s0"),
    ]
    assert cli.main(["report", "--root", str(tmp_path), "--study", "ranks", "--sort", "lr"]) == 0
    out = capsys.readouterr().out
    assert "LoRA r=64" not in out
    assert [line.split("|")[2].split(",")[1].strip() for line in out.splitlines() if line.startswith("| LoRA")] == [
        "lr 0.0005",
        "lr 0.0005",
        "lr 0.002",
        "lr 0.002",
    ]
    assert cli.main(["report", "--root", str(tmp_path), "--study", "rank"]) == 1
    assert "no study 'rank'" in (err := capsys.readouterr().err)
    assert "(did you mean 'ranks'?)" in err
    assert cli.main(["report", "--root", str(tmp_path), "--status", "oom"]) == cli.EXIT_USAGE
    assert "none of the 7 runs" in capsys.readouterr().err


def test_nothing_folds_in_a_pipe(tmp_path):
    rank_study(tmp_path, text="Which rank " * 20 + "does LoRA need?", name="a-long-name-" * 8)
    environment = {**os.environ, "COLUMNS": "40"}
    for words in (["study", "a-long-name-" * 8], ["studies"], ["runs"], ["report"]):
        done = subprocess.run(
            [*COMMAND, *words, "--root", str(tmp_path)], capture_output=True, text=True, check=True, env=environment
        )
        if words[0] == "runs":
            assert [line.split()[-1] for line in done.stdout.splitlines()] == ["run", *(f"run-{n}" for n in range(6))]
            continue
        assert max(map(len, done.stdout.splitlines())) > 80
        if words[0] == "study":
            assert "Which rank " * 20 + "does LoRA need?" in done.stdout
            (head,) = [line for line in done.stdout.splitlines() if line.startswith("method  trial")]
            assert head.split() == ["method", "trial", "status", "lora.r", "training.lr", "eval/accuracy"]


def test_a_run_may_be_named_by_its_place_in_a_study(tmp_path, capsys):
    rank_study(tmp_path, num_finished=0)
    words = ["merge", "best:ranks", "--out", str(tmp_path / "out"), "--root", str(tmp_path)]
    assert cli.main(words) == cli.EXIT_USAGE
    assert "'best:ranks': none of its 4 trials has finished with eval/accuracy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_run_is_told_apart_from_the_list(tmp_path, capsys):
    runs = rank_grid(tmp_path)
    runs[0].result.write_text("{")
    assert cli.main(["runs", "--root", str(tmp_path), "--json"]) == cli.EXIT_FAILED
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 4
    assert runs[0].path.name in err


def test_a_report_is_markdown_in_a_pipe_and_data_on_request(tmp_path, capsys):
    rank_grid(tmp_path)
    assert cli.main(["report", "--root", str(tmp_path)]) == 0
    piped = capsys.readouterr().out
    assert cli.main(["report", "--root", str(tmp_path), "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == piped.strip()
    assert piped.count("| LoRA r=") == 4
    assert cli.main(["report", "--root", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tables"][0]["rows"]) == 5


def test_an_empty_root_is_no_error(tmp_path, capsys):
    assert cli.main(["report", "--root", str(tmp_path)]) == 0
    assert "No run has been recorded here yet" in capsys.readouterr().out
    assert cli.main(["runs", "--root", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_sync_that_cannot_be_says_what_is_behind(tmp_path, capsys):
    rank_grid(tmp_path)
    words = ["sync", "--root", str(tmp_path), "--uri", "http://user:secret@127.0.0.1:9"]
    assert cli.main(words) == cli.EXIT_FAILED
    out, err = capsys.readouterr()
    assert "0 of 5 runs had news for http://user:***@127.0.0.1:9; 5 behind" in out
    assert "127.0.0.1:9 does not answer" in err
    assert cli.main([*words, "--json"]) == cli.EXIT_FAILED
    out = capsys.readouterr().out
    assert len(json.loads(out)["behind"]) == 5
    assert "secret" not in out


def test_a_sync_writes_what_is_new(tmp_path, capsys):
    rank_grid(tmp_path)
    for expected in (5, 0):
        assert cli.main(["sync", "--root", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["num_written"] == expected


def test_a_dashboard_refuses_a_port_before_it_does_anything(tmp_path, capsys):
    assert cli.main(["dashboard", "--root", str(tmp_path), "--port", "70000"]) == cli.EXIT_FAILED
    assert "TrackingError: --port: 70000 is no port" in capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    for seed in range(40):
        finished_run(tmp_path, synthetic_config(seed=seed), name=f"run-{seed}")
    process = subprocess.Popen(
        [*COMMAND, "runs", "--root", str(tmp_path), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(20) == 0
