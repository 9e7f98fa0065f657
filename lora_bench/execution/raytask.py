"""What a worker of Ray carries out: one run, in a process that is forked with the heavy imports loaded.

The worker only looks on: Ray's own threads and what an earlier run left behind are not in the process that trains. A
worker that Ray gives the next run has its imports loaded already.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_bench.execution.base import RunRequest
from lora_bench.execution.gpus import VISIBLE
from lora_bench.execution.local import WARM, LocalExecutor, StopFlag, run_child, stop_on_signals
from lora_bench.rundir import RunDir

POLL_S = 0.2
PRETEND = "lora_bench.execution.pretend"


def carry_out(data: dict[str, Any], *, mem_bytes: float, is_pretended: bool) -> int:
    """The task: returns the exit code of the run's process. If the worker dies, the run checkpoints and stops.

    Args:
        data: A `RunRequest` as plain data.
        mem_bytes: What the run may take of the node's memory.
        is_pretended: Whether it only pretends to train.
    """
    import ray

    request = RunRequest(**{**data, "run_dir": Path(data["run_dir"])})
    # Ray sets the variable for itself alone, and leaves it alone where no GPU was asked for.
    gpus = ",".join(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", [])))
    body = functools.partial(run_pretended if is_pretended else run_on, gpus, mem_bytes)
    executor = LocalExecutor(body, preload=PRETEND if is_pretended else WARM)
    try:
        # Ray takes a task back with SIGINT, which as an exception could hit us between a fork and its record.
        with stop_on_signals((signal.SIGINT,), dies_on_second=False) as stop:
            return _watch(executor, executor.submit(request), RunDir(request.run_dir), stop)
    finally:
        executor.close()


def run_on(gpus: str, mem_bytes: float, request: RunRequest) -> None:
    """The body of the run's process, with these GPUs and no others."""
    from lora_bench.measure.memory import share_of_available

    os.environ[VISIBLE] = gpus
    run_child(replace(request, memory_share=share_of_available(mem_bytes)))


def run_pretended(gpus: str, mem_bytes: float, request: RunRequest) -> None:
    """The same for a run that pretends."""
    from lora_bench.execution.pretend import pretend

    os.environ[VISIBLE] = gpus
    pretend(request)


def _watch(executor: LocalExecutor, handle: int, directory: RunDir, stop: StopFlag) -> int:
    heard: str | None = None
    while (outcome := executor.poll(handle)) is None:
        asked = _read_request(directory) or ("stop" if stop.is_requested() else None)
        if asked not in (None, heard):
            executor.cancel(handle, now=asked == "end")
            heard = asked
        time.sleep(POLL_S)
    return outcome.exit_code


def _read_request(directory: RunDir) -> str | None:
    """What the run was asked to do: `stop`, `end`, or nothing."""
    try:
        return str(json.loads(directory.job_stop.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


__all__: Sequence[str] = ["carry_out"]
