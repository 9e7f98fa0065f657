"""Oracle: the records of synthetic runs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from support.synthetic_runs import (
    append_lines,
    finish_run,
    finished_run,
    rank_grid,
    replaced,
    start_run,
    synthetic_config,
)

from lora_bench.config.processes import HOW_ONLY
from lora_bench.report.load import load_records
from lora_bench.report.rows import NEVER_COMPARED, build_rows


def test_rows_are_told_apart_by_what_is_in_a_digest():
    assert NEVER_COMPARED == HOW_ONLY


def _rows(runs):  # type: ignore[no-untyped-def]
    return build_rows(load_records(runs)[0], baseline_method="full")


def test_ranks_ascend_as_numbers_and_full_is_last(tmp_path):
    rows = _rows(rank_grid(tmp_path))
    assert [row.label for row in rows] == ["LoRA r=1", "LoRA r=4", "LoRA r=8", "LoRA r=64", "full fine-tuning"]
    assert [row.detail for row in rows][::4] == ["all, lr 0.002, seed 0", "lr 0.0003, seed 0"]
    assert rows[0].costs["trainable_parameters"] == 28_803
    # What an adapter in fp32 and a model in bf16 are compared by; synthetic runs have 4 bytes and 700 for the header.
    assert rows[0].costs["bytes_per_trained_number"] == pytest.approx(4 + 700 / 28_803)


def test_seeds_of_one_configuration_are_one_row_with_students_interval(tmp_path):
    runs = [finished_run(tmp_path, synthetic_config(seed=seed), accuracy=0.7 + seed / 50) for seed in range(3)]
    (row,) = _rows(runs)
    values = [run.read_result().score("accuracy").value for run in runs]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert row.quality is not None
    assert (row.quality.value, row.quality.low, row.quality.high) == pytest.approx((np.mean(values), low, high))
    assert row.detail == "all, lr 0.002, 3 seeds"
    assert row.seeds == [0, 1, 2]


def test_one_seed_keeps_its_own_interval(tmp_path):
    run = finished_run(tmp_path, synthetic_config())
    (row,) = _rows([run])
    score = run.read_result().score("accuracy")
    assert row.quality is not None
    assert (row.quality.low, row.quality.high) == (score.ci_low, score.ci_high)


def test_what_differs_within_a_method_is_in_the_label(tmp_path):
    runs = [finished_run(tmp_path, synthetic_config(lr=lr)) for lr in (1e-3, 2e-3)]
    other = synthetic_config(lr=2e-3)
    other.training.weight_decay = 0.1
    runs.append(finished_run(tmp_path, other))
    runs.append(finished_run(tmp_path, synthetic_config(method="full")))
    assert [row.detail for row in _rows(runs)] == [
        "all, lr 0.001, weight_decay 0, seed 0",
        "all, lr 0.002, weight_decay 0, seed 0",
        "all, lr 0.002, weight_decay 0.1, seed 0",
        "lr 0.002, weight_decay 0, seed 0",
    ]


def test_a_configuration_trained_again_counts_once_and_the_newest_stands(tmp_path):
    first, again = (finished_run(tmp_path, synthetic_config(), name=name) for name in ("first", "first.2"))
    result = again.read_result()
    replaced(again, provenance=dataclasses.replace(result.provenance, created_at="2026-09-22T00:00:00+00:00"))
    for runs in ([first, again], [again, first]):
        (row,) = _rows(runs)
        assert [record.run for record in row.records] == [again]


@pytest.mark.parametrize("status", ["diverged", "oom", "failed", "pruned"])
def test_a_run_that_ended_early_is_a_row_with_its_state(tmp_path, status):
    config = synthetic_config()
    run = start_run(tmp_path, config)
    append_lines(run, first=10, last=40)
    finish_run(run, config, status=status)
    (row,) = _rows([run])
    assert row.quality is None
    assert row.trouble == f"{status} at step 40"
    assert set(row.costs.values()) == {None}


def test_a_row_with_one_bad_seed_says_so_and_averages_the_others(tmp_path):
    runs = [finished_run(tmp_path, synthetic_config(seed=seed)) for seed in range(2)]
    config = synthetic_config(seed=2)
    bad = start_run(tmp_path, config)
    finish_run(bad, config, status="diverged")
    (row,) = _rows([*runs, bad])
    assert row.trouble == "1 of 3 diverged"
    assert len(row.finished) == 2
    assert row.quality is not None
    assert not math.isnan(row.quality.low)
