"""Runs as tasks of a Ray cluster, one task a run, with the CPUs, GPUs and memory that it asks for.

Ray places and starts; it retries nothing, since a run that died is the controller's to try again, from its last
checkpoint. Tasks belong to the process that submitted them: when the controller dies Ray kills them with their runs,
and the next controller starts these again from their last checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_bench import rundir
from lora_bench.config.executor import RayExecutorConfig
from lora_bench.execution.base import EXIT_FAILED, EXIT_INTERRUPTED, Outcome, RunRequest
from lora_bench.execution.raycluster import connect
from lora_bench.execution.raytask import carry_out
from lora_bench.records import GIB
from lora_bench.rundir import RunDir

END_WAIT_S = 10.0
"""Seconds within which a task that is to end its run has done so."""


@dataclass
class _Ticket:
    """One run that was given to us."""

    run_dir: RunDir
    task: Any
    is_done: bool = False


class RayExecutor:
    """Called by the controller only."""

    def __init__(self, config: RayExecutorConfig, *, is_pretended: bool = False) -> None:
        """Joins the cluster; submits nothing yet.

        Raises:
            ConfigError: If there is none.
        """
        self._config = config
        self._ray = connect(config.address)
        self._is_pretended = is_pretended
        self._tickets: dict[int, _Ticket] = {}
        self._remote = self._ray.remote(carry_out).options(
            num_cpus=config.cpus_per_task,
            num_gpus=config.gpus_per_node,
            memory=round(config.mem_gb * GIB),
            max_retries=0,
        )

    def submit(self, request: RunRequest) -> int:
        """Hands the run to Ray, which starts it where there is room."""
        directory = RunDir(request.run_dir)
        directory.job_stop.unlink(missing_ok=True)
        threads = self._config.threads_per_run or self._config.cpus_per_task
        data = dataclasses.asdict(replace(request, num_threads=threads, slot=0))
        data["run_dir"] = str(request.run_dir)
        mem_bytes = self._config.mem_gb * GIB
        task = self._remote.remote(data, mem_bytes=mem_bytes, is_pretended=self._is_pretended)
        handle = len(self._tickets) + 1
        self._tickets[handle] = _Ticket(directory, task)
        return handle

    def reattach(self, run_dir: RunDir) -> int | None:
        """None: a task ends with the controller that submitted it."""
        return None

    def is_waiting(self, handle: int) -> bool:
        """Whether there was no room for the run yet, or its worker is still importing."""
        return not self._tickets[handle].run_dir.is_held()

    def poll(self, handle: int) -> Outcome | None:
        """How the run ended, or None."""
        ticket = self._tickets[handle]
        if self._ray.wait([ticket.task], timeout=0)[0] == []:
            return None
        ticket.is_done = True
        try:
            return Outcome(self._ray.get(ticket.task))
        except self._ray.exceptions.TaskCancelledError:
            return Outcome(EXIT_INTERRUPTED)
        except self._ray.exceptions.RayError as err:
            return Outcome(EXIT_FAILED, f"Ray: {_first_words(err)}")

    def cancel(self, handle: int, *, now: bool) -> None:
        """Takes a run that waits back; has one that runs checkpoint and stop, or ends it.

        What runs is told by a file: an interrupt of Ray's could hit the worker anywhere, and killing the worker
        would not end a run that hangs.
        """
        ticket = self._tickets[handle]
        rundir.write_json(ticket.run_dir.job_stop, "end" if now else "stop")
        if not ticket.run_dir.is_held():
            self._ray.cancel(ticket.task, force=False)

    def close(self) -> None:
        """Ends the runs that still go on, and leaves the cluster."""
        open_handles = [handle for handle, ticket in self._tickets.items() if not ticket.is_done]
        for handle in open_handles:
            self.cancel(handle, now=True)
        if tasks := [self._tickets[handle].task for handle in open_handles]:
            self._ray.wait(tasks, num_returns=len(tasks), timeout=END_WAIT_S)
        self._ray.shutdown()


def _first_words(err: Exception) -> str:
    """The cause of a task that raised, else Ray's own first sentence, without its advice on where its logs are."""
    cause = getattr(err, "cause", None)
    if cause is not None:
        return f"{type(cause).__name__}: {cause}".splitlines()[0]
    return next(iter(str(err).strip().splitlines()), type(err).__name__).partition(". ")[0]


__all__: Sequence[str] = ["RayExecutor"]
