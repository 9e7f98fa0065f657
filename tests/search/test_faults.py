"""Studies with real processes and real signals, at seeded random moments.

Oracle: the set of trials that were asked for. Each is on disk once, in Optuna once, in MLflow once, in the study's list
once, and none is left running. The runs pretend to train, so that many kills fit into a minute; runs that train are
killed in `test_controller.py` and `tests/execution/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import psutil
import pytest
from support.studies import RATE, PretendedStudy
from support.watching import wait_until

from lora_bench import rundir
from lora_bench.cli import main


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_sigkill_of_the_controller_then_the_same_command(study, seed):
    words = [RATE, "lora.r=1,4", "study.n_trials=5", "study.n_jobs=2", "study.seeds=[0,1]"]
    words.append("training.max_steps=60")
    study.kill_at_random_moments(*words, num_kills=4 if seed == 0 else 15, seed=seed)
    study.finish(*words)
    study.check_each_once(num_trials=5, num_seeds=2)
    out = study.finish(*words)
    assert "20 runs, 20 recorded already, 0 to do" in out


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_sigkill_of_runs_at_random_moments(study, seed):
    moments = random.Random(seed)
    words = [RATE, "study.n_trials=5", "study.n_jobs=2", "training.max_steps=60"]
    process, num_kills = study.start(*words), 0
    while process.poll() is None and num_kills < (5 if seed == 0 else 8):
        time.sleep(0.3 + 0.5 * moments.random())
        # A run is held a moment before its status says by whom.
        held = [run for run in study.runs() if run.is_held() and run.status.exists()]
        for run in moments.sample(held, min(1, len(held))):
            # One life is left to each run, so that none reaches the limit of retries.
            if (run.path / "killed").exists():
                continue
            (run.path / "killed").touch()
            os.kill(int(run.read_status()["pid"]), signal.SIGKILL)
            num_kills += 1
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    # One that hit a run between its result and its end is none.
    assert 1 <= out.count("killed by signal 9") <= num_kills
    study.check_each_once(num_trials=5)
    for run in study.runs():
        steps = [line["step"] for line in rundir.read_lines(run.metrics) if "train/loss" in line["metrics"]]
        assert steps == list(range(1, 61)), run.path


def test_runs_that_go_wrong_are_recorded_as_what_they_are(study):
    words = ["lora.r=2", "seed=0,101,102,103,104,105,106", "study.baseline=null", "study.n_jobs=4"]
    out = study.finish(*words, "executor.hang_min=0.02", code=1)
    found = {
        json.loads(run.result.read_text())["provenance"]["seed"]: json.loads(run.result.read_text())
        for run in study.runs()
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


def test_a_search_learns_from_bad_ends_and_goes_on(study):
    words = [RATE, "study.n_trials=3", "study.seeds=[101,0]", "study.baseline=null"]
    out = study.finish(*words)
    assert "3 diverged, 3 spared" in out
    (trials,) = study.optuna_trials().values()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert all(trial.constraints["status"] == 1.0 for trial in trials)
    assert all(trial.values == [float("-inf")] for trial in trials)


def test_a_second_controller_is_told_who_holds_the_study(study):
    words = [RATE, "study.n_trials=3", "training.max_steps=3000"]
    first = study.start(*words)
    study.wait_for_a_run(first)
    out = study.finish(*words, code=1)
    assert f"process {first.pid} on " in out
    assert "end it with `lora-bench stop" in out
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130


def test_of_two_controllers_that_start_at_once_one_carries_the_study_out(study):
    words = [RATE, "study.n_trials=3", "training.max_steps=300"]
    both = [study.start(*words) for _ in range(2)]
    outs = [process.communicate(timeout=300)[0] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 1], outs
    refused, other = codes.index(1), codes.index(0)
    assert f"process {both[other].pid} on " in outs[refused]
    study.check_each_once(num_trials=3)


def test_a_study_takes_over_the_run_that_it_shares_with_one_that_is_killed(study):
    words = ["lora.r=2", "study.baseline=null", "training.max_steps=800", "training.checkpoint_every=0"]
    first = study.start(*words, "study.name=first")
    study.wait_for_a_run(first)
    second = study.start(*words, "study.name=second")
    end = time.monotonic() + 60
    while not (study.root / "studies" / "second" / "lock").exists():
        assert time.monotonic() < end, "the second controller never began"
        time.sleep(0.02)
    time.sleep(0.5)  # it has come to the run, and waits for it
    first.kill()
    first.communicate(timeout=60)
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0, out
    assert "retry" not in out
    (run,) = study.runs()
    assert study.statuses() == {"finished": 1}
    steps = [line["step"] for line in rundir.read_lines(run.metrics) if "train/loss" in line["metrics"]]
    assert steps == list(range(1, 801))


def test_another_question_under_the_same_name_is_refused(study):
    words = ["study.name=mine", "study.n_trials=2"]
    study.finish(*words, "training.lr=interval(1e-4,1e-2)", "study.baseline=null")
    before = sorted(study.root.rglob("*"))
    out = study.finish(
        *words, "training.lr=interval(1e-4,1e-3)", "study.baseline=null", "training.batch_size=4", code=1
    )
    assert "study mine: on record with another question" in out
    assert "arms.own.space.training.lr: was interval(1e-4,1e-2), now interval(1e-4,1e-3)" in out
    assert "arms.own.base: was [], now ['training.batch_size=4']" in out
    assert sorted(study.root.rglob("*")) == before
    more = study.finish(*words, "training.lr=interval(1e-4,1e-2)", "study.baseline=null", "study.n_trials=3")
    assert "3 runs, 2 recorded already, 1 to do" in more


@pytest.mark.parametrize("file", ["journal.log", "trials.jsonl"])
def test_a_torn_tail_is_cut_off(study, file):
    words = [RATE, "study.n_trials=3"]
    study.finish(*words)
    path = study.directory.path / file
    with open(path, "ab") as log:
        log.write(path.read_bytes().splitlines()[-1][:17])
    study.finish(*words, "study.n_trials=5")
    study.check_each_once(num_trials=5)


def test_a_lost_journal_is_made_again(study):
    words = [RATE, "study.n_trials=3"]
    study.finish(*words)
    before = {name: [trial.params for trial in trials] for name, trials in study.optuna_trials().items()}
    study.directory.journal.unlink()
    out = study.finish(*words)
    assert "Optuna's study made again from 3 trials" in out
    after = {name: [trial.params for trial in trials] for name, trials in study.optuna_trials().items()}
    assert after == before
    study.check_each_once(num_trials=3)


def test_ctrl_c_twice_ends_the_runs_now(study):
    words = [RATE, "study.n_trials=3", "training.max_steps=3000", "training.checkpoint_every=0"]
    process = study.start(*words)
    study.wait_for_a_run(process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert not [run for run in study.runs() if run.is_held()]


def test_a_folder_that_cannot_be_written_says_so(study):
    nowhere = PretendedStudy(Path("/proc/nowhere"), study.words[:-1])
    out = nowhere.finish("lora.r=1,2", code=1)
    assert "/proc/nowhere" in out
    assert "Traceback" not in out


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_sigkill_of_the_controller_leaves_each_trial_once_in_mlflow(study, seed, empty_store):
    study.root.mkdir()
    shutil.copy(empty_store, study.root / "mlflow.db")
    words = [RATE, "study.n_trials=4", "study.n_jobs=2", "training.max_steps=60", "tracking=mlflow"]
    study.kill_at_random_moments(*words, num_kills=2 if seed == 0 else 10, seed=seed)
    study.finish(*words)
    study.check_each_once(num_trials=4)
    study.check_each_once_in_mlflow(study.root)
    study.finish(*words)
    study.check_each_once_in_mlflow(study.root)


def test_mlflow_runs_that_are_lost_are_made_again_by_rebuild(study, empty_store):
    study.root.mkdir()
    shutil.copy(empty_store, study.root / "mlflow.db")
    study.finish(RATE, "study.n_trials=2", "tracking=mlflow")
    for path in study.root.glob("mlflow.db*"):
        path.unlink()
    shutil.copy(empty_store, study.root / "mlflow.db")
    assert main(["rebuild", study.directory.path.name, "--root", str(study.root)]) == 0
    study.check_each_once_in_mlflow(study.root)
    study.check_each_once(num_trials=2)


@pytest.mark.slow
def test_an_mlflow_store_that_is_locked_keeps_no_study_waiting_and_catches_up(study, empty_store):
    study.root.mkdir()
    shutil.copy(empty_store, study.root / "mlflow.db")
    with contextlib.closing(sqlite3.connect(study.root / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        out = study.finish(RATE, "study.n_trials=3", "study.n_jobs=2", "tracking=mlflow")
        assert "database is locked" in out
        assert "training goes on; the next sync catches up" in out
        study.check_each_once(num_trials=3)
        other.execute("ROLLBACK")
    assert main(["sync", "--root", str(study.root)]) == 0
    study.check_each_once_in_mlflow(study.root)


@pytest.mark.slow
def test_an_mlflow_store_that_is_locked_for_a_minute_is_caught_up_with_by_the_study_itself(study, empty_store):
    study.root.mkdir()
    shutil.copy(empty_store, study.root / "mlflow.db")
    words = [RATE, "study.n_trials=3", "study.n_jobs=2", "tracking=mlflow", "training.max_steps=2000"]
    process = study.start(*words)
    study.wait_for_a_run(process)
    time.sleep(12)  # the first sync has been
    with contextlib.closing(sqlite3.connect(study.root / "mlflow.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(60)
        is_running = process.poll() is None
        other.execute("ROLLBACK")
    out, _ = process.communicate(timeout=900)
    assert is_running, "the lock did not outlast the study"
    assert process.returncode == 0, out
    assert "database is locked" in out
    study.check_each_once(num_trials=3)
    study.check_each_once_in_mlflow(study.root)


def test_a_disk_that_is_full_stops_the_study_and_the_same_command_goes_on(study, small_disk):
    on_disk = PretendedStudy(small_disk / "root", study.words[:-1])
    words = [RATE, "study.n_trials=4", "study.n_jobs=2", "training.max_steps=60"]
    process = on_disk.start(*words)
    on_disk.wait_for_results(process, number=2)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    assert "No space left on device" in out
    assert "the same command goes on" in out
    assert "Traceback" not in out
    assert not [run for run in on_disk.runs() if run.is_held()]
    assert set(on_disk.statuses()) == {"finished"}
    ballast.unlink()
    on_disk.finish(*words)
    on_disk.check_each_once(num_trials=4)
    for run in on_disk.runs():
        steps = [line["step"] for line in rundir.read_lines(run.metrics) if "train/loss" in line["metrics"]]
        assert steps == list(range(1, 61)), run.path


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_the_whole_session_is_a_stop_request_that_spends_no_retry(study, number):
    words = [RATE, "study.n_trials=2", "study.n_jobs=2", "training.max_steps=3000", "training.checkpoint_every=0"]
    process = study.start(*words, start_new_session=True)
    study.wait_for_a_run(process)
    time.sleep(0.5)  # they listen
    pids = session_of(process.pid)
    assert len(pids) >= 4, "the controller, its tracker, the server, and a run at least"
    for pid in pids:  # as Slurm and systemd do; the controller asks its runs as well
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "retry" not in out
    assert "Traceback" not in out
    wait_until(lambda: not session_of(process.pid), "a process outlives its controller", limit_s=15)
    begun = [run for run in study.runs() if run.metrics.exists()]
    assert begun
    assert all((run.checkpoints / "step.json").exists() for run in begun)


def test_timeout_has_a_study_checkpoint_although_it_signals_twice(study):
    words = [RATE, "study.n_trials=2", "study.n_jobs=2", "training.max_steps=30000", "training.checkpoint_every=0"]
    process = PretendedStudy(study.root, study.words[:-1], prefix=["timeout", "600"]).start(*words)
    study.wait_for_a_run(process)
    process.send_signal(signal.SIGTERM)  # it then does what it does when its time is over
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "stopped after a checkpoint" in out
    assert "ended at once" not in out


def test_a_server_that_is_killed_while_runs_go_on_costs_no_retry(study):
    words = ["lora.r=1,2,4", "study.baseline=null", "study.n_jobs=2", "training.max_steps=200"]
    process = study.start(*words, start_new_session=True)
    study.wait_for_a_run(process)
    runs = {int(run.read_status().get("pid", 0)) for run in study.runs()}
    (server,) = [
        pid for pid in session_of(process.pid, "multiprocessing.forkserver") if pid_of_parent(pid) == process.pid
    ]
    assert server not in runs
    os.kill(server, signal.SIGKILL)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "retry" not in out
    assert study.statuses() == {"finished": 3}
    for run in study.runs():
        steps = [line["step"] for line in rundir.read_lines(run.metrics) if "train/loss" in line["metrics"]]
        assert steps == list(range(1, 201)), run.path


@pytest.mark.slow
def test_a_study_lives_with_64_open_files(study):
    words = [
        "seed=0,1,2,3,4,5,6,7,8,9",
        "lora.r=1,2,4",
        "study.baseline=null",
        "study.n_jobs=4",
        "training.max_steps=2",
    ]
    few = PretendedStudy(study.root, study.words[:-1], prefix=["prlimit", "--nofile=64"])
    few.finish(*words)
    assert study.statuses() == {"finished": 30}


def test_too_few_open_files_are_said_and_the_same_command_goes_on(study):
    words = ["lora.r=1,2,4,8", "study.baseline=null", "study.n_jobs=4"]
    few = PretendedStudy(study.root, study.words[:-1], prefix=["prlimit", "--nofile=12"])
    out = few.finish(*words, code=1)
    assert "it could not be started: " in out
    assert "the same command goes on" in out
    assert "retry" not in out
    study.finish(*words)
    assert study.statuses() == {"finished": 4}


def session_of(pid, word=""):
    """Living processes of a session, whose command line has this word."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            is_own = os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE
            if is_own and word in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def pid_of_parent(pid):
    return psutil.Process(pid).ppid()
