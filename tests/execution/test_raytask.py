"""A run under a worker's eyes, without Ray. Oracle: exit codes and the files of the run."""

from __future__ import annotations

import os
import threading
import time

import pytest

from lora_bench import rundir
from lora_bench.config.resolve import to_yaml
from lora_bench.execution import raytask
from lora_bench.execution.base import EXIT_INTERRUPTED, RunRequest
from lora_bench.execution.gpus import VISIBLE
from lora_bench.execution.local import LocalExecutor, StopFlag
from lora_bench.execution.pretend import pretend
from lora_bench.measure.memory import available_bytes, share_of_available
from lora_bench.naming import run_dir_for
from lora_bench.preflight import root_folder


@pytest.fixture
def watched(tiny):
    """Watches a long pretended run, of which something is asked at its third step; returns its directory and code."""
    executor = LocalExecutor(pretend, preload=raytask.PRETEND)

    def watch(ask):
        config = tiny("training.max_steps=2000", "training.checkpoint_every=0")
        run_dir, stop = run_dir_for(config, root_folder(config)), StopFlag()
        rundir.write_text(run_dir.config, to_yaml(config))

        def wait_and_ask():
            while run_dir.read_status().get("step", 0) < 3:
                time.sleep(0.02)
            ask(run_dir, stop)

        asking = threading.Thread(target=wait_and_ask)
        asking.start()
        code = raytask._watch(executor, executor.submit(RunRequest(run_dir.path, 1)), run_dir, stop)
        asking.join()
        return run_dir, code

    yield watch
    executor.close()


@pytest.mark.parametrize(
    "ask",
    [lambda run_dir, stop: rundir.write_json(run_dir.job_stop, "stop"), lambda run_dir, stop: stop.request()],
    ids=["by a file", "by Ray"],
)
def test_a_run_that_is_asked_to_stop_checkpoints(watched, ask):
    run_dir, code = watched(ask)
    assert code == EXIT_INTERRUPTED
    assert (run_dir.checkpoints / "step.json").exists()


def test_a_run_that_is_to_end_is_killed(watched):
    run_dir, code = watched(lambda run_dir, stop: rundir.write_json(run_dir.job_stop, "end"))
    assert code == -9
    assert not run_dir.checkpoints.exists()


@pytest.mark.parametrize("gpus", ["1,3", ""])
def test_a_run_sees_the_gpus_that_ray_gave_it_and_takes_its_part_of_the_memory(monkeypatch, tmp_path, gpus):
    seen = []
    monkeypatch.setattr(raytask, "run_child", lambda request: seen.append((os.environ[VISIBLE], request.memory_share)))
    monkeypatch.setenv(VISIBLE, "0,1,2,3")
    half = available_bytes() / 2
    raytask.run_on(gpus, half, RunRequest(tmp_path, 1))
    (only,) = seen
    assert only == (gpus, pytest.approx(0.5, rel=0.1))


def test_a_share_is_never_more_than_everything():
    assert share_of_available(2.0**60) == 1.0
