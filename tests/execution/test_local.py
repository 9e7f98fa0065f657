"""Real processes and real signals. Oracle: exit codes, result files and what the kernel says of the processes."""

from __future__ import annotations

import os
import signal
import time

import pytest

from lora_bench import rundir
from lora_bench.config.resolve import to_yaml
from lora_bench.execution import LocalExecutor, Outcome, RunRequest
from lora_bench.execution.local import EXIT_FAILED, EXIT_INTERRUPTED, SAME_S, StopFlag, stop_on_signals, threads_per_run
from lora_bench.naming import run_dir_for
from lora_bench.preflight import root_folder


@pytest.fixture(scope="module")
def executor():
    made = LocalExecutor()
    yield made
    made.close()


def prepare(config):
    run_dir = run_dir_for(config, root_folder(config))
    rundir.write_text(run_dir.config, to_yaml(config))
    return run_dir


def wait(executor, handle, *, limit_s=120.0):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        outcome = executor.poll(handle)
        if outcome is not None:
            return outcome
        time.sleep(0.05)
    raise AssertionError("the run never ended")


def wait_for_step(run_dir, step):
    end = time.monotonic() + 120
    while run_dir.read_status().get("step", -1) < step:
        assert time.monotonic() < end, run_dir.log.read_text()
        time.sleep(0.02)
    return int(run_dir.read_status()["pid"])


def test_a_run_ends_with_a_result_and_a_log(executor, tiny):
    run_dir = prepare(tiny())
    assert wait(executor, executor.submit(RunRequest(run_dir.path, 1))) == Outcome(0)
    result = run_dir.read_result()
    assert result is not None
    assert result.status == "finished"
    assert result.provenance.num_threads == 1
    assert run_dir.log.exists()


def test_a_killed_run_says_so_and_touches_no_other(executor, tiny):
    victim, other = (prepare(tiny("training.max_steps=400", f"seed={seed}")) for seed in (1, 2))
    handles = [executor.submit(RunRequest(run_dir.path, 1)) for run_dir in (victim, other)]
    os.kill(wait_for_step(victim, 2), signal.SIGKILL)
    outcome = wait(executor, handles[0])
    assert outcome.exit_code == -9
    assert "killed by signal 9 (often the kernel, out of memory)" in outcome.reason
    assert victim.read_result() is None
    assert not victim.is_held()
    assert wait(executor, handles[1]) == Outcome(0)


def test_sigterm_checkpoints_and_a_second_submission_goes_on(executor, tiny):
    run_dir = prepare(tiny("training.max_steps=400", "training.checkpoint_every=0"))
    handle = executor.submit(RunRequest(run_dir.path, 1))
    wait_for_step(run_dir, 3)
    executor.cancel(handle, now=False)
    assert wait(executor, handle).exit_code == EXIT_INTERRUPTED
    assert len(list(run_dir.checkpoints.iterdir())) == 1
    first_steps = len(rundir.read_lines(run_dir.metrics))
    assert first_steps < 400
    assert wait(executor, executor.submit(RunRequest(run_dir.path, 1))) == Outcome(0)
    steps = [line["step"] for line in rundir.read_lines(run_dir.metrics) if "train/loss" in line["metrics"]]
    assert steps == list(range(1, 401))


def test_a_fault_is_recorded_and_its_traceback_is_in_the_log(executor, tiny):
    run_dir = prepare(tiny())
    run_dir.config.write_text(run_dir.config.read_text().replace("name: tweet_sentiment", "name: no_such_task"))
    assert wait(executor, executor.submit(RunRequest(run_dir.path, 1))).exit_code == EXIT_FAILED
    assert "no_such_task" in run_dir.log.read_text()


def test_threads_are_shared_evenly(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert threads_per_run(1, None) == cores
    assert threads_per_run(cores * 2, None) == 1
    assert threads_per_run(1, 3) == 3


def test_the_first_signal_asks_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as flag:
        assert isinstance(flag, StopFlag)
        assert not flag.is_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert flag.is_requested()
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_asks_once_however_often_it_comes_and_a_late_second_ctrl_c_is_urgent():
    with stop_on_signals(dies_on_second=False) as flag:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # as `timeout` and wrappers send them
            os.kill(os.getpid(), number)
        assert flag.is_requested()
        assert not flag.is_urgent()
        time.sleep(SAME_S + 0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not flag.is_urgent()
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.is_urgent()


@pytest.mark.parametrize(
    ("said", "threads"), [("1", 1), ("1,2", 1), ("4096", None), ("none", None), ("0", None), ("-1", None), ("", None)]
)
def test_omp_num_threads_is_a_ceiling_and_a_key_is_over_it(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    cores = len(os.sched_getaffinity(0))
    assert threads_per_run(1, None) == (threads or cores)
    assert threads_per_run(1, 3) == 3
