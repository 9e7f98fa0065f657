"""Processes forked from a server of the standard library, that are started without waiting and survive its end.

`multiprocessing.Process.start` blocks while the server imports, fails if it is killed meanwhile, and takes its later
end for that of all its processes. Here a thread starts them, the server is started again when it is gone, and a process
is watched by a handle of its own.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import queue
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.popen_forkserver import Popen
from typing import Any

from lora_bench.execution.base import EXIT_INTERRUPTED, EXIT_UNSTARTED, EXIT_UNWATCHED, Outcome
from lora_bench.execution.server import PARENT

FIRST = "lora_bench.execution.server"
BLOCKED = (signal.SIGINT, signal.SIGTERM)
"""Signals that a server never hears, and that its forks hear when they have unblocked them."""
MAX_STARTS = 3
"""Servers that may be lost while one process is being started."""
LOST_S = 0.1
SERVER_GONE = 255
"""What the standard library gives as the exit code of every process whose server is gone."""


class Fork:
    """One process, from the request to its end."""

    def __init__(self, body: Callable[[Any], None], argument: Any) -> None:
        """Has it started in a while; `argument` is pickled."""
        self._process = multiprocessing.get_context("forkserver").Process(target=body, args=(argument,))
        self._lock = threading.Lock()
        self._popen: Popen | None = None
        self._handle: int | None = None
        self._outcome: Outcome | None = None
        _STARTER.put(self)

    @property
    def is_starting(self) -> bool:
        """Whether it has not begun yet."""
        return self._popen is None and self._outcome is None

    @property
    def pid(self) -> int | None:
        """Its number, once it has been started."""
        return None if self._popen is None else int(self._popen.pid)

    def poll(self) -> Outcome | None:
        """How it ended, or None."""
        with self._lock:
            if self._outcome is None and self._popen is not None:
                self._outcome = self._look(self._popen)
            return self._outcome

    def cancel(self, *, now: bool) -> None:
        """Send SIGTERM, or SIGKILL. A process that has not begun never does."""
        with self._lock:
            if self.is_starting:
                self._outcome = Outcome(EXIT_INTERRUPTED, "stopped before it began")
            elif self._outcome is None:
                self._send(signal.SIGKILL if now else signal.SIGTERM)

    def start(self) -> None:
        """Called by the thread that starts processes."""
        if self._outcome is not None:
            return
        lost: list[str] = []
        while len(lost) < MAX_STARTS:
            try:
                popen = _start(self._process)
            except (EOFError, ConnectionError) as err:
                lost.append(f"{type(err).__name__}: {err}")
                time.sleep(LOST_S)  # the kernel may not have ended it yet
            except Exception as err:  # it is for the controller to say, which polls
                self._fail(_in_words(err))
                return
            else:
                self._adopt(popen)
                return
        self._fail(f"the server that runs are forked from ended {MAX_STARTS} times while it started ({lost[-1]})")

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._outcome = self._outcome or Outcome(EXIT_UNSTARTED, f"it could not be started: {reason}")

    def _adopt(self, popen: Popen) -> None:
        with self._lock:
            self._popen = popen
            try:
                self._handle = os.pidfd_open(popen.pid)
            except ProcessLookupError:
                self._handle = None  # it has ended already, and the server has its exit code
            if self._outcome is not None:  # cancelled meanwhile
                self._send(signal.SIGKILL)
                self._close(popen)

    def _send(self, number: int) -> None:
        if self._handle is not None and not _has_ended(self._handle):
            signal.pidfd_send_signal(self._handle, number)

    def _look(self, popen: Popen) -> Outcome | None:
        code = popen.poll()
        if code is None:
            return None
        if code == SERVER_GONE:
            if self._handle is not None and not _has_ended(self._handle):
                return None
            self._close(popen)
            return Outcome(
                EXIT_UNWATCHED, "ended while nobody watched it: the server that it was forked from was killed"
            )
        self._close(popen)
        return Outcome(code)

    def _close(self, popen: Popen) -> None:
        """Three files a process: a long study would run out of them."""
        popen.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def set_preload(modules: Sequence[str]) -> None:
    """What the next server imports before it forks; a server that runs already is kept."""
    forkserver.set_forkserver_preload([FIRST, *modules])


def _start(process: Any) -> Popen:
    # Starting the tracker unblocks the signals, so it comes first.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    os.environ[PARENT] = str(os.getpid())
    return Popen(process)


def _in_words(err: Exception) -> str:
    if isinstance(err, OSError) and err.errno == errno.EMFILE:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{soft} files may be open at a time; give more (ulimit -n {hard if hard > soft else 1024})"
    return f"{type(err).__name__}: {err}"


def _has_ended(handle: int) -> bool:
    look = select.poll()
    look.register(handle, select.POLLIN)
    return bool(look.poll(0))


class _Starter:
    """One thread for the whole life of this process: the kernel kills a server when the thread that started it ends."""

    def __init__(self) -> None:
        self._pid = 0
        self._forks: queue.SimpleQueue[Fork] = queue.SimpleQueue()

    def put(self, fork: Fork) -> None:
        """Have a process started after those that were put before."""
        if self._pid != os.getpid():  # the first time, or in a fork, which has no other threads
            self._pid, self._forks = os.getpid(), queue.SimpleQueue()
            threading.Thread(target=self._serve, daemon=True, name="starts forks").start()
        self._forks.put(fork)

    def _serve(self) -> None:
        while True:
            self._forks.get().start()


_STARTER = _Starter()
