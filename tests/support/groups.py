"""Trains runs one after the other from one process that has the heavy imports loaded: `groups.py FILE [FAULT]`.

The file is JSON: a list of the words of each run. Each run is forked, as the local executor does, so that a group of
processes starts in a fraction of a second. What it prints is the exit code of each, one a line. FAULT is `nan`, `oom`
or `error` in process 1, or `hold=STEP`: the group waits after this step until the file beside FILE with the suffix
`.go` is there, or it is asked to stop.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.store import register_schemas
from lora_bench.execution import warm  # noqa: F401  # for its imports
from lora_bench.execution.group import Part
from lora_bench.execution.local import exit_code_of, stop_on_signals
from lora_bench.execution.start import start_run
from lora_bench.naming import run_dir_for
from lora_bench.preflight import check_run, root_folder
from lora_bench.training import loop

BACKENDS = ("ddp", "fsdp", "zero1", "zero2", "zero3", "zero3_offload")
"""Choices of `processes` with more than one process."""
HOLD_S = 100
"""Seconds for which a held group waits at most."""


def train(words: Sequence[str]) -> int:
    """The exit code of the run."""
    config = resolve(compose_config(list(words)))
    check_run(config)
    run_dir = run_dir_for(config, root_folder(config))
    with stop_on_signals() as stop:
        return exit_code_of(lambda: start_run(config, run_dir, num_threads=1, stop_requested=stop.is_requested))


def break_step(fault: str) -> None:
    """Has the loss of process 1 fail at its sixth step; groups are forked from this process."""
    whole, calls = loop.summed_loss, itertools.count()

    def summed_loss(*args: Any) -> Tensor:
        loss = whole(*args)
        if dist.get_rank() != 1 or next(calls) < 5:
            return loss
        if fault == "nan":
            return loss * math.nan
        raise torch.OutOfMemoryError("no more") if fault == "oom" else ValueError("a fault in process 1")

    loop.summed_loss = summed_loss


def hold_after(step: int, go: Path) -> None:
    """Has every process wait after this step, the first time that one gets there."""
    is_asked, calls = Part.is_asked_to_stop, itertools.count(1)

    def is_asked_to_stop(part: Part) -> bool:
        if next(calls) == step:
            end = time.monotonic() + HOLD_S
            while not (go.exists() or is_asked(part)):
                if time.monotonic() > end:
                    raise TimeoutError(f"nobody wrote {go}")
                time.sleep(0.01)
        return is_asked(part)

    Part.is_asked_to_stop = is_asked_to_stop


def main(file: Path, fault: str) -> None:
    """Every run of the file."""
    register_schemas()
    name, _, step = fault.partition("=")
    if name == "hold":
        hold_after(int(step), file.with_suffix(".go"))
    elif fault:
        break_step(fault)
    for words in json.loads(file.read_text(encoding="utf-8")):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = train(words)
            finally:
                sys.stdout.flush()
                os._exit(code)
        print("exit code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "".join(sys.argv[2:]))
