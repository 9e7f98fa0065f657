"""Oracle: times that are set by hand, with sums that are done in the head."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from support.synthetic_runs import finished_run, start_run, synthetic_config
from wall_parts import PARTS, check_equal_work, script_end, script_parts, study_makespan

from lora_bench.errors import MeasurementError


@pytest.fixture
def study(tmp_path):
    """Two synthetic runs side by side, from second 1,010 to 1,040 and 1,044; each loads 1.5 s, 0.5 of it texts,
    trains 20 s and evaluates 2 s."""
    for rank, ended_at in ((1, 1040), (4, 1044)):
        run = finished_run(tmp_path, synthetic_config(r=rank))
        run.lock.touch()
        os.utime(run.lock, (1010, 1010))
        os.utime(run.result, (ended_at, ended_at))
    return study_makespan("study_bf16", tmp_path, spawned_at=1000, exited_at=1050, num_slots=2)


def test_parts_of_a_study_are_shared_by_its_slots(study):
    assert list(study.parts_s) == list(PARTS)
    # 30 and 34 s in the runs, 23.5 s of each in parts that have a name.
    around = (6.5 + 10.5) / 2
    expected = {"start": 10, "data": 0.5, "model": 1, "steps": 20, "evaluation": 2, "around": around}
    assert study.parts_s == pytest.approx(expected | {"end": 50 - 10 - 23.5 - around})
    assert study.wall_s == pytest.approx(sum(study.parts_s.values())) == 50


def test_a_study_says_what_its_runs_did(study):
    assert [(run.rank, run.seed, run.steps, run.num_eval) for run in study.runs] == [(1, 0, 100, 200), (4, 0, 100, 200)]
    assert study.runs[0].trainable_parameters < study.runs[1].trainable_parameters


def test_a_run_without_a_result_is_no_measurement(tmp_path):
    start_run(tmp_path, synthetic_config()).lock.touch()
    with pytest.raises(MeasurementError, match=r"not finished \(no result\)"):
        study_makespan("study_bf16", tmp_path, spawned_at=0, exited_at=1, num_slots=1)


def test_parts_of_a_script_add_up(tmp_path):
    ended_at = {"imports": 104, "data": 105, "model": 107, "train": 127, "evaluation": 130, "save": 130.5}
    work = {"steps": 60, "num_eval": 1000, "trainable_parameters": 42_627, "accuracy": 0.5}
    (tmp_path / "times.json").write_text(json.dumps({"ended_at": ended_at, "steps_s": 18, **work}))
    parts = script_parts(tmp_path, spawned_at=100, exited_at=132)
    assert parts == {"start": 4, "data": 1, "model": 2, "steps": 18, "evaluation": 3, "around": 2.5, "end": 1.5}
    assert parts.total() == 32
    end = script_end(tmp_path, rank=1, seed=0)
    assert (end.rank, end.steps, end.num_eval, end.trainable_parameters) == (1, 60, 1000, 42_627)


def test_other_work_is_not_compared(study):
    shorter = replace(study, contestant="script_fp32", runs=[replace(run, steps=99) for run in study.runs])
    reordered = replace(study, contestant="script_fp32", runs=study.runs[::-1])
    check_equal_work([study, reordered])
    with pytest.raises(MeasurementError, match="study_bf16 and script_fp32 did different work"):
        check_equal_work([study, shorter])
