"""Runs on this machine, forked from a server process that has the heavy imports loaded.

The server imports and does nothing else (no parallel torch work, no CUDA), so a fork of it is clean; a run starts in
a fraction of a second instead of five to twelve, and when it ends its memory is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from lora_bench.errors import RunInterrupted
from lora_bench.execution.base import Outcome, RunRequest
from lora_bench.rundir import RunDir

EXIT_FAILED = 1
EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: the run stopped on request, and the same command goes on."""
LEASH = "lora_bench.execution.leash"
WARM = "lora_bench.execution.warm"
"""Module with the heavy imports of a training run."""
_PR_SET_PDEATHSIG = 1


class LocalExecutor:
    """Forks runs from a warm server; each has its own process, log file and share of the cores."""

    def __init__(self, body: Callable[[str, int], None] | None = None, *, preload: str = WARM) -> None:
        """Starts nothing yet.

        Args:
            body: What a run's process does with its directory and its number of threads; None trains.
            preload: Module that the server imports before it forks.
        """
        self._body = body or run_child
        self._context = multiprocessing.get_context("forkserver")
        # The heavy imports, and nothing that the parent's main module would add.
        self._context.set_forkserver_preload([LEASH, preload])
        self._processes: dict[int, BaseProcess] = {}
        self._next = 0

    def submit(self, request: RunRequest) -> int:
        """Forks the run; the first call waits for the server's imports."""
        process = self._context.Process(target=self._body, args=(str(request.run_dir), request.num_threads))
        process.start()
        self._next += 1
        self._processes[self._next] = process
        return self._next

    def poll(self, handle: int) -> Outcome | None:
        """How the run's process ended, or None."""
        process = self._processes[handle]
        if process.exitcode is None:
            return None
        process.join()
        return Outcome(process.exitcode)

    def cancel(self, handle: int, *, now: bool) -> None:
        """SIGTERM lets the run checkpoint and stop; `now` is SIGKILL."""
        process = self._processes[handle]
        if process.exitcode is None:
            (process.kill if now else process.terminate)()

    def close(self) -> None:
        """Kills what still runs."""
        for process in self._processes.values():
            if process.exitcode is None:
                process.kill()
                process.join()


def run_child(run_dir: str, num_threads: int) -> None:
    """The body of a run's process: limits, log, training, exit code."""
    sys.exit(_train(enter_run(run_dir), num_threads))


def enter_run(run_dir: str) -> RunDir:
    """What a run's process does first: ends with its controller, hears no Ctrl-C, prints into its log."""
    die_with_parent()
    # Ctrl-C in a terminal reaches its whole foreground group; the controller alone is to decide what it means.
    os.setpgrp()
    directory = RunDir(Path(run_dir))
    with open(directory.log, "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return directory


def _train(directory: RunDir, num_threads: int) -> int:
    import torch

    from lora_bench.benchmark import run_benchmark
    from lora_bench.config.resolve import from_yaml

    torch.set_num_threads(num_threads)
    limit_memory()
    with stop_on_signals() as stop:
        try:
            run_benchmark(from_yaml(directory.config), directory, stop_requested=stop.is_requested)
        except RunInterrupted as err:
            print(err, flush=True)
            return EXIT_INTERRUPTED
        except Exception:  # the run has recorded it; the log shows where
            traceback.print_exc()
            return EXIT_FAILED
    return 0


class StopFlag:
    """Set by a signal, asked by the loop between steps."""

    def __init__(self) -> None:
        self._num_requests = 0

    def request(self) -> None:
        """Stop at the next step; a second time, at once."""
        self._num_requests += 1

    def is_requested(self) -> bool:
        """Whether somebody asked."""
        return self._num_requests > 0

    def is_urgent(self) -> bool:
        """Whether somebody asked twice."""
        return self._num_requests > 1


@contextlib.contextmanager
def stop_on_signals(*, dies_on_second: bool = True) -> Iterator[StopFlag]:
    """SIGINT and SIGTERM ask once; a second one ends the process as usual, or makes the request urgent."""
    flag = StopFlag()

    def handle(number: int, frame: object) -> None:
        if flag.is_requested() and dies_on_second:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        flag.request()

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def threads_per_run(num_slots: int, asked: int | None) -> int:
    """An even share of the cores this process may use, at least one; or what was asked for."""
    return asked or max(1, len(os.sched_getaffinity(0)) // num_slots)


def limit_memory() -> None:
    """Caps this process at the memory that is free now.

    A run that is too large then ends alone, as `oom`, instead of having the kernel pick a victim. Not with CUDA,
    whose driver maps far more than it uses.
    """
    import torch

    from lora_bench.measure.memory import available_bytes

    available = available_bytes()
    if available is not None and not torch.cuda.is_available():
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(0.95 * available) if hard == resource.RLIM_INFINITY else min(int(0.95 * available), hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def die_with_parent() -> None:
    """Has the kernel send SIGTERM when the parent dies: the controller's to the server, the server's to a run.

    A run is thereby asked to checkpoint and stop.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
