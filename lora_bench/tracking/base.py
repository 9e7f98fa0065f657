"""The contract of a tracker: run directories in, a store that shows them out.

The directories are the truth. A tracker may be called at any time, any number of times, by a process that is
killed at any moment; what it writes is a function of what the directories hold.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

from lora_bench.rundir import RunDir


@dataclass(frozen=True)
class SyncReport:
    """What one call of `sync` did."""

    num_written: int = 0
    """Runs that had something new, and have it in the store now."""
    behind: tuple[str, ...] = ()
    """Names of the runs whose news could not be written; the next call tries again."""
    problems: tuple[str, ...] = ()
    """Why, in whole sentences; empty when nothing is behind."""


class Tracker(abc.ABC):
    """Projects run directories to a store.

    Called by the controller while runs are going on, by one process at a time, never by training. The shortest
    valid tracker is `NullTracker`.
    """

    def find_problem(self) -> str | None:
        """Return what keeps the store from being written at this moment, in a sentence, or None; takes seconds at most.

        Called before runs start, so that a wrong address is told then; runs start all the same.
        """
        return None

    @abc.abstractmethod
    def prepare(self) -> None:
        """Called once when runs are about to start: what takes seconds may begin now, beside them. May do nothing."""

    @abc.abstractmethod
    def sync(self, runs: Sequence[RunDir], *, study: str | None = None, finished: bool = False) -> SyncReport:
        """Brings the store up to what the directories hold now. Costs next to nothing where nothing is new.

        Never raises because of the store: what could not be written is reported, and caught up by a later call.

        Args:
            runs: Any of the runs of one root; those that were left out stay as they are.
            study: Shows the runs as members of this study; None takes `study.name` of each configuration.
            finished: Whether the study has ended; then the call also waits longer for a store that is busy.
        """


class NullTracker(Tracker):
    """Writes nothing."""

    def prepare(self) -> None:
        """Does nothing."""

    def sync(self, runs: Sequence[RunDir], *, study: str | None = None, finished: bool = False) -> SyncReport:
        """Does nothing."""
        return SyncReport()
