"""Carries out a study: keeps the slots filled, retries what died, prunes, projects to the tracker.

The only process that asks for trials, writes the tracker and decides. The run directories are the truth: killed at
any moment and started again with the same command, it goes on.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Protocol

from lora_bench import rundir
from lora_bench.config.processes import num_nodes
from lora_bench.errors import DiskError, ExecutionError, LoraBenchError
from lora_bench.execution import Executor, Outcome, RunRequest
from lora_bench.execution.base import EXIT_DISK, EXIT_UNSTARTED
from lora_bench.execution.local import threads_per_run
from lora_bench.redact import own_command
from lora_bench.search.clock import Clock
from lora_bench.search.pruner import Pruner
from lora_bench.search.question import Question
from lora_bench.search.retry import settle
from lora_bench.search.studydir import StudyDir
from lora_bench.search.trials import Member, Supply, Trial
from lora_bench.search.view import StudyView
from lora_bench.search.watch import Watch
from lora_bench.tracking import Tracker

SYNC_EVERY_S = 10.0
PROGRESS_EVERY_S = 2.0


class Stop(Protocol):
    """How urgently somebody wants the study to stop."""

    def is_requested(self) -> bool:
        """Let the running runs checkpoint, then stop."""

    def is_urgent(self) -> bool:
        """End them now."""


@dataclass
class Board:
    """What is going on, for the view; its size is that of the slots, not of the study."""

    num_runs: int = 0
    num_recorded: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """State -> runs that ended in this command."""
    running: list[Member] = field(default_factory=list)


class Controller:
    """Carries out the trials of a supply on an executor, `study.n_jobs` runs at a time."""

    def __init__(
        self,
        question: Question,
        directory: StudyDir,
        *,
        supply: Supply,
        executor: Executor,
        tracker: Tracker,
        view: StudyView,
        clock: Clock,
        poll_s: float,
    ) -> None:
        self._question = question
        self._directory = directory
        self._supply = supply
        self._executor = executor
        self._tracker = tracker
        self._view = view
        self._clock = clock
        self._poll_s = poll_s
        self._pruner = Pruner(question)
        self._waiting: deque[Member] = deque()
        self._watches: dict[int, Watch] = {}
        self._ended_by_us: dict[int, str] = {}
        self._unsynced: dict[str, Member] = {}
        self._slots: dict[int, int] = {}
        """Handle -> the slot that its run has."""
        self._is_dry = False
        self._halted: LoraBenchError | None = None
        self._synced_s = self._noted_s = time.monotonic()
        self.board = Board()

    def run(self, stop: Stop) -> None:
        """Until the supply has no more, or until somebody asks to stop and the running runs have checkpointed.

        Raises:
            DiskError: If the disk takes no more; the running runs were asked to stop, and nothing recorded is lost.
            ExecutionError: If the system starts no more processes; likewise.
        """
        self.board.num_runs, self.board.num_recorded = self._supply.num_runs(), self._supply.num_recorded()
        self._pruner.learn(self._supply.trials())
        self._view.start(self.board)
        if self.board.num_runs > self.board.num_recorded:
            self._tracker.prepare()
        state = "failed"
        try:
            while self._step(stop):
                time.sleep(self._poll_s)
            state = "stopped" if self._is_stopping(stop) else "done"
        finally:
            self._executor.close()
            self._close_books(state)
            self._view.stop(self.board)
        if self._halted is not None:
            raise self._halted

    def _step(self, stop: Stop) -> bool:
        """Looks at what runs, fills free slots; whether there is more to do."""
        try:
            self._work(stop)
        except DiskError as err:
            self._halt(err)
        self._view.update(self.board)
        return bool(self.board.running) or not (self._is_stopping(stop) or (self._is_dry and not self._waiting))

    def _work(self, stop: Stop) -> None:
        for member in list(self.board.running):
            if self._is_stopping(stop):
                self._ask_to_stop(member, now=stop.is_urgent())
            self._look_at(member)
        if not self._is_stopping(stop):
            self._fill_slots()
            self._view.storage(self._supply.problem)
        self._keep_books()

    def _is_stopping(self, stop: Stop) -> bool:
        return stop.is_requested() or self._halted is not None

    def _halt(self, reason: LoraBenchError) -> None:
        """A disk that takes no more, or a system that starts no more, stops the study: further runs only lose time."""
        self._halted = self._halted or reason

    def _look_at(self, member: Member) -> None:
        assert member.handle is not None, "running members were submitted"
        outcome = self._executor.poll(member.handle)
        watch = self._watches[member.handle]
        if outcome is not None:
            self._end(member, outcome)
            return
        if watch.look():
            self._prune(member, watch)
        if self._executor.is_waiting(member.handle):
            watch.rest()
        limit_min = self._question.config.executor.hang_min
        if limit_min is not None and watch.silent_s > 60 * limit_min and member.handle not in self._ended_by_us:
            self._ended_by_us[member.handle] = f"hung: nothing new from it for {limit_min:g} min"
            self._executor.cancel(member.handle, now=True)

    def _prune(self, member: Member, watch: Watch) -> None:
        assert member.trial is not None, "members belong to a trial"
        reason = self._pruner.reason_to_stop(member, watch.curve)
        if reason is not None and not member.run_dir.stop_request.exists():
            rundir.write_text(member.run_dir.stop_request, reason + "\n")
            self._view.event(member, f"asked to stop ({reason})")

    def _ask_to_stop(self, member: Member, *, now: bool) -> None:
        assert member.handle is not None, "running members were submitted"
        if now or member.state == "running":
            member.state = "stopping"
            self._executor.cancel(member.handle, now=now)
            if now:
                self._ended_by_us[member.handle] = "ended at once on request"

    def _fill_slots(self) -> None:
        free = self._question.study.n_jobs - len(self.board.running)
        held: list[Member] = []
        while free > 0 and (member := self._next_member()) is not None:
            if (handle := self._executor.reattach(member.run_dir)) is not None:
                self._follow(member, handle, "its job goes on")
                free -= 1
            elif member.run_dir.is_held():
                # An orphan of a controller that was killed, or a run of another command: it is waited for.
                self._hold_off(member)
                held.append(member)
            elif member.read_result() is not None and member.state == "elsewhere":
                self._take_result(member)
            else:
                self._start(member)
                free -= 1
            if len(held) > self._question.study.n_jobs:
                break
        self._waiting.extend(held)

    def _next_member(self) -> Member | None:
        while not self._waiting:
            trial = self._supply.next()
            self._is_dry = trial is None and self._supply.problem is None
            if trial is None:
                return None
            self._waiting.extend(member for member in trial.members if not member.has_ended)
        return self._waiting.popleft()

    def _hold_off(self, member: Member) -> None:
        if member.state != "elsewhere":
            member.state = "elsewhere"
            pid = member.run_dir.read_status().get("pid", "unknown")
            self._view.event(member, f"process {pid} runs it now; waiting for it")

    def _start(self, member: Member) -> None:
        study, executor = self._question.study, self._question.config.executor
        member.write_config(self._question.name)
        request = RunRequest(
            member.run_dir.path,
            threads_per_run(study.n_jobs, executor.threads_per_run),
            memory_share=1 / study.n_jobs,
            command=own_command(),
            label=self._question.name,
            slot=self._free_slot(),
            num_nodes=num_nodes(member.load_config().processes),
        )
        handle = self._executor.submit(request)
        told = "started again" if member.num_deaths else "started"
        self._follow(member, handle, f"{told} ({member.damage})" if member.damage else told)
        member.damage = ""

    def _follow(self, member: Member, handle: int, told: str) -> None:
        """Takes a run that was started, now or by an earlier controller, among those that are looked at."""
        member.handle, member.state = handle, "running"
        self._slots[handle] = self._free_slot()
        self._watches[handle] = Watch(member.run_dir, self._pruner.metric)
        self._unsynced[member.run_dir.path.name] = member
        self.board.running.append(member)
        self._view.event(member, told)

    def _free_slot(self) -> int:
        return min(set(range(self._question.study.n_jobs)) - set(self._slots.values()))

    def _take_result(self, member: Member) -> None:
        result = member.read_result()
        assert result is not None, "looked at just now"
        member.state = result.status
        self._unsynced[member.run_dir.path.name] = member
        self._count(member)

    def _end(self, member: Member, outcome: Outcome) -> None:
        assert member.handle is not None, "it was submitted"
        handle = member.handle
        was_stopping = member.state == "stopping"
        reason = self._ended_by_us.pop(handle, None)
        if was_stopping and reason is not None and member.read_result() is None:
            member.handle, member.state, told = None, "interrupted", reason
        else:
            told = self._settle(member, outcome, reason)
        self.board.running.remove(member)
        del self._slots[handle]
        watch = self._watches.pop(handle)
        watch.look()
        self._clock.add_run(watch.age_s)
        self._pruner.ended(member, watch.curve)
        self._view.event(member, told)
        if member.state == "waiting":
            self._waiting.appendleft(member)
        else:
            self._count(member)

    def _settle(self, member: Member, outcome: Outcome, reason: str | None) -> str:
        try:
            told = settle(member, outcome, max_retries=self._question.config.executor.max_retries, reason=reason)
        except DiskError as err:
            member.state, told = "interrupted", str(err)
            self._halt(err)
        if outcome.exit_code == EXIT_UNSTARTED:
            self._halt(ExecutionError(f"{member.run_dir.path}: {told}; after that the same command goes on"))
        if outcome.exit_code == EXIT_DISK and member.state == "interrupted":
            self._halt(DiskError(f"{member.run_dir.path}: {told}; see to the disk, then the same command goes on"))
        return told

    def _count(self, member: Member) -> None:
        """A run has ended; so has its trial, if it was the last, or if its end spares the others."""
        self.board.ended[member.state] += 1
        trial = member.trial
        assert trial is not None, "members belong to a trial"
        if self._supply.spares_seeds and member.state in ("diverged", "oom", "pruned", "failed"):
            self._spare(trial)
        if trial.has_ended and not any(one.state == "interrupted" for one in trial.members):
            self._supply.ended(trial)
            self.board.num_runs = self._supply.num_runs()

    def _spare(self, trial: Trial) -> None:
        for member in trial.members:
            if member.state in ("waiting", "elsewhere"):
                member.state = "spared"
                self.board.ended["spared"] += 1
        self._waiting = deque(member for member in self._waiting if member.state != "spared")

    def _keep_books(self) -> None:
        now = time.monotonic()
        if now - self._synced_s > SYNC_EVERY_S:
            self._sync(finished=False)
        if now - self._noted_s > PROGRESS_EVERY_S:
            self._note("running")

    def _close_books(self, state: str) -> None:
        try:
            self._sync(finished=state == "done")
            self._note(state)
        except DiskError as err:
            self._halt(err)

    def _note(self, state: str) -> None:
        self._noted_s = time.monotonic()
        done = self.board.num_recorded + sum(self.board.ended.values()) - self.board.ended["interrupted"]
        self._clock.note(self._directory, state, num_done=done, num_runs=self.board.num_runs)

    def _sync(self, *, finished: bool) -> None:
        """While the study goes on, of what has moved since the last time; at its end, of everything."""
        members = list(self._unsynced.values())
        if finished:
            members = [member for trial in self._supply.trials() for member in trial.members]
        begun = [member.run_dir for member in members if os.path.lexists(member.run_dir.config)]
        report = self._tracker.sync(begun, study=self._question.name, finished=finished)
        kept = {*report.behind, *(member.run_dir.path.name for member in self.board.running)}
        self._unsynced = {name: member for name, member in self._unsynced.items() if name in kept}
        self._synced_s = time.monotonic()
        self._view.tracked(report)
