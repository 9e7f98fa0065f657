"""Runs as jobs of a Slurm cluster: submit, poll, cancel, and take up again the jobs of a controller that died.

submitit writes the batch scripts and submits them; its own job objects are not used, since they pass pickles, and
look at the queue at gaps that grow to ten minutes. How a run ended stands in its directory, which the job shares
with us; the queue tells of jobs that ended without writing it.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_bench import rundir
from lora_bench.config.executor import SlurmExecutorConfig
from lora_bench.errors import ConfigError, ExecutionError, Fault
from lora_bench.execution import cluster
from lora_bench.execution.base import EXIT_INTERRUPTED, EXIT_TIME, Outcome, RunRequest
from lora_bench.rundir import RunDir

LOOK_S = 1.0
"""Seconds between two looks at the queue; one look is for all jobs."""
SETTLE_S, REQUEUE_S = 3.0, 20.0
"""Seconds after its end for which a job is given time: for its files to arrive, and for Slurm to queue it again."""


@dataclass
class _Ticket:
    """One run that was given to us."""

    run_dir: RunDir
    request: RunRequest | None
    """None for a run that was taken up again."""
    job_id: str | None = None
    is_cancelled: bool = False
    is_done: bool = False
    """Whether its outcome was told."""
    ended_s: float | None = None
    """When its job was first seen to have ended."""


class SlurmExecutor:
    """Called by the controller only. Handles are numbers of ours; jobs keep their ids in the run directories."""

    def __init__(self, config: SlurmExecutorConfig, folder: Path, *, is_pretended: bool = False) -> None:
        """Submits nothing yet; scripts and the logs of the jobs themselves go to `folder`, which nodes must share."""
        self._config = config
        self._folder = folder
        self._is_pretended = is_pretended
        self._tickets: dict[int, _Ticket] = {}
        self._batch: list[_Ticket] = []
        self._states: dict[str, str] = {}
        self._looked_s = -LOOK_S

    def submit(self, request: RunRequest) -> int:
        """Submits the run, or keeps it until `trials_per_job` are there or the next `poll`."""
        threads = self._config.threads_per_run or self._config.cpus_per_task
        request = replace(request, num_threads=threads, memory_share=1.0, slot=0)
        ticket = _Ticket(RunDir(request.run_dir), request)
        if any(waiting.request and waiting.request.num_nodes != request.num_nodes for waiting in self._batch):
            self._submit_batch()
        self._batch.append(ticket)
        if len(self._batch) >= self._config.trials_per_job:
            self._submit_batch()
        return self._register(ticket)

    def reattach(self, run_dir: RunDir) -> int | None:
        """A handle for a run whose job is still in the queue or running."""
        job_id = _read(run_dir.job).get("job_id")
        if job_id is None or _read(run_dir.job_end).get("job_id") == job_id:
            return None
        if self._look().get(job_id) not in cluster.ALIVE | cluster.REQUEUED_SOON:
            return None
        return self._register(_Ticket(run_dir, None, job_id))

    def is_waiting(self, handle: int) -> bool:
        """Whether its job is in the queue, or carries out the runs before it."""
        ticket = self._tickets[handle]
        state = self._states.get(ticket.job_id or "", "PENDING")
        return state in cluster.WAITING or not ticket.run_dir.is_held()

    def poll(self, handle: int) -> Outcome | None:
        """How the run ended, or None. A cluster that does not answer is asked again by the next call."""
        self._submit_batch()
        ticket = self._tickets[handle]
        outcome = self._outcome(ticket)
        ticket.is_done = outcome is not None
        return outcome

    def _outcome(self, ticket: _Ticket) -> Outcome | None:
        end = _read(ticket.run_dir.job_end)
        code = int(end["exit_code"]) if end.get("job_id") == ticket.job_id else None
        if code is not None and (code != EXIT_INTERRUPTED or ticket.is_cancelled):
            return Outcome(code)
        state = self._look().get(ticket.job_id or "", "GONE")
        if state in cluster.ALIVE:
            ticket.ended_s = None
            return None
        return self._outcome_of_ended(ticket, state)

    def cancel(self, handle: int, *, now: bool) -> None:
        """Takes a job that waits out of the queue; has one that runs checkpoint and stop, or ends it."""
        ticket = self._tickets[handle]
        if ticket in self._batch:
            self._batch.remove(ticket)
            rundir.write_json(ticket.run_dir.job_end, {"job_id": None, "exit_code": EXIT_INTERRUPTED})
        elif ticket.job_id is not None:
            if now or self._look().get(ticket.job_id) in cluster.WAITING:
                cluster.end([ticket.job_id])
            elif not ticket.is_cancelled:
                cluster.send_signal(ticket.job_id, "TERM")
        ticket.is_cancelled = True

    def close(self) -> None:
        """Ends every job that has runs which still go on."""
        begun = [ticket.job_id for ticket in self._tickets.values() if ticket.job_id and not ticket.is_done]
        cluster.end(list(dict.fromkeys(begun)))

    def _register(self, ticket: _Ticket) -> int:
        handle = len(self._tickets) + 1
        self._tickets[handle] = ticket
        return handle

    def _outcome_of_ended(self, ticket: _Ticket, state: str) -> Outcome | None:
        """After a while: the files of a job may be late, and some ends are none."""
        assert ticket.job_id is not None, "its batch was submitted"
        ticket.ended_s = ticket.ended_s or time.monotonic()
        patience_s = REQUEUE_S if state in cluster.REQUEUED_SOON else SETTLE_S
        if ticket.run_dir.result.exists():
            return Outcome(0)
        if time.monotonic() - ticket.ended_s < patience_s:
            return None
        if ticket.is_cancelled:
            return Outcome(EXIT_INTERRUPTED)
        if _read(ticket.run_dir.job_end).get("job_id") == ticket.job_id:
            return Outcome(EXIT_TIME)
        return Outcome(1, cluster.accounted_state(ticket.job_id))

    def _look(self) -> dict[str, str]:
        if time.monotonic() - self._looked_s >= LOOK_S:
            self._looked_s = time.monotonic()
            try:
                self._states = cluster.queue()
            except ExecutionError:  # a controller of Slurm that is restarted; jobs go on without it
                known = {ticket.job_id: "RUNNING" for ticket in self._tickets.values() if ticket.job_id}
                self._states = known | self._states
        return self._states

    def _submit_batch(self) -> None:
        if not self._batch:
            return
        tickets, self._batch = self._batch, []
        requests = [ticket.request for ticket in tickets if ticket.request is not None]
        names = [ticket.run_dir.path.name for ticket in tickets]
        job_id = submit_job(
            self._config,
            self._folder,
            name=f"{requests[0].label}:{names[0]}",
            task={"is_pretended": self._is_pretended, "requests": [_as_data(request) for request in requests]},
            num_nodes=requests[0].num_nodes,
        )
        for ticket in tickets:
            ticket.job_id = job_id
            rundir.write_json(ticket.run_dir.job, {"job_id": job_id, "runs": names})
        self._states[job_id] = "PENDING"


def submit_job(
    config: SlurmExecutorConfig, folder: Path, *, name: str, task: dict[str, Any], num_nodes: int = 1
) -> str:
    """Submits `lora_bench.execution.job` with this task; returns the id of the job.

    Raises:
        ExecutionError: With Slurm's own words, if it refuses.
    """
    from submitit.core.utils import FailedJobError

    file = folder / "tasks" / f"{uuid.uuid4().hex}.json"
    rundir.write_json(file, task)
    executor = _submitit_executor(config, folder, name=name, num_nodes=num_nodes)
    command = shlex.join([sys.executable, "-u", "-m", "lora_bench.execution.job", str(file)])
    try:
        return str(executor._submit_command(command).job_id)
    except FailedJobError as err:
        raise ExecutionError(f"sbatch: {str(err).strip().splitlines()[-1]}") from err


def check_request(config: SlurmExecutorConfig, folder: Path, *, num_nodes: int = 1) -> None:
    """Asks Slurm whether it would ever run such a job.

    Raises:
        ConfigError: With Slurm's own words and with what the cluster offers, if it would not.
    """
    if not cluster.has_slurm():
        problem = "slurm, but there is no sbatch on this machine; give the command on one that can submit jobs"
        raise ConfigError([Fault("executor", problem)])
    executor = _submitit_executor(config, folder, name="test", num_nodes=num_nodes)
    script = folder / "test.sh"
    rundir.write_text(script, executor._make_submission_file_text("true", ""))
    try:
        cluster.ask("sbatch", "--test-only", str(script))
    except ExecutionError as err:
        raise ConfigError([Fault("executor", f"{err}; {_offers()}")]) from err


def _offers() -> str:
    try:
        return f"the cluster offers {'; '.join(map(str, cluster.partitions()))}"
    except ExecutionError:
        return "no cluster answers on this machine"


def _submitit_executor(config: SlurmExecutorConfig, folder: Path, *, name: str, num_nodes: int) -> Any:
    import submitit

    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder)
    chosen = {
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        "gpus_per_node": config.gpus_per_node or None,
        "setup": config.setup or None,
    }
    executor.update_parameters(
        job_name=name,
        nodes=num_nodes,
        ntasks_per_node=1,
        time=config.timeout_min,
        cpus_per_task=config.cpus_per_task,
        mem=f"{round(config.mem_gb * 1024)}MB",
        signal_delay_s=config.signal_delay_s,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True},
        **{key: value for key, value in chosen.items() if value is not None},
    )
    return executor


def _as_data(request: RunRequest) -> dict[str, Any]:
    return {**dataclasses.asdict(request), "run_dir": str(request.run_dir)}


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file, or an empty mapping while it is not there."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


__all__: Sequence[str] = ["SlurmExecutor", "check_request", "submit_job"]
