"""Waiting for what studies do, and what they must have left: used by the tests of every cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from support.studies import PretendedStudy

from lora_bench import rundir
from lora_bench.rundir import RunDir

T = TypeVar("T")


def check_each_once(study: PretendedStudy, *, num_runs: int, num_steps: int) -> None:
    """Every run of a grid has finished, with each step once."""
    assert study.statuses() == {"finished": num_runs}
    for run in study.runs():
        steps = [line["step"] for line in rundir.read_lines(run.metrics) if "train/loss" in line["metrics"]]
        assert steps == list(range(1, num_steps + 1)), run.path


def wait_until(condition: Callable[[], T], what: str, *, limit_s: float = 60.0) -> T:
    """The first true answer; `what` is said if there is none in time."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


def wait_for_step(study: PretendedStudy, process: subprocess.Popen[str], step: int) -> RunDir:
    """The first run that has come so far."""

    def look() -> RunDir | None:
        assert process.poll() is None, process.communicate()[0]
        return next((run for run in study.runs() if run.is_held() and run.read_status().get("step", 0) >= step), None)

    found = wait_until(look, f"no run came to step {step}")
    assert found is not None
    return found


def finish(process: subprocess.Popen[str], *, code: int = 0) -> str:
    """What a command said, which ends with this exit code."""
    out, _ = process.communicate(timeout=180)
    assert process.returncode == code, out
    return out
