"""A run of several processes: torch elastic starts them, watches them, and ends them together.

The caller of `run_group` holds the directory and waits; it does not train. A process that dies or hangs ends its group,
and the whole group is started again from its last checkpoint, each time with a meeting place of its own: a restart
within torch elastic 2.13 can read the addresses of the dead group.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any

from lora_bench.config.processes import GroupConfig
from lora_bench.config.schema import RunConfig
from lora_bench.errors import DiskError, ExecutionError, RecordError, RunInterrupted
from lora_bench.execution.base import EXIT_DISK, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_LOST, Outcome
from lora_bench.execution.lifeline import end_orphan, follow_parent
from lora_bench.launchers import forget_launcher
from lora_bench.records import RunResult
from lora_bench.rundir import RunDir
from lora_bench.training.observer import Observer

LOOK_S = 0.2
"""Seconds between two looks whether somebody asks the group to stop."""
YIELD_S = 1.0
"""Seconds for which a process that lost another one lets torch elastic see that one first, which says more."""
SHUTDOWN_S = 2
"""Seconds before a process is killed whose group has failed: it waits for one that is gone."""


@dataclass(frozen=True)
class Node:
    """One of the machines of a group."""

    index: int = 0
    host: str = ""
    """Address of the first machine, where all of them meet; empty for one machine, which meets over a file."""
    port: int = 0
    """Where the first group meets; the next ones, on those after it."""


@dataclass(frozen=True)
class Part:
    """What every process of a group is given."""

    config: RunConfig
    run_dir: RunDir
    num_threads: int = 1
    """CPU threads of one process."""
    memory_share: float = 1.0
    """Part of the free memory that one process may take."""
    command: str = ""
    observer: Observer | None = None
    """Of the first process."""
    meeting_file: Path | None = None
    is_asked: Any = None
    """A byte that all processes of a machine share: 1 asks them to stop."""
    notes: tuple[str, ...] = ()
    """What earlier groups of this call came to."""
    starter: int = 0
    """Process that started the group. Forks of it keep each other's pipes open, so only its number tells its end."""

    def is_asked_to_stop(self) -> bool:
        """Whether somebody wants the group to stop, or nobody is left to wait for it."""
        return bool(self.is_asked.value) or self.is_orphan()

    def is_orphan(self) -> bool:
        """Whether the starter is gone."""
        return os.getppid() != self.starter


def run_group(part: Part, *, stop_requested: Callable[[], bool], node: Node | None = None) -> RunResult | None:
    """As `run_benchmark`, with the processes that the configuration asks for; None on a machine that is not the first.

    Raises:
        ExecutionError: If a process failed, or the group died once more than `max_restarts`.
        As `run_benchmark`.
    """
    from lora_bench.benchmark import begin

    if node is not None and node.index > 0:
        recorded = None
        with contextlib.suppress(RecordError):  # the first machine moves it aside
            recorded = part.run_dir.read_result()
        if recorded is None or recorded.status == "failed":
            _start_groups(part, node, stop_requested)
        return None
    with part.run_dir.hold():
        recorded = begin(part.config, part.run_dir)
        if recorded is None:
            _start_groups(part, node or Node(), stop_requested)
            recorded = part.run_dir.read_result()
            assert recorded is not None, "a group ends with a record or an exception"
        if recorded.status == "failed":
            raise ExecutionError(recorded.error or "failed")
        return recorded


def _start_groups(part: Part, node: Node, stop_requested: Callable[[], bool]) -> None:
    """One group after the other, until one ends by itself."""
    from lora_bench.recorder import record_failure

    group = part.config.processes
    assert isinstance(group, GroupConfig), "one process needs no group"
    forget_launcher()  # torch elastic describes this group to its processes
    notes: list[str] = []
    for attempt in range(group.max_restarts + 1):
        codes = _start_group(replace(part, notes=tuple(notes)), node, attempt, stop_requested)
        if EXIT_INTERRUPTED in codes.values():
            raise RunInterrupted("stopped on request; the same command goes on from the last checkpoint")
        if EXIT_DISK in codes.values():
            raise DiskError(f"{part.run_dir.path}: {Outcome(EXIT_DISK).reason}")
        if part.run_dir.read_result() is not None or not any(codes.values()):
            return
        notes.append(f"group {attempt + 1} was lost: {_reason(codes)}; started again from the last checkpoint")
        print(notes[-1], flush=True)
    if node.index == 0:
        error = f"the group was lost {group.max_restarts + 1} times, at last: {_reason(codes)}"
        record_failure(part.config, part.run_dir, error)


