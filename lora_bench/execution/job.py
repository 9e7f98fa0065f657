"""What a job of a cluster carries out: `python -m lora_bench.execution.job FILE`.

The file is JSON, written by `SlurmExecutor`: runs, one after the other, each in a process of its own that is forked
from this one with the heavy imports loaded; or a command, the controller's. On several machines each carries it out,
and takes its part in each run. Before the job's time is over (SIGUSR2) a
run checkpoints, and the job has itself queued again.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lora_bench import rundir
from lora_bench.execution import cluster
from lora_bench.execution.base import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TIME, RunRequest
from lora_bench.execution.lifeline import follow_parent
from lora_bench.execution.local import WARM, StopFlag, print_to, stop_on_signals
from lora_bench.rundir import RunDir

Body = Callable[[RunDir, RunRequest, StopFlag], int]
TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""Slurm sends them to every process of a job."""
END_WAIT_S = 120
"""A job that is queued again is ended by Slurm within this time."""


def main(arguments: Sequence[str]) -> int:
    """Carries out the file; returns the exit code of the job."""
    task, job_id = json.loads(Path(arguments[0]).read_text(encoding="utf-8")), os.environ["SLURM_JOB_ID"]
    if "command" in task:
        return _carry_command(task["command"], job_id)
    requests = [_request_from(data) for data in task["requests"]]
    for request in requests:
        if request.node == 0:
            # Of an earlier life of this job.
            RunDir(request.run_dir).job_end.unlink(missing_ok=True)
    return _carry_runs(requests, _load_body(is_pretended=task["is_pretended"]), job_id)


def _carry_runs(requests: Sequence[RunRequest], body: Body, job_id: str) -> int:
    with stop_on_signals(TOLD, dies_on_second=False) as stop:
        for request in requests:
            code = EXIT_INTERRUPTED if stop.is_requested() else _run_apart(request, body, stop)
            if request.node > 0:
                continue  # the first machine says how the run ended
            if code == EXIT_INTERRUPTED and signal.SIGUSR2 in stop.signals:
                if cluster.requeue(job_id):
                    time.sleep(END_WAIT_S)
                code = EXIT_TIME
            rundir.write_json(RunDir(request.run_dir).job_end, {"job_id": job_id, "exit_code": code})
    return 0


def _run_apart(request: RunRequest, body: Body, stop: StopFlag) -> int:
    """The run in a process of its own, which has the handlers and the flag of this one."""
    own = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = EXIT_FAILED
        try:
            follow_parent(signal.SIGTERM, own)  # Slurm may kill one process of a job and leave the others
            directory = RunDir(request.run_dir)
            print_to(directory.log)
            code = body(directory, request, stop)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _carry_command(command: Sequence[str], job_id: str) -> int:
    """The controller: when the job's time is over it is killed, which it is made for, and goes on in the next life.

    The jobs of its runs go on meanwhile.
    """
    with stop_on_signals((signal.SIGUSR2,), dies_on_second=False) as stop:
        process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN))
        while process.poll() is None:
            if stop.is_requested():
                process.kill()
                process.wait()
                if cluster.requeue(job_id):
                    time.sleep(END_WAIT_S)
                return EXIT_TIME
            time.sleep(0.2)
    return process.returncode


def _load_body(*, is_pretended: bool) -> Body:
    """With the imports that its runs share."""
    if is_pretended:
        from lora_bench.execution.pretend import pretend_to_train

        return pretend_to_train
    from lora_bench.execution.local import train

    importlib.import_module(WARM)

    return train


def _request_from(data: dict[str, Any]) -> RunRequest:
    of_node: dict[str, Any] = {"memory_share": _memory_share()}
    if data["num_nodes"] > 1:
        of_node |= {"node": int(os.environ["SLURM_NODEID"]), "meeting": cluster.first_address()}
    return RunRequest(**{**data, "run_dir": Path(data["run_dir"]), **of_node})


def _memory_share() -> float:
    """The part of the node's free memory that this job asked for."""
    from lora_bench.measure.memory import share_of_available

    asked_mib = os.environ.get("SLURM_MEM_PER_NODE")
    return share_of_available(int(asked_mib) * 2**20) if asked_mib else 1.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
