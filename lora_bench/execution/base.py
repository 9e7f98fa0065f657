"""The contract of an executor: it starts runs and says how their processes ended. It decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lora_bench.rundir import RunDir

EXIT_FAILED = 1
EXIT_DISK = 74
"""EX_IOERR: the disk is full, broken or read-only; nothing is wrong with the run."""
EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: the run stopped on request, and the same command goes on."""
EXIT_TIME = 77
"""The job's time is over and it could not be queued again: the run goes on in another job."""
EXIT_HELD = 76
"""Another process trains in the directory: neither a death nor a result of this one."""
EXIT_LOST = 78
"""Another process of the run's group is gone or does not answer."""

EXIT_UNWATCHED = 79
"""Nobody knows how the process ended; it is no death of the run's."""
EXIT_UNSTARTED = 80
"""It could not be started, which nothing in the run can be the reason for."""


@dataclass(frozen=True)
class RunRequest:
    """One run to be started. Its directory holds `config.yaml` already."""

    run_dir: Path
    num_threads: int
    memory_share: float = 1.0
    """Part of the free memory that it may take, in (0, 1]."""
    command: str = ""
    """What the user typed, for the record."""
    label: str = ""
    """Name of the study, for the queue of a cluster."""
    slot: int = 0
    """Which of the places for runs it takes, from 0; each has GPUs of its own, as far as there are GPUs."""
    num_nodes: int = 1
    """Machines that its processes are spread over."""
    node: int = 0
    """Which of them this is, from 0."""
    meeting: str = ""
    """Address of the first of several."""


@dataclass(frozen=True)
class Outcome:
    """How a run's processes ended; whether there is a result stands in the run directory."""

    exit_code: int
    """0 for a result of any kind; negative is the signal that ended the process."""
    detail: str = ""
    """What a cluster says of it."""

    @property
    def reason(self) -> str:
        """The end in words."""
        if self.detail:
            return self.detail
        if self.exit_code == EXIT_DISK:
            return "the disk took no more"
        if self.exit_code == EXIT_LOST:
            return "another process of the group did not answer"
        if self.exit_code == -9:
            return "killed by signal 9 (often the kernel, out of memory)"
        if self.exit_code < 0:
            return f"killed by signal {-self.exit_code}"
        return f"exit code {self.exit_code}"


class Executor(Protocol):
    """Called by the controller only, from one thread. Handles are opaque and belong to their executor."""

    def submit(self, request: RunRequest) -> int:
        """Starts a run; returns a handle at once."""

    def reattach(self, run_dir: RunDir) -> int | None:
        """A handle for a run that an earlier controller started here and that still goes on; None if there is none."""

    def is_waiting(self, handle: int) -> bool:
        """Whether the run has not begun yet, so that its silence says nothing."""

    def poll(self, handle: int) -> Outcome | None:
        """How a run ended, or None while it runs."""

    def cancel(self, handle: int, *, now: bool) -> None:
        """Asks a run to checkpoint and stop, or ends it now."""

    def close(self) -> None:
        """Ends what the executor itself keeps running. Runs that are still going are ended now."""
