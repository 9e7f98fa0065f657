"""Studies with real processes and real signals, at seeded random moments.

Oracle: the set of trials that were asked for. Each is on disk once, in Optuna once, in the study's list once, and none
is left running. The runs pretend to train, so that many kills fit into a minute; runs that train are killed in
`test_controller.py` and `tests/execution/`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lora_bench import rundir
from lora_bench.rundir import find_run_dirs
from lora_bench.search.storage import open_storage
from lora_bench.search.studydir import find_study_dirs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "pretend_study.py"
RATE = "training.lr=tag(log,interval(1e-5,1e-1))"


@pytest.fixture
def words(tmp_path, cache):
    """What every study here has in common."""
    return [
        "model=tiny",
        "task.num_train=64",
        "task.num_eval=32",
        "training.max_steps=20",
        "training.eval_every=5",
        "training.checkpoint_every=5",
        "training.log_every=1",
        "tracking=none",
        "executor.threads_per_run=1",
        f"paths.root={tmp_path}/root",
        f"paths.cache={cache}",
    ]


def start(words, **options):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )


def finish(words, *, code=0):
    process = start(words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == code, out
    return out


def statuses(tmp_path):
    found = [json.loads(run.result.read_text())["status"] for run in find_run_dirs(tmp_path / "root")]
    return Counter(found)


def optuna_trials(tmp_path):
    import optuna

    (directory,) = find_study_dirs(tmp_path / "root")
    storage = open_storage(None, directory.journal)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).get_trials() for name in names}


def check_each_once(tmp_path, *, num_trials, num_seeds=1):
    """The oracle of a search with a baseline."""
    (directory,) = find_study_dirs(tmp_path / "root")
    lines = directory.read_trials()
    runs = [name for line in lines for name in line.runs]
    on_disk = [run.path.name for run in find_run_dirs(tmp_path / "root")]
    assert len(set(runs)) == len(runs)
    assert sorted(runs) == sorted(on_disk)
    assert len(on_disk) == 2 * num_trials * num_seeds
    assert set(statuses(tmp_path)) <= {"finished", "pruned", "diverged", "oom", "failed"}
    assert sum(statuses(tmp_path).values()) == len(on_disk)
    arms = optuna_trials(tmp_path)
    assert len(arms) == 2
    for trials in arms.values():
        assert [trial.state.name for trial in trials].count("RUNNING") == 0
        counted = [trial for trial in trials if "duplicate_of" not in trial.user_attrs]
        assert len(counted) == num_trials
        points = [json.dumps(trial.params, sort_keys=True) for trial in counted]
        assert len(set(points)) == len(points)
    assert not list((tmp_path / "root").rglob(f"result.json{rundir.TEMPORARY_MARK}*"))


def kill_at_random_moments(words, tmp_path, *, num_kills, seed):
    moments, num_in_the_middle = random.Random(seed), 0
    for index in range(num_kills):
        process = start(words)
        if index % 4 < 3:
            _wait_for_a_run(tmp_path, process)
        # In the middle of runs; every fourth time while the study is being taken up.
        time.sleep(moments.random())
        process.kill()
        process.communicate()
        num_in_the_middle += any(not run.result.exists() for run in find_run_dirs(tmp_path / "root"))
    assert num_in_the_middle >= 1, "no kill hit a run"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_sigkill_of_the_controller_then_the_same_command(words, tmp_path, seed):
    words = [*words, RATE, "lora.r=1,4", "study.n_trials=5", "study.n_jobs=2", "study.seeds=[0,1]"]
    words.append("training.max_steps=60")
    kill_at_random_moments(words, tmp_path, num_kills=4 if seed == 0 else 15, seed=seed)
    finish(words)
    check_each_once(tmp_path, num_trials=5, num_seeds=2)
    out = finish(words)
    assert "20 runs, 20 recorded already, 0 to do" in out


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_sigkill_of_runs_at_random_moments(words, tmp_path, seed):
    moments = random.Random(seed)
    words = [*words, RATE, "study.n_trials=5", "study.n_jobs=2", "training.max_steps=60"]
    process, num_kills = start(words), 0
    while process.poll() is None and num_kills < (5 if seed == 0 else 8):
        time.sleep(0.3 + 0.5 * moments.random())
        held = [run for run in find_run_dirs(tmp_path / "root") if run.is_held()]
        for run in moments.sample(held, min(1, len(held))):
            # One life is left to each run, so that none reaches the limit of retries.
            if (run.path / "killed").exists():
                continue
            (run.path / "killed").touch()
            os.kill(int(run.read_status()["pid"]), signal.SIGKILL)
            num_kills += 1
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert num_kills >= 1
    assert out.count("killed by signal 9") == num_kills
    check_each_once(tmp_path, num_trials=5)
    for run in find_run_dirs(tmp_path / "root"):
        steps = [line["step"] for line in rundir.read_lines(run.metrics) if "train/loss" in line["metrics"]]
        assert steps == list(range(1, 61)), run.path


def test_runs_that_go_wrong_are_recorded_as_what_they_are(words, tmp_path):
    words = [*words, "lora.r=2", "seed=0,101,102,103,104,105,106", "study.baseline=null", "study.n_jobs=4"]
    out = finish([*words, "executor.hang_min=0.02"], code=1)
    found = {
        json.loads(run.result.read_text())["provenance"]["seed"]: json.loads(run.result.read_text())
        for run in find_run_dirs(tmp_path / "root")
    }
    assert {seed: record["status"] for seed, record in found.items()} == {
        0: "finished",
        101: "diverged",
        102: "failed",
        103: "oom",
        104: "failed",
        105: "failed",
        106: "failed",
    }
    assert "hung: nothing new from it for 0.02 min" in found[104]["error"]
    assert "its process ended without a result" in found[105]["error"]
    assert "killed by signal 9 (often the kernel, out of memory)" in found[106]["error"]
    assert "retry 2 of 2" in out


def test_a_search_learns_from_bad_ends_and_goes_on(words, tmp_path):
    words = [*words, RATE, "study.n_trials=3", "study.seeds=[101,0]", "study.baseline=null"]
    out = finish(words)
    assert "3 diverged, 3 spared" in out
    (trials,) = optuna_trials(tmp_path).values()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert all(trial.constraints["status"] == 1.0 for trial in trials)
    assert all(trial.values == [float("-inf")] for trial in trials)


def test_a_second_controller_is_told_who_holds_the_study(words, tmp_path):
    words = [*words, RATE, "study.n_trials=3", "training.max_steps=100"]
    first = start(words)
    _wait_for_a_run(tmp_path, first)
    out = finish(words, code=2)
    assert f"process {first.pid} on " in out
    assert "end it with `lora-bench stop" in out
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130


def test_another_question_under_the_same_name_is_refused(words, tmp_path):
    words = [*words, "study.name=mine", "study.n_trials=2"]
    finish([*words, "training.lr=interval(1e-4,1e-2)", "study.baseline=null"])
    before = sorted((tmp_path / "root").rglob("*"))
    out = finish([*words, "training.lr=interval(1e-4,1e-3)", "study.baseline=null", "training.batch_size=4"], code=2)
    assert "study mine: on record with another question" in out
    assert "arms.own.space.training.lr: was interval(1e-4,1e-2), now interval(1e-4,1e-3)" in out
    assert "arms.own.base: was [], now ['training.batch_size=4']" in out
    assert sorted((tmp_path / "root").rglob("*")) == before
    more = finish([*words, "training.lr=interval(1e-4,1e-2)", "study.baseline=null", "study.n_trials=3"])
    assert "3 runs, 2 recorded already, 1 to do" in more


@pytest.mark.parametrize("file", ["journal.log", "trials.jsonl"])
def test_a_torn_tail_is_cut_off(words, tmp_path, file):
    words = [*words, RATE, "study.n_trials=3"]
    finish(words)
    (directory,) = find_study_dirs(tmp_path / "root")
    path = directory.path / file
    with open(path, "ab") as log:
        log.write(path.read_bytes().splitlines()[-1][:17])
    finish([*words, "study.n_trials=5"])
    check_each_once(tmp_path, num_trials=5)


def test_a_lost_journal_is_made_again(words, tmp_path):
    words = [*words, RATE, "study.n_trials=3"]
    finish(words)
    before = {name: [trial.params for trial in trials] for name, trials in optuna_trials(tmp_path).items()}
    (directory,) = find_study_dirs(tmp_path / "root")
    directory.journal.unlink()
    out = finish(words)
    assert "Optuna's study made again from 3 trials" in out
    after = {name: [trial.params for trial in trials] for name, trials in optuna_trials(tmp_path).items()}
    assert after == before
    check_each_once(tmp_path, num_trials=3)


def test_ctrl_c_twice_ends_the_runs_now(words, tmp_path):
    words = [*words, RATE, "study.n_trials=3", "training.max_steps=3000", "training.checkpoint_every=0"]
    process = start(words)
    _wait_for_a_run(tmp_path, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert not [run for run in find_run_dirs(tmp_path / "root") if run.is_held()]


def test_a_folder_that_cannot_be_written_says_so(words):
    out = finish([*words[:-2], "paths.root=/proc/nowhere", "lora.r=1,2"], code=2)
    assert "/proc/nowhere" in out
    assert "Traceback" not in out


def _wait_for_a_run(tmp_path, process):
    """Until a run is under way, or the study has ended."""
    end = time.monotonic() + 60
    while process.poll() is None and not any(run.is_held() for run in find_run_dirs(tmp_path / "root")):
        assert time.monotonic() < end, "no run began"
        time.sleep(0.02)
