"""What ends a process whose parent, or whose controller, is gone."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable

from lora_bench.execution.base import EXIT_INTERRUPTED

PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process is sent when its parent ends."""
GRACE_S = 300.0
"""Seconds that an orphan has for its step and its checkpoint."""
LOOK_S = 1.0


def follow_parent(number: int, parent: int | None = None) -> None:
    """Has the kernel send this process a signal when the thread that started it ends; not inherited by forks.

    With the number of the parent, one that is gone already counts as well.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def end_orphan(is_orphan: Callable[[], bool], *, grace_s: float = GRACE_S, look_s: float = LOOK_S) -> None:
    """Ends this process when it has been an orphan for `grace_s`, whatever it waits for.

    An orphan stops by itself at its next step; one that waits for a process that is gone, or for a disk, takes no step.
    """

    def watch() -> None:
        while not is_orphan():
            time.sleep(look_s)
        time.sleep(grace_s)
        os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=watch, daemon=True, name="end_orphan").start()
