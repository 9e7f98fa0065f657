"""Oracle: the files of synthetic run directories."""

from __future__ import annotations

import subprocess
import sys

from support.synthetic_runs import finished_run, rank_grid, start_run, synthetic_config

from lora_bench.report.load import flat, load_records


def test_states_are_those_of_the_directories(tmp_path):
    done = finished_run(tmp_path, synthetic_config())
    dead = start_run(tmp_path, synthetic_config(seed=1))
    waiting = start_run(tmp_path, synthetic_config(seed=2))
    waiting.status.unlink()
    live = start_run(tmp_path, synthetic_config(seed=3))
    with live.hold():
        records, problems = load_records([done, dead, waiting, live])
    assert [record.state for record in records] == ["finished", "interrupted", "waiting", "running"]
    assert [record.seed for record in records] == [0, 1, 2, 3]
    assert problems == []


def test_a_damaged_run_is_told_and_the_others_are_read(tmp_path):
    runs = rank_grid(tmp_path)
    runs[0].result.write_text("{")
    runs[1].config.write_text(": : :")
    records, problems = load_records(runs)
    assert len(records) == 3
    assert [run.path.name in problem for run, problem in zip(runs, problems, strict=False)] == [True, True]


def test_keys_are_dotted_as_users_type_them():
    assert flat({"lora": {"r": 8, "deep": {"x": None}}, "seed": 0}) == {"lora.r": 8, "lora.deep.x": None, "seed": 0}


def test_a_report_imports_nothing_heavy():
    code = (
        "import sys, lora_bench.report;"
        "print(sorted({'torch', 'transformers', 'mlflow', 'scipy', 'pandas', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
