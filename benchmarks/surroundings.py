"""What a benchmark is measured on, and what else the machine does meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any

import psutil
import torch

from lora_bench.measure import machine
from lora_bench.records import GIB

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


def describe_machine() -> dict[str, Any]:
    """What the times depend on."""
    fast = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "cpu": machine.cpu_name(), "cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads(),
        "flags": [flag for flag in fast if flag in machine.cpu_flags()],
        "memory_gib": psutil.virtual_memory().total / GIB,
        "versions": machine.library_versions(), "commit": machine.source_commit()[0],
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "load_average_before": os.getloadavg(),
    }  # fmt: skip


def others_busy_s() -> float:
    """Seconds that all cores have worked for processes that are not ours, since the machine started.

    Ours are this process and those that it has waited for.
    """
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - sum(os.times()[:4]))


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave running, so that it can wait for that too (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_leftovers() -> None:
    """Until no process that was started here, at any remove, is left; none of them may still be held as a Popen."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
