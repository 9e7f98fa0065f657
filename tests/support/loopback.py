"""A namespace of its own for programs that listen on every interface: it has loopback and nothing else."""

from __future__ import annotations

import os
import subprocess
import tempfile

import psutil
from support.studies import ROOT

SETUP = "ip link set lo up && mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && echo up && cat"
"""Loopback, and a folder in which Ray's notes of where its cluster is do not reach other processes."""


class Loopback:
    """Everything in it ends with it, and it with us, however we end: its first process waits for our end of a pipe."""

    def __init__(self) -> None:
        """Needs root, and a container that lets it: see `is_possible`."""
        words = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", SETUP]
        self._holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n", "no namespace could be made"
        (first,) = psutil.Process(self._holder.pid).children()
        self.prefix = ["nsenter", f"--target={first.pid}", "--net", "--pid", "--mount", f"--wd={ROOT}"]
        """What a command begins with that is to run inside, from the root of the repository."""

    @staticmethod
    def is_possible() -> bool:
        """Whether this process may make one."""
        words = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"]
        return os.getuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0

    def run(self, *words: str) -> str:
        """Runs a command inside; returns what it printed. What it leaves running may keep its output open."""
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run([*self.prefix, *words], stdout=output, stderr=subprocess.STDOUT, check=False)
            output.seek(0)
            said = output.read()
        assert done.returncode == 0, said
        return said

    def close(self) -> None:
        """Ends everything inside."""
        self._holder.communicate()


def inner_process(process: subprocess.Popen[str]) -> psutil.Process:
    """What was started by a command with the prefix, which itself only waits for it."""
    (inner,) = psutil.Process(process.pid).children()
    return inner
