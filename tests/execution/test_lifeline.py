"""Oracle: exit codes that the kernel gives of real forks."""

from __future__ import annotations

import os
import signal
import time

import psutil

from lora_bench.execution.base import EXIT_INTERRUPTED
from lora_bench.execution.lifeline import end_orphan, follow_parent


def fork(body):
    """The number of a child that carries out `body` and ends with 0."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    return pid


def end_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_orphan_that_takes_no_step_ends_after_its_grace():
    def wait_for_ever():
        begun_s = time.monotonic()
        end_orphan(lambda: time.monotonic() - begun_s > 0.1, grace_s=0.2, look_s=0.01)
        time.sleep(60)

    begun_s = time.monotonic()
    assert end_of(fork(wait_for_ever)) == EXIT_INTERRUPTED
    assert 0.3 <= time.monotonic() - begun_s < 10


def test_a_process_with_a_controller_is_left_alone():
    def work():
        end_orphan(lambda: False, grace_s=0, look_s=0.01)
        time.sleep(0.2)

    assert end_of(fork(work)) == 0


def test_the_kernel_ends_a_process_with_its_parent(tmp_path):
    def parent():
        def child():
            follow_parent(signal.SIGKILL)
            (tmp_path / "partial").write_text(str(os.getpid()))
            (tmp_path / "partial").rename(tmp_path / "child")
            time.sleep(60)

        fork(child)
        while not (tmp_path / "child").exists():
            time.sleep(0.01)

    assert end_of(fork(parent)) == 0
    child, end = int((tmp_path / "child").read_text()), time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "it outlived its parent"
        time.sleep(0.01)


def test_a_parent_that_is_gone_already_counts_as_well():
    assert end_of(fork(lambda: follow_parent(signal.SIGKILL, os.getpid()))) == -signal.SIGKILL
    own = os.getpid()
    assert end_of(fork(lambda: follow_parent(signal.SIGKILL, own))) == 0
