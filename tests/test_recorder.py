"""Oracle: the lines on disk."""

from __future__ import annotations

import shutil

import pytest

from lora_bench import rundir
from lora_bench.errors import RunDirError
from lora_bench.recorder import Recorder, record_failure
from lora_bench.rundir import RunDir


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


def test_lines_have_step_time_and_metrics(run_dir):
    recorder = Recorder(run_dir)
    recorder.on_start(num_steps=10, first_step=0)
    recorder.on_log(1, {"train/loss": 0.5})
    recorder.on_eval(1, {"eval/accuracy": 0.25})
    lines = rundir.read_lines(run_dir.metrics)
    assert [(line["step"], line["metrics"]) for line in lines] == [
        (1, {"train/loss": 0.5}),
        (1, {"eval/accuracy": 0.25}),
    ]
    assert all(1_700_000_000_000 < line["timestamp_ms"] < 4_000_000_000_000 for line in lines)
    assert run_dir.read_status()["step"] == 1


def test_steps_told_again_after_a_resume_keep_their_first_line(run_dir):
    Recorder(run_dir).on_log(5, {"train/loss": 0.5})
    first = run_dir.metrics.read_bytes()
    run_dir.metrics.write_bytes(first + b'{"step": 6, "time')
    again = Recorder(run_dir)
    again.on_log(5, {"train/loss": 0.5})
    again.on_log(6, {"train/loss": 0.4})
    assert run_dir.metrics.read_bytes().startswith(first)
    assert [line["step"] for line in rundir.read_lines(run_dir.metrics)] == [5, 6]


def test_nan_is_written_as_null(run_dir):
    Recorder(run_dir).on_log(1, {"train/loss": float("nan")})
    assert rundir.read_lines(run_dir.metrics)[0]["metrics"] == {"train/loss": None}


def test_a_failure_is_a_record_and_makes_room_for_another_try(run_dir, tiny):
    record_failure(tiny(), run_dir, "ValueError: no")
    result = run_dir.read_result()
    assert result is not None
    assert result.status == "failed"
    assert "ValueError: no; log: " in (result.error or "")
    run_dir.archive_failure()
    assert run_dir.read_result() is None
    assert (run_dir.path / "failures" / "1.json").is_file()


def test_a_folder_that_was_deleted_under_a_run_ends_it(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    recorder = Recorder(RunDir(folder))
    recorder.on_log(1, {"train/loss": 1.0})
    shutil.rmtree(folder)
    with pytest.raises(RunDirError, match="was deleted or moved while the run was going on"):
        recorder.on_log(2, {"train/loss": 1.0})
    assert not folder.exists()
    folder.mkdir()  # another command has begun it anew meanwhile
    with pytest.raises(RunDirError, match="the same command starts it anew"):
        recorder.on_eval(2, {"eval/accuracy": 1.0})
    assert list(folder.iterdir()) == []
