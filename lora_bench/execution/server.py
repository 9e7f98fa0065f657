"""Imported first by the server that runs are forked from, before the heavy imports; elsewhere it does nothing.

The server is a process of the controller's own, so signals that are meant for the controller and reach its whole
process group (Ctrl-C, `timeout`, Slurm) are not for the server. It was started with SIGINT and SIGTERM blocked, which
covers the time until here and is inherited by runs, that unblock them when they listen.
"""

from __future__ import annotations

import os
import signal
import sys

from lora_bench.execution.lifeline import follow_parent

PARENT = "LORA_BENCH_SERVER_PARENT"
"""Variable of the environment with the number of the process that starts a server."""


def is_server() -> bool:
    """Whether this process is a fork server of the standard library."""
    return any(word.startswith("from multiprocessing.forkserver import main") for word in sys.orig_argv)


if is_server():
    # Else it would go on importing for seconds after its controller has been killed.
    follow_parent(signal.SIGKILL, int(os.environ.get(PARENT, os.getppid())))
    os.setpgid(0, 0)
