"""Oracle: ratios and differences worked out from the records."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.synthetic_runs import (
    append_lines,
    finish_run,
    finished_run,
    rank_grid,
    replaced,
    start_run,
    synthetic_config,
)

from lora_bench.config.processes import DdpConfig
from lora_bench.records import GroupUse
from lora_bench.report import build_comparison, comparison_json
from lora_bench.rundir import finite


def test_every_row_is_a_ratio_to_full(tmp_path):
    runs = rank_grid(tmp_path)
    (table,) = build_comparison(runs).tables
    assert table.baseline is table.rows[-1]
    own, full = runs[0].read_result(), runs[-1].read_result()
    assert own is not None
    assert full is not None
    assert table.cost_ratio(table.rows[0], "trainable_parameters") == pytest.approx(28_803 / 22_714_755)
    assert table.cost_ratio(table.rows[0], "step_median_ms") == pytest.approx(150 / 198)
    expected = own.memory.peak_tensor_bytes / full.memory.peak_tensor_bytes  # type: ignore[union-attr]
    assert table.cost_ratio(table.rows[0], "peak_training_bytes") == pytest.approx(expected)
    assert {table.cost_ratio(table.rows[-1], name) for name in table.rows[-1].costs} == {1}
    assert table.quality_ratio(table.rows[-1]) == 1


def test_differences_are_those_of_the_predictions(tmp_path):
    (table,) = build_comparison(rank_grid(tmp_path)).tables
    for row in table.rows[:-1]:
        assert row.difference is not None
        assert row.quality is not None
        assert table.rows[-1].quality is not None
        assert row.difference.estimate.value == pytest.approx(row.quality.value - table.rows[-1].quality.value)
        assert row.difference.num_items == 200
    assert table.rows[-1].difference is None


def test_the_best_full_row_is_the_baseline(tmp_path):
    runs = [
        finished_run(tmp_path, synthetic_config(method="full", lr=lr), accuracy=accuracy)
        for lr, accuracy in ((1e-5, 0.5), (3e-4, 0.9), (1e-2, 0.6))
    ]
    (table,) = build_comparison([*runs, finished_run(tmp_path, synthetic_config())]).tables
    assert table.baseline is not None
    assert table.baseline.settings == ("lr 0.0003",)
    assert [row.label for row in table.rows] == ["LoRA r=8", *["full fine-tuning"] * 3]


def test_several_processes_are_rows_of_their_own_and_their_memory_is_explained(tmp_path):
    config = synthetic_config()
    runs = [finished_run(tmp_path, config), finished_run(tmp_path, replace(config, processes=DdpConfig()))]
    replaced(runs[1], processes=GroupUse("ddp", 2, 1, "gloo", [], None, [1.0, 1.0], 1.0, 2.0))
    (table,) = build_comparison(runs).tables
    assert [row.settings[-1] for row in table.rows] == ["lr 0.002", "ddp × 2"]
    assert "memory of runs with several processes is that of the largest of them (1 of 2 runs)" in table.notes


def test_without_a_full_run_there_is_no_ratio(tmp_path):
    (table,) = build_comparison([finished_run(tmp_path, synthetic_config())]).tables
    assert table.baseline is None
    assert table.cost_ratio(table.rows[0], "checkpoint_bytes") is None
    assert table.rows[0].difference is None


def test_runs_that_cannot_be_compared_are_two_tables_that_say_why(tmp_path):
    runs = [*rank_grid(tmp_path), finished_run(tmp_path, synthetic_config(max_length=128))]
    comparison = build_comparison(runs)
    assert [len(table.rows) for table in comparison.tables] == [5, 1]
    assert comparison.differs == {"task.max_length": ["64", "128"]}


def test_runs_without_a_result_and_damaged_ones_are_counted_out(tmp_path):
    done = finished_run(tmp_path, synthetic_config())
    unfinished = start_run(tmp_path, synthetic_config(seed=1))
    damaged = start_run(tmp_path, synthetic_config(seed=2))
    damaged.config.write_text("")
    comparison = build_comparison([done, unfinished, damaged])
    assert len(comparison.tables[0].rows) == 1
    assert comparison.left_out[0] == "1 interrupted, not in the table yet"
    assert damaged.path.name in comparison.left_out[1]


def test_the_data_hold_everything_and_are_json(tmp_path):
    runs = rank_grid(tmp_path)
    config = synthetic_config(r=16)
    bad = start_run(tmp_path, config)
    append_lines(bad, first=10, last=40)
    finish_run(bad, config, status="diverged")
    data = json.loads(json.dumps(finite(comparison_json(build_comparison([*runs, bad]))), allow_nan=False))
    rows = data["tables"][0]["rows"]
    assert [row["r"] for row in rows] == [1, 4, 8, 16, 64, None]
    assert [row["is_baseline"] for row in rows] == [False] * 5 + [True]
    assert rows[3]["states"] == ["diverged"]
    assert rows[3]["quality"] is None
    assert rows[0]["difference"]["verdict"] in ("worse", "inside the noise", "better")
    assert 0 < rows[0]["difference"]["mcnemar_p"] <= 1
    ratio = rows[0]["checkpoint_bytes"] / rows[-1]["checkpoint_bytes"]
    assert rows[0]["checkpoint_bytes_ratio"] == pytest.approx(ratio)
    assert rows[-1]["runs"] == [str(runs[-1].path)]


def test_nothing_recorded_is_no_table():
    assert comparison_json(build_comparison([])) == {"tables": [], "differs": {}, "left_out": []}
