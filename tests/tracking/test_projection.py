"""Oracle: the files of a synthetic run directory."""

from __future__ import annotations

import json
import math
import os

import pytest
from support.synthetic_runs import (
    STARTED_MS,
    append_lines,
    finish_run,
    finished_run,
    rank_grid,
    start_run,
    synthetic_config,
)

from lora_bench.config.resolve import config_digest
from lora_bench.errors import RunDirError
from lora_bench.tracking.projection import prediction_table, read_projection


def test_a_finished_run_has_params_curve_and_final_numbers(tmp_path):
    config = synthetic_config(r=4)
    projection = read_projection(finished_run(tmp_path, config))
    assert projection.state == "finished"
    assert projection.title == "lora r=4 all s0 minilm tweet_sentiment"
    assert projection.params["lora.r"] == "4"
    assert projection.params["placement.roles"] == '["q", "k", "v", "o", "up", "down"]'
    assert projection.params["model.hub_id"] == "null"
    assert not [key for key in projection.params if key.startswith(("paths", "tracking", "study", "executor"))]
    assert projection.tags["config_digest"] == config_digest(config)
    assert projection.tags["method"] == "lora"
    losses = [point for point in projection.curve.points() if point.key == "train/loss"]
    assert [point.step for point in losses] == list(range(10, 101, 10))
    assert losses[0].timestamp_ms == STARTED_MS + 10_000
    final = {point.key: point for point in projection.final_points}
    assert final["memory/peak_tensor_gib"].value == pytest.approx(0.2535, abs=1e-3)
    assert final["param/lora.r"].value == 4


def test_final_numbers_end_their_curve_or_stand_at_step_0(tmp_path):
    config = synthetic_config()
    run = start_run(tmp_path, config)
    append_lines(run, first=10, last=90)  # the last evaluation in the file is at step 50
    finish_run(run, config)
    final = {point.key: point for point in read_projection(run).final_points}
    assert final["eval/accuracy"].step == 100
    assert final["eval/accuracy_ci_low"].step == 0
    assert final["time/step_median_ms"].step == 0


def test_a_number_that_the_curve_ends_with_is_not_told_twice(tmp_path):
    projection = read_projection(finished_run(tmp_path, synthetic_config()))
    assert ("eval/accuracy", 100) in {(point.key, point.step) for point in projection.curve.points()}
    assert "eval/accuracy" not in {point.key for point in projection.final_points}


def test_steps_told_again_after_a_resume_count_once_with_their_first_time(tmp_path):
    run = start_run(tmp_path, synthetic_config())
    append_lines(run, first=10, last=50)
    with open(run.metrics, "a") as file:
        file.write(json.dumps({"step": 50, "timestamp_ms": STARTED_MS + 99_000, "metrics": {"train/loss": 0.5}}) + "\n")
        file.write(json.dumps({"step": 60, "timestamp_ms": STARTED_MS + 99_500, "metrics": {"train/loss": 0.4}}) + "\n")
    losses = {point.step: point for point in read_projection(run).curve.points() if point.key == "train/loss"}
    assert losses[50].timestamp_ms == STARTED_MS + 50_000
    assert losses[60].timestamp_ms == STARTED_MS + 99_500


def test_a_value_that_was_not_finite_is_nan_and_a_torn_line_is_left_for_later(tmp_path):
    run = start_run(tmp_path, synthetic_config())
    line = json.dumps({"step": 10, "timestamp_ms": STARTED_MS, "metrics": {"train/loss": None}})
    run.metrics.write_text(line + "\n" + line[:20])
    (point,) = read_projection(run).curve.points()
    assert math.isnan(point.value)


def test_times_come_from_the_run_and_survive_a_copy(tmp_path):
    run = finished_run(tmp_path, synthetic_config())
    before = read_projection(run)
    for path in run.path.rglob("*"):
        os.utime(path)  # as `cp -r` leaves them: now
    after = read_projection(run)
    assert before.started_ms == STARTED_MS
    assert after.started_ms == STARTED_MS + 10_000
    assert before.ended_ms == after.ended_ms == STARTED_MS + 105_000


@pytest.mark.parametrize("status", ["diverged", "oom", "pruned"])
def test_a_run_that_ended_early_says_so(tmp_path, status):
    config = synthetic_config()
    run = start_run(tmp_path, config)
    append_lines(run, first=10, last=40)
    finish_run(run, config, status=status)
    projection = read_projection(run)
    assert projection.tags["status"] == status
    assert f"{status}, the run ended as {status}" in projection.tags["mlflow.note.content"]


def test_a_failed_run_has_only_numbers_that_its_next_try_keeps(tmp_path):
    config = synthetic_config()
    run = start_run(tmp_path, config)
    finish_run(run, config, status="failed")
    assert {point.key.split("/")[0] for point in read_projection(run).final_points} == {"param"}


def test_predictions_become_columns_and_rows(tmp_path):
    run = rank_grid(tmp_path)[0]
    table = prediction_table(run)
    assert table is not None
    assert table["columns"] == ["item_id", "label", "prediction", "nll", "correct"]
    assert len(table["data"]) == 200
    assert prediction_table(start_run(tmp_path, synthetic_config(seed=9))) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "model: minilm\n"),
        ("config.yaml", "- a\n- b\n"),
        ("metrics.jsonl", '{"step": 1}\n'),
        ("metrics.jsonl", "half a li\n"),
        ("result.json", "{}"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text):
    run = finished_run(tmp_path, synthetic_config())
    (run.path / name).write_text(text)
    with pytest.raises(RunDirError, match=f"{run.path.name}.*(move the (folder|file) away|from a copy)"):
        read_projection(run)
