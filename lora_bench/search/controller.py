"""Carries out a grid: skips what is recorded, keeps the slots filled, retries what died, projects to the tracker.

The run directories are the truth. Killed at any moment and started again with the same command, it goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lora_bench import rundir
from lora_bench.config.resolve import to_yaml
from lora_bench.errors import RunDirError
from lora_bench.execution import Executor, Outcome, RunRequest
from lora_bench.execution.local import EXIT_INTERRUPTED, threads_per_run
from lora_bench.recorder import record_failure
from lora_bench.rundir import RunDir
from lora_bench.search.grid import GridPoint
from lora_bench.search.view import GridView
from lora_bench.tracking import Tracker

MAX_RETRIES = 2
"""Times that a run which died without a result is started again, from its last checkpoint."""
POLL_S = 0.2
SYNC_EVERY_S = 10.0


@dataclass
class Member:
    """One run of the grid, as the controller sees it."""

    point: GridPoint
    run_dir: RunDir
    state: str = "waiting"
    """waiting, running, interrupted, or the status of its result."""
    num_deaths: int = 0
    handle: int | None = field(default=None, repr=False)


class GridController:
    """Runs the members of a grid on an executor, `num_slots` at a time."""

    def __init__(
        self, members: Sequence[Member], *, executor: Executor, tracker: Tracker, view: GridView, study: str
    ) -> None:
        self._members = list(members)
        self._executor = executor
        self._tracker = tracker
        self._view = view
        self._study = study
        self._config = members[0].point.config
        self._last_sync_s = time.monotonic()

    def run(self, stop_requested: Callable[[], bool]) -> None:
        """Until every member has a result, or until somebody asks to stop and the running ones have checkpointed."""
        for member in self._members:
            self._take_up(member)
        self._view.start(self._members)
        try:
            while self._step(stop_requested()):
                time.sleep(POLL_S)
        finally:
            self._executor.close()
            self._sync(finished=all(member.state not in ("waiting", "running") for member in self._members))
            self._view.stop(self._members)

    def _step(self, is_stopping: bool) -> bool:
        """Looks at what runs, fills free slots; whether there is more to do."""
        for member in self._running():
            assert member.handle is not None, "running members were submitted"
            if is_stopping and member.state == "running":
                member.state = "stopping"
                self._executor.cancel(member.handle, now=False)
            outcome = self._executor.poll(member.handle)
            if outcome is not None:
                self._end(member, outcome)
        if not is_stopping:
            self._fill_slots()
        self._view.update(self._members)
        if time.monotonic() - self._last_sync_s > SYNC_EVERY_S:
            self._sync(finished=False)
        waits = any(member.state == "waiting" for member in self._members)
        return bool(self._running()) or (waits and not is_stopping)

    def _take_up(self, member: Member) -> None:
        """What an earlier command left: a result is kept, a failure is tried again, the rest waits."""
        result = member.run_dir.read_result()
        if result is not None and result.status != "failed":
            member.state = result.status
            return
        if not member.run_dir.config.exists():
            rundir.write_text(member.run_dir.config, to_yaml(member.point.config))

    def _fill_slots(self) -> None:
        free = self._config.study.n_jobs - len(self._running())
        for member in [member for member in self._members if member.state == "waiting"][: max(0, free)]:
            num_threads = threads_per_run(self._config.study.n_jobs, self._config.executor.threads_per_run)
            request = RunRequest(member.run_dir.path, num_threads)
            member.handle = self._executor.submit(request)
            member.state = "running"
            self._view.event(member, "started" if not member.num_deaths else "started again")

    def _end(self, member: Member, outcome: Outcome) -> None:
        member.handle = None
        result = member.run_dir.read_result()
        if result is not None:
            member.state = result.status
            self._view.event(member, result.status)
        elif outcome.exit_code == EXIT_INTERRUPTED:
            member.state = "interrupted"
            self._view.event(member, "stopped after a checkpoint; the same command goes on")
        elif member.num_deaths < MAX_RETRIES:
            member.num_deaths += 1
            member.state = "waiting"
            self._view.event(member, f"{outcome.reason}; retry {member.num_deaths} of {MAX_RETRIES}")
        else:
            member.state = "failed"
            record_failure(
                member.point.config, member.run_dir, f"no result after {MAX_RETRIES + 1} tries: {outcome.reason}"
            )
            self._view.event(member, f"failed: {outcome.reason}")

    def _running(self) -> list[Member]:
        return [member for member in self._members if member.state in ("running", "stopping")]

    def _sync(self, *, finished: bool) -> None:
        self._last_sync_s = time.monotonic()
        begun = [member.run_dir for member in self._members if member.run_dir.config.exists()]
        report = self._tracker.sync(begun, study=self._study, finished=finished)
        self._view.tracked(report)


def refuse_held(members: Sequence[Member]) -> None:
    """Two controllers on one grid would wait for each other's runs.

    Raises:
        RunDirError: If another living process runs one of them.
    """
    held = [member.run_dir.path for member in members if member.run_dir.is_held()]
    if held:
        raise RunDirError(
            f"{held[0]}: another process runs this configuration now; wait for it, or use another paths.root"
        )
