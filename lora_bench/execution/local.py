"""Runs on this machine, forked from a server process that has the heavy imports loaded.

The server imports and does nothing else (no parallel torch work, no CUDA), so a fork of it is clean; a run starts in
a fraction of a second instead of five to twelve, and when it ends its memory is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lora_bench.errors import DiskError, RunHeldError, RunInterrupted
from lora_bench.execution.base import EXIT_DISK, EXIT_FAILED, EXIT_HELD, EXIT_INTERRUPTED, Outcome, RunRequest
from lora_bench.execution.forks import Fork, set_preload
from lora_bench.execution.lifeline import end_orphan
from lora_bench.rundir import RunDir

WARM = "lora_bench.execution.warm"
"""Module with the heavy imports of a training run."""
SAME_S = 0.5
"""Seconds within which a second Ctrl-C is the first one: some wrappers pass on what the terminal sends anyway."""
END_WAIT_S = 10.0
"""Seconds within which killed processes have ended."""
MEETING_PORT = 29400
"""Where the machines of a group meet; each job of a cluster has its machines, or its share of them."""


class LocalExecutor:
    """Forks runs from a warm server; each has its own process, log file and share of the cores."""

    def __init__(self, body: Callable[[RunRequest], None] | None = None, *, preload: str = WARM) -> None:
        """Starts nothing yet.

        Args:
            body: What a run's process does with its request; None trains.
            preload: Module that the server imports before it forks.
        """
        self._body = body or run_child
        # The heavy imports, and nothing that the parent's main module would add.
        set_preload([preload])
        self._forks: dict[int, Fork] = {}
        self._next = 0

    def submit(self, request: RunRequest) -> int:
        """Have the run forked; the first one waits for the server's imports."""
        self._next += 1
        self._forks[self._next] = Fork(self._body, request)
        return self._next

    def reattach(self, run_dir: RunDir) -> int | None:
        """None: a run ends with its controller, after a checkpoint."""
        return None

    def is_waiting(self, handle: int) -> bool:
        """Whether the server is still importing."""
        return self._forks[handle].is_starting

    def poll(self, handle: int) -> Outcome | None:
        """Return how the run's process ended, or None."""
        return self._forks[handle].poll()

    def cancel(self, handle: int, *, now: bool) -> None:
        """SIGTERM lets the run checkpoint and stop; `now` is SIGKILL."""
        self._forks[handle].cancel(now=now)

    def close(self) -> None:
        """Kills what still runs."""
        for fork in self._forks.values():
            fork.cancel(now=True)
        until = time.monotonic() + END_WAIT_S
        while any(fork.poll() is None for fork in self._forks.values()) and time.monotonic() < until:
            time.sleep(0.01)


def run_child(request: RunRequest) -> None:
    """The body of a run's process: log, signals, training, exit code."""
    directory = enter_run(request)
    # A batch system signals every process of a job, and the controller asks its runs as well: that is one request.
    with stop_on_signals(dies_on_second=False) as stop:
        sys.exit(train(directory, request, stop))


def enter_run(request: RunRequest) -> RunDir:
    """What a run's process does first: hears no Ctrl-C of the terminal, prints into its log."""
    enter_group()
    directory = RunDir(request.run_dir)
    print_to(directory.log)
    return directory


def enter_group() -> None:
    """Leaves the controller's process group, and ends some time after the controller at the latest."""
    # Ctrl-C in a terminal reaches its whole foreground group; the controller alone is to decide what it means.
    os.setpgrp()
    end_orphan(is_orphan)


def print_to(path: Path) -> None:
    """Has this process print at the end of a file."""
    with open(path, "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def train(directory: RunDir, request: RunRequest, stop: StopFlag) -> int:
    """Trains the run within its share of this machine; returns the exit code of its process."""
    from lora_bench.config.resolve import from_yaml
    from lora_bench.execution.group import Node
    from lora_bench.execution.start import start_run

    return exit_code_of(
        lambda: start_run(
            from_yaml(directory.config),
            directory,
            num_threads=request.num_threads,
            memory_share=request.memory_share,
            slot=request.slot,
            node=Node(request.node, request.meeting, MEETING_PORT) if request.meeting else None,
            command=request.command,
            stop_requested=lambda: stop.is_requested() or is_orphan(),
        )
    )


def exit_code_of(action: Callable[[], object]) -> int:
    """Carries out a run; says on the log what ended it, and to the controller by the exit code."""
    codes = {RunInterrupted: EXIT_INTERRUPTED, RunHeldError: EXIT_HELD, DiskError: EXIT_DISK}
    try:
        action()
    except tuple(codes) as err:
        with contextlib.suppress(OSError):  # the log may be on the disk that is full
            print(err, flush=True)
        return codes[type(err)]
    except Exception:  # the run has recorded it; the log shows where
        traceback.print_exc()
        return EXIT_FAILED
    return 0


class StopFlag:
    """Set by a signal, asked by the loop between steps."""

    def __init__(self) -> None:
        self._asked_s: float | None = None
        self._is_urgent = False
        self.signals: set[int] = set()
        """Those that have asked."""

    def request(self, number: int = signal.SIGTERM) -> None:
        """Stop at the next step; at once after a second Ctrl-C.

        SIGTERM asks however often it comes: `timeout` sends it twice, a batch system to each process on the way.
        """
        now_s = time.monotonic()
        if number == signal.SIGINT and self._asked_s is not None and now_s - self._asked_s > SAME_S:
            self._is_urgent = True
        self._asked_s = self._asked_s or now_s
        self.signals.add(number)

    def is_requested(self) -> bool:
        """Whether somebody asked."""
        return self._asked_s is not None

    def is_urgent(self) -> bool:
        """Whether somebody asked twice."""
        return self._is_urgent


@contextlib.contextmanager
def stop_on_signals(
    numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM), *, dies_on_second: bool = True
) -> Iterator[StopFlag]:
    """These signals ask once; a second Ctrl-C ends the process as usual, or makes the request urgent.

    A signal that came before, to a process that was started with it blocked, asks now.
    """
    flag = StopFlag()

    def handle(number: int, frame: object) -> None:
        flag.request(number)
        if flag.is_urgent() and dies_on_second:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    old = {number: signal.signal(number, handle) for number in numbers}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    try:
        yield flag
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def threads_per_run(num_slots: int, asked: int | None) -> int:
    """Return the CPU threads of one run: what was asked for, or else an even share of the cores, at least one.

    OMP_NUM_THREADS is a ceiling of that share, as it is for every program that computes in parallel.
    """
    share = max(1, len(os.sched_getaffinity(0)) // num_slots)
    return asked or min(share, omp_num_threads() or share)


def omp_num_threads() -> int | None:
    """Return what OMP_NUM_THREADS says; None where it is not set or says nothing. Of a list, the first level counts."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def is_orphan() -> bool:
    """Whether the process that asked for this run is gone; the run then checkpoints and stops, to be taken up again."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def limit_memory(share: float = 1.0) -> None:
    """Caps this process at its share of the memory that is free now, 5 % left to the others.

    A run that is too large then ends alone, as `oom`, instead of having the kernel pick a victim. Not with CUDA,
    whose driver maps far more than it uses.
    """
    import torch

    from lora_bench.measure.memory import available_bytes, data_bytes

    available = available_bytes()
    if available is not None and not torch.cuda.is_available():
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = data_bytes() + int(0.95 * share * available)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
