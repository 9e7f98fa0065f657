"""Runs that only pretend to train: for tests of studies, and for measuring what a controller costs.

A pretended run takes a few milliseconds a step, has a curve that follows from its configuration, resumes where it was
killed, obeys requests to stop, and writes the record of a run. Its numbers mean nothing.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from lora_bench.config.resolve import plain_digest
from lora_bench.errors import RunInterrupted
from lora_bench.execution.base import RunRequest
from lora_bench.execution.local import StopFlag, enter_run, exit_code_of, is_orphan, stop_on_signals
from lora_bench.recorder import Recorder
from lora_bench.records import MemoryProfile, Provenance, RunResult, Score, Sizes
from lora_bench.rundir import RunDir, write_json

STEP_S = 0.01


def pretend(request: RunRequest) -> None:
    """The body of a pretended run's process."""
    directory = enter_run(request)
    with stop_on_signals() as stop:
        sys.exit(pretend_to_train(directory, request, stop))


def pretend_to_train(directory: RunDir, request: RunRequest, stop: StopFlag) -> int:
    """As `local.train`; returns the exit code."""
    return exit_code_of(lambda: pretend_run(directory, is_stopped=lambda: stop.is_requested() or is_orphan()))


def pretend_run(directory: RunDir, *, is_stopped: Callable[[], bool]) -> None:
    """One run, as `run_benchmark` carries it out."""
    with directory.hold():
        directory.set_damage_aside()
        recorded = directory.read_result()
        if recorded is None or recorded.status == "failed":
            directory.archive_failure()
            write_pretended(directory, pretend_steps(directory, is_stopped=is_stopped))


def pretend_steps(directory: RunDir, *, is_stopped: Callable[[], bool], step_s: float = STEP_S) -> str:
    """Every step from the last one that was finished; returns the status.

    Raises:
        RunInterrupted: When it was asked to stop.
    """
    training = directory.read_config()["training"]
    mark = directory.checkpoints / "step.json"
    first = int(mark.read_text()) if mark.exists() else 0
    recorder = Recorder(directory)
    recorder.on_start(num_steps=training["max_steps"], first_step=first)
    for step in range(first + 1, training["max_steps"] + 1):
        time.sleep(step_s)
        if step % training["log_every"] == 0:
            recorder.on_log(step, {"train/loss": 1 / step})
        is_last = step == training["max_steps"]
        if is_last or (training["eval_every"] and step % training["eval_every"] == 0):
            quality = pretended_quality(directory.read_config(), step)
            if recorder.on_eval(step, {"eval/accuracy": quality}) and not is_last:
                return "pruned"
        if training["checkpoint_every"] and step % training["checkpoint_every"] == 0:
            write_json(mark, step)
        if is_stopped() and not is_last:
            write_json(mark, step)
            raise RunInterrupted(f"stopped at step {step}; the same command goes on")
    return "finished"


def pretended_quality(config: dict[str, Any], step: int) -> float:
    """In (0, 1): best at a learning rate of 1e-3, a little better with a higher rank, rising with the steps."""
    distance = abs(math.log10(config["training"]["lr"]) + 3)
    rank = (config.get("lora") or {}).get("r", 4)
    return (0.9 - 0.2 * min(distance, 3) + 0.01 * math.log2(rank)) * (1 - math.exp(-step / 10))


def write_pretended(directory: RunDir, status: str, *, quality: float | None = None) -> None:
    """The record of a pretended run."""
    config = directory.read_config()
    steps = int(directory.read_status().get("step", 0))
    if quality is None:
        quality = pretended_quality(config, max(steps, 1))
    rank = (config.get("lora") or {}).get("r", 1000)
    directory.write_result(
        RunResult(
            status=status,
            config_digest=plain_digest(config),
            run_name=directory.path.name,
            model=config["model"]["name"],
            task=config["task"]["name"],
            method=config["method"]["name"],
            headline="accuracy",
            scores=[Score("accuracy", quality, quality - 0.1, quality + 0.1, 100, True)],
            validation=[Score("accuracy", quality, quality - 0.1, quality + 0.1, 100, True)],
            steps=steps,
            epochs=1.0,
            final_train_loss=1 - quality,
            memory=MemoryProfile(rank * 2**20, 0, 0, 0, 0),
            timing=None,
            sizes=Sizes(rank, rank, rank, 0, rank * 1024, rank * 2048),
            provenance=Provenance("pretended", None, None, "", "", "none", 1, "", {}, "", "", int(config["seed"])),
        )
    )
    directory.write_status(status=status, step=steps, steps=config["training"]["max_steps"], metrics={})