def _reason(codes: dict[int, int]) -> str:
    causes = {rank: code for rank, code in codes.items() if code not in (0, EXIT_LOST)} or codes
    return ", ".join(f"process {rank}: {Outcome(code).reason}" for rank, code in sorted(causes.items()))


def _start_group(part: Part, node: Node, attempt: int, stop_requested: Callable[[], bool]) -> dict[int, int]:
    """Starts the processes of this machine and waits; their exit codes by rank, 0 for those that ended by themselves.

    Those that torch elastic ended because of another one are not among them.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    group = part.config.processes
    assert isinstance(group, GroupConfig), "one process needs no group"
    place = Path(tempfile.mkdtemp(prefix="lora-bench-group-"))
    is_asked = RawValue("b", 0)
    launch = LaunchConfig(
        min_nodes=group.nodes,
        max_nodes=group.nodes,
        nproc_per_node=group.count // group.nodes,
        run_id=f"{part.run_dir.path.name}-{attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{node.host}:{node.port + attempt}" if node.host else str(place / "agents"),
        rdzv_configs={"is_host": node.index == 0} if node.host else {"store_type": "file"},
        local_addr=node.host if node.host and node.index == 0 else None if node.host else "localhost",
        max_restarts=0,
        # From this process, which has the heavy imports loaded and has not touched CUDA.
        start_method="fork",
        signals_to_handle="SIGQUIT",
        shutdown_timeout=SHUTDOWN_S,
    )
    part = replace(
        part, meeting_file=None if node.host else place / "processes", is_asked=is_asked, starter=os.getpid()
    )
    watch = threading.Thread(target=_pass_on, args=(is_asked, stop_requested, done := threading.Event()), daemon=True)
    watch.start()
    try:
        codes: dict[int, int] = elastic_launch(launch, take_part)(part)
        return codes
    except ChildFailedError as err:
        return {rank: failure.exitcode for rank, failure in err.failures.items()}
    except RendezvousError as err:
        # The first machine keeps the meeting place, and takes it along when its part of the group ends.
        print(f"node {node.index}: {err}", flush=True)
        return {node.index * launch.nproc_per_node: EXIT_LOST}
    finally:
        done.set()
        watch.join()
        shutil.rmtree(place, ignore_errors=True)


def _pass_on(is_asked: Any, stop_requested: Callable[[], bool], done: threading.Event) -> None:
    while not done.wait(LOOK_S):
        if stop_requested():
            is_asked.value = 1


def take_part(part: Part) -> int:
    """The body of one process of a group; returns its exit code where all processes end alike, else it ends at once,
    so that torch elastic ends the others, which wait for it."""
    from lora_bench.benchmark import carry_out, failure_recorded
    from lora_bench.training.backends import make_backend
    from lora_bench.training.backends.group import is_from_elsewhere, join_group, leave_group

    group = part.config.processes
    assert isinstance(group, GroupConfig), "one process needs no group"
    _settle(part)
    end_orphan(part.is_orphan)
    code = 0
    try:
        with failure_recorded(part.config, part.run_dir):
            join_group(group, meeting_file=part.meeting_file)
            result = carry_out(
                part.config,
                part.run_dir,
                make_backend(group),
                observer=part.observer,
                command=part.command,
                stop_requested=part.is_asked_to_stop,
                notes=part.notes,
            )
        leave_group()
        code = EXIT_FAILED if result is not None and result.status == "oom" else 0
    except RunInterrupted:
        code = EXIT_INTERRUPTED
    except DiskError as err:
        print(err, flush=True)
        code = EXIT_DISK
    except Exception as err:
        traceback.print_exc()
        code = EXIT_LOST if is_from_elsewhere(err) else EXIT_FAILED
    _end_with_starter(part)
    if code not in (0, EXIT_INTERRUPTED):
        sys.stdout.flush()
        time.sleep(YIELD_S if code == EXIT_LOST else 0)
        os._exit(code)
    return code


def _end_with_starter(part: Part) -> None:
    """From here on torch elastic waits until the starter has taken the exit code, for ever if that one is gone."""
    follow_parent(signal.SIGKILL, part.starter)


def _settle(part: Part) -> None:
    """Signals are for the process that started the group, which asks all of them to stop at the same step."""
    import torch

    from lora_bench.execution.local import limit_memory

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if part.meeting_file is not None:
        os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(part.num_threads)
    limit_memory(part.memory_share)
