"""The door to Slurm's own commands: what is in the queue, what became of a job, what the cluster has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from lora_bench.errors import ExecutionError

WAITING = frozenset(
    ["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "STOPPED"]
)
"""States in which nothing of a job runs, see squeue(1)."""
ALIVE = WAITING | {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT"}
"""States of a job that has not ended."""
REQUEUED_SOON = frozenset(["NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])
"""Ends after which Slurm queues a job again by itself, a moment later."""
ANSWER_S = 30
"""A command of Slurm that takes longer has no controller to talk to."""


@dataclass(frozen=True)
class Partition:
    """What jobs may ask of one partition."""

    name: str
    is_default: bool
    time_limit: str
    nodes: int
    cpus: str
    """Of a node; with a `+` where nodes differ."""
    memory_mib: str
    gres: str

    def __str__(self) -> str:
        gpus = "" if self.gres in ("", "(null)") else f", {self.gres}"
        limit = "no time limit" if self.time_limit == "infinite" else f"up to {self.time_limit}"
        star = " (the default)" if self.is_default else ""
        return f"{self.name}{star}: {self.nodes} nodes of {self.cpus} CPUs, {self.memory_mib} MiB{gpus}, {limit}"


def has_slurm() -> bool:
    """Whether Slurm's commands are on this machine."""
    return shutil.which("sbatch") is not None


def ask(*words: str) -> str:
    """What a command of Slurm prints.

    Raises:
        ExecutionError: With its own words, if it fails or does not answer.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ExecutionError(f"{words[0]}: {err}; is this a machine of the cluster?") from err
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ExecutionError(f"{words[0]}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


def queue() -> dict[str, str]:
    """Job -> state, of every job of ours that Slurm still knows; those that ended minutes ago are gone."""
    lines = ask("squeue", "--me", "--noheader", "--states=all", "--format=%i|%T").splitlines()
    return dict(line.strip().split("|", 1) for line in lines if "|" in line)


def accounted_state(job_id: str) -> str:
    """What the accounting says of a job that has ended, in words; it may know nothing, where there is none."""
    try:
        lines = ask("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", job_id, "--format=State,ExitCode")
    except ExecutionError:
        return f"job {job_id} ended without a word"
    state, _, code = lines.strip().partition("|")
    return f"job {job_id}: {state}, exit code {code}" if state else f"job {job_id} ended without a word"


def end(job_ids: Sequence[str]) -> None:
    """Takes jobs out of the queue, or kills them; those that have ended already are left alone."""
    if job_ids:
        ask("scancel", "--quiet", *job_ids)


def send_signal(job_id: str, name: str) -> None:
    """Sends a signal to the processes of a running job; nothing happens if it has ended."""
    ask("scancel", "--quiet", f"--signal={name}", job_id)


def requeue(job_id: str) -> bool:
    """Has Slurm end a job and queue it again; False if it may not be."""
    try:
        ask("scontrol", "requeue", job_id)
    except ExecutionError:
        return False
    return True


def first_address() -> str:
    """Where the first machine of this job is reached; to be called within a job."""
    name = ask("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()[0]
    found = re.search(r"NodeAddr=(\S+)", ask("scontrol", "show", "node", name))
    return found[1] if found is not None else name


def partitions() -> list[Partition]:
    """What the cluster has."""
    lines = ask("sinfo", "--noheader", "--format=%P|%l|%D|%c|%m|%G").splitlines()
    rows = [line.strip().split("|") for line in lines]
    return [Partition(row[0].rstrip("*"), row[0].endswith("*"), row[1], int(row[2]), *row[3:6]) for row in rows]
