"""Oracle: the kernel's locks, taken by hand."""

from __future__ import annotations

import fcntl
import os
import threading
import time

import pytest

from lora_bench import rundir
from lora_bench.errors import StudyError
from lora_bench.search.studydir import StudyDir


def test_a_look_at_the_lock_keeps_no_controller_from_its_study(tmp_path):
    directory = StudyDir(tmp_path / "mine")
    with directory.hold():
        pass
    handle = os.open(directory.lock, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)  # as `lora-bench studies` does for a moment
    threading.Timer(0.1, os.close, (handle,)).start()
    with directory.hold():
        assert directory.holder()["pid"] == os.getpid()


def test_a_controller_that_has_just_begun_is_named(tmp_path):
    directory = StudyDir(tmp_path / "mine")
    with directory.hold():
        whole = directory.lock.read_text()
        directory.lock.write_text("")

        def write_soon():
            time.sleep(0.4)
            directory.lock.write_text(whole)

        writing = threading.Thread(target=write_soon)
        writing.start()
        with pytest.raises(StudyError, match=f"process {os.getpid()} on "), directory.hold():
            pass
        writing.join()


def test_what_a_killed_controller_left_half_written_is_cleared_away(tmp_path):
    directory = StudyDir(tmp_path / "mine")
    with directory.hold():
        (directory.path / f"progress.json{rundir.TEMPORARY_MARK}1234").write_text("{")
        rundir.write_text(directory.progress, "{}")
    with directory.hold():
        assert sorted(path.name for path in directory.path.iterdir()) == ["lock", "progress.json"]
