"""Oracle: what POSIX promises of rename and truncate; kills are real SIGKILLs of a writing process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from lora_bench import rundir
from lora_bench.errors import RunDirError
from lora_bench.rundir import RunDir


def test_write_json_replaces_at_once_and_turns_nan_into_null(tmp_path):
    path = tmp_path / "a" / "status.json"
    rundir.write_json(path, {"loss": float("nan"), "list": [1.0, float("inf")]})
    assert json.loads(path.read_text()) == {"loss": None, "list": [1.0, None]}
    rundir.write_json(path, {"loss": 2})
    assert json.loads(path.read_text()) == {"loss": 2}
    assert [file.name for file in path.parent.iterdir()] == ["status.json"]


def test_repair_tail_cuts_a_torn_line_and_keeps_whole_ones(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    assert rundir.read_lines(path) == [{"step": 1}, {"step": 2}]
    assert rundir.repair_tail(path) == 4
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    assert rundir.repair_tail(path) == 0


def test_filled_folder_leaves_nothing_after_an_error(tmp_path):
    def fill():
        with rundir.filled_folder(tmp_path / "weights") as folder:
            (folder / "half").write_text("x")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_filled_folder_refuses_to_overwrite(tmp_path):
    (tmp_path / "weights").mkdir()
    with rundir.filled_folder(tmp_path / "weights") as folder:  # an empty folder holds nothing to lose
        (folder / "a").write_text("a")
    with pytest.raises(FileExistsError, match="never overwritten"), rundir.filled_folder(tmp_path / "weights"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["weights", "a"]


def test_a_second_holder_is_refused_and_told_who_holds(tmp_path):
    run = RunDir(tmp_path / "run")
    assert not run.is_held()
    with run.hold():
        run.write_status(status="running")
        assert run.is_held()
        with pytest.raises(RunDirError, match=f"already being run by process {os.getpid()}"), run.hold():
            pass
    assert not run.is_held()


def test_a_holder_clears_away_what_a_killed_one_left_half_done(tmp_path):
    run = RunDir(tmp_path / "run")
    (run.checkpoints / "step-10").mkdir(parents=True)
    for folder in (run.path, run.checkpoints):
        (folder / f"folder{rundir.TEMPORARY_MARK}7").mkdir()
        (folder / f"file.json{rundir.TEMPORARY_MARK}7").write_text("{")
    with run.hold():
        left = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*"))
    assert left == ["checkpoints", "checkpoints/step-10", run.lock.name]


WRITER = """
import sys
from pathlib import Path
from lora_bench import rundir
number = 0
while True:
    number += 1
    rundir.write_json(Path(sys.argv[1]), {"number": number, "filler": "x" * 20000, "again": number})
    if number == 1:
        print("ready", flush=True)
"""


def test_sigkill_between_any_two_writes_leaves_an_old_or_a_new_file(tmp_path):
    moments = random.Random(0)
    path = tmp_path / "status.json"
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.02 + moments.random() * 0.1)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        data = json.loads(path.read_text())
        assert data["number"] == data["again"]
        assert len(data["filler"]) == 20000
