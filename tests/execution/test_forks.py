"""Real servers and real signals. Oracle: exit codes, what a process left in its folder, and the kernel's tables."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
from support import fork_bodies

from lora_bench.execution import Outcome
from lora_bench.execution.base import EXIT_INTERRUPTED, EXIT_UNSTARTED, EXIT_UNWATCHED
from lora_bench.execution.forks import Fork, _in_words, set_preload

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_server(monkeypatch):
    """A server without heavy imports for this test alone."""
    # Python 3.11's server does not take over the path of its parent, and passes over what it cannot import.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    before = forkserver._forkserver._preload_modules
    forkserver._forkserver._stop()
    set_preload(["lora_bench.execution.local"])
    yield
    if is_alive(pid := forkserver._forkserver._forkserver_pid):
        os.kill(pid, signal.SIGKILL)
    forkserver._forkserver._preload_modules = before


def is_alive(pid):
    return pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait(look, *, limit_s=60.0):
    """What `look` gives, once it gives something."""
    end = time.monotonic() + limit_s
    while (found := look()) is None or found is False:
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
    return found


def began(folder, fork=None):
    """The number of the process that told that it has begun, which its starter may learn a moment later."""
    if fork is not None:
        wait(lambda: fork.pid)
    return wait(lambda: int((folder / "began").read_text()) if (folder / "began").exists() else None)


def server():
    return wait(lambda: forkserver._forkserver._forkserver_pid)


def test_a_process_ends_with_its_own_exit_code(tmp_path):
    fork = Fork(fork_bodies.wait_for_go, tmp_path)
    assert began(tmp_path, fork) == fork.pid
    assert fork.poll() is None
    (tmp_path / "go").touch()
    assert wait(fork.poll) == Outcome(3)
    assert fork.poll() == Outcome(3)


def test_ended_processes_keep_no_files_open(tmp_path):
    wait(Fork(fork_bodies.nothing, tmp_path).poll)
    before = len(os.listdir("/proc/self/fd"))
    forks = [Fork(fork_bodies.nothing, tmp_path) for _ in range(10)]
    assert [wait(fork.poll) for fork in forks] == [Outcome(0)] * 10
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_not_for_the_server(tmp_path, number):
    set_preload(["support.slow_import"])
    fork = Fork(fork_bodies.nothing, tmp_path)
    for _ in range(20):  # from its first moment, through its imports
        os.kill(server(), number)
        time.sleep(0.01)
    assert wait(fork.poll) == Outcome(0)
    assert os.getpgid(server()) != os.getpgrp()


def test_a_server_that_is_killed_while_it_imports_is_started_again(tmp_path):
    set_preload(["support.slow_import"])
    fork = Fork(fork_bodies.nothing, tmp_path)
    first = server()
    time.sleep(0.2)
    os.kill(first, signal.SIGKILL)
    assert wait(fork.poll) == Outcome(0)
    assert server() != first


def test_a_server_that_is_always_killed_is_said(tmp_path):
    set_preload(["support.deadly_import"])
    outcome = wait(Fork(fork_bodies.nothing, tmp_path).poll)
    assert outcome.exit_code == EXIT_UNSTARTED
    assert "the server that runs are forked from ended 3 times while it started" in outcome.reason


def test_a_process_goes_on_when_its_server_is_killed_and_its_end_is_seen(tmp_path):
    fork = Fork(fork_bodies.wait_for_go, tmp_path)
    began(tmp_path, fork)
    os.kill(server(), signal.SIGKILL)
    time.sleep(0.2)
    assert fork.poll() is None
    assert is_alive(fork.pid)
    (tmp_path / "go").touch()
    assert wait(fork.poll).exit_code == EXIT_UNWATCHED
    assert wait(Fork(fork_bodies.nothing, tmp_path).poll) == Outcome(0)


def test_a_process_whose_server_was_killed_can_be_ended(tmp_path):
    fork = Fork(fork_bodies.stay, tmp_path)
    pid = began(tmp_path, fork)
    os.kill(server(), signal.SIGKILL)
    wait(lambda: not is_alive(forkserver._forkserver._forkserver_pid))
    fork.cancel(now=True)
    assert wait(fork.poll).exit_code == EXIT_UNWATCHED
    assert not is_alive(pid)


def test_a_process_that_has_not_begun_is_cancelled_at_once(tmp_path):
    set_preload(["support.slow_import"])
    fork = Fork(fork_bodies.stay, tmp_path)
    server()
    assert fork.is_starting
    fork.cancel(now=False)
    assert fork.poll() == Outcome(EXIT_INTERRUPTED, "stopped before it began")
    # The next one comes after it, so by then it would have begun.
    (tmp_path / "next").mkdir()
    assert wait(Fork(fork_bodies.nothing, tmp_path / "next").poll) == Outcome(0)
    time.sleep(0.1)
    assert not (tmp_path / "began").exists() or not is_alive(began(tmp_path))


def test_a_signal_before_a_process_listens_is_heard_when_it_does(tmp_path):
    fork = Fork(fork_bodies.listen_late, tmp_path)
    began(tmp_path, fork)
    fork.cancel(now=False)
    assert wait(fork.poll) == Outcome(4)


CONTROLLER = """
import sys, time
from pathlib import Path
from multiprocessing import forkserver
from support import fork_bodies
from lora_bench.execution.forks import Fork, _in_words, set_preload
if __name__ == "__main__":
    set_preload(sys.argv[2:])
    fork = Fork(fork_bodies.stay, Path(sys.argv[1]))
    while forkserver._forkserver._forkserver_pid is None:
        time.sleep(0.01)
    print(forkserver._forkserver._forkserver_pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(("preload", "has_begun"), [("support.slow_import", False), ("lora_bench.rundir", True)])
def test_a_server_ends_with_its_controller_while_it_imports_and_while_a_run_goes_on(tmp_path, preload, has_begun):
    script = tmp_path / "controller.py"
    script.write_text(CONTROLLER)
    controller = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), preload], stdout=subprocess.PIPE, text=True
    )
    pid = int(controller.stdout.readline())
    run = began(tmp_path) if has_begun else time.sleep(0.3)
    controller.kill()
    controller.wait()
    wait(lambda: not is_alive(pid), limit_s=2)
    if run is not None:
        os.kill(run, signal.SIGKILL)


def test_too_many_open_files_are_said_with_the_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = _in_words(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert said == f"{soft} files may be open at a time; give more (ulimit -n {hard if hard > soft else 1024})"
