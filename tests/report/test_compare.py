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
from lora_bench.report.items import item_sums, item_weights, read_items
from lora_bench.report.load import load_records
from lora_bench.report.pairs import compare_pairs
from lora_bench.report.verdicts import Rule, judge_pair
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
    for line in table.lines[:-1]:
        assert line.difference is not None
        assert line.row.quality is not None
        assert table.rows[-1].quality is not None
        assert line.difference.estimate.value == pytest.approx(line.row.quality.value - table.rows[-1].quality.value)
        assert line.difference.num_items == 200
    assert table.lines[-1].difference is None


def test_words_and_intervals_are_those_of_the_engine_over_all_chosen_rows(tmp_path):
    """Oracle: `compare_pairs` on the items as they were written, its spread over seeds pooled over the five rows."""
    runs = rank_grid(tmp_path, seeds=(0, 1, 2))
    (table,) = build_comparison(runs, margin=0.05).tables
    records = load_records(runs)[0]
    answers = [[read_items(record, "accuracy") for record in records[row : row + 3]] for row in range(0, 15, 3)]
    order = answers[0][0]
    pairs = compare_pairs([item_sums(row, order) for row in answers], item_weights(order))
    expected = [judge_pair(pairs, row, 4, Rule(True, 0.05)) for row in range(4)]
    assert [line.difference for line in table.lines[:-1]] == expected
    data = comparison_json(build_comparison(runs, margin=0.05))["tables"][0]
    assert [row["difference"]["verdict"] for row in data["rows"][:-1]] == [one.verdict for one in expected]
    assert data["margin"] == 0.05


def test_one_seed_decides_nothing(tmp_path):
    (table,) = build_comparison(rank_grid(tmp_path)).tables
    assert {line.difference.verdict for line in table.lines[:-1] if line.difference} == {"one seed: not decided"}


def full_rates(root, scores, seeds=(0, 1)):  # type: ignore[no-untyped-def]
    """Full fine-tuning at three rates with their accuracies on test and on validation items."""
    return [
        finished_run(root, synthetic_config(method="full", lr=lr, seed=seed), accuracy=accuracy, validation=validation)
        for lr, (accuracy, validation) in zip((1e-5, 3e-4, 1e-2), scores, strict=True)
        for seed in seeds
    ]


def adapters(root, lr=2e-3, validation=0.7):  # type: ignore[no-untyped-def]
    """LoRA of two seeds."""
    return [finished_run(root, synthetic_config(lr=lr, seed=seed), validation=validation) for seed in (0, 1)]


def test_the_baseline_is_chosen_on_validation_items_and_judged_on_test_items(tmp_path):
    runs = full_rates(tmp_path, [(0.9, 0.5), (0.6, 0.8), (0.95, 0.6)])
    (table,) = build_comparison([*runs, *adapters(tmp_path)]).tables
    assert table.baseline is not None
    assert table.baseline.settings == ("lr 0.0003",)
    assert table.baseline.quality is not None
    assert table.baseline.quality.value == pytest.approx(0.6, abs=0.05)
    assert [(line.row.label, line.part) for line in table.lines] == [
        ("LoRA r=8", "chosen"),
        ("full fine-tuning", "setting"),
        ("full fine-tuning", "baseline"),
        ("full fine-tuning", "setting"),
    ]
    assert [line.difference is None for line in table.lines] == [False, True, True, True]
    rows = comparison_json(build_comparison([*runs, *adapters(tmp_path / "more")]))["tables"][0]["rows"]
    assert [row["chosen_on"] for row in rows] == ["validation"] * 4
    assert {row["judged_on"] for row in rows} == {"test"}
    assert [row["choosing_score"] for row in rows] == pytest.approx([0.7, 0.5, 0.8, 0.6])
    assert [row["num_settings"] for row in rows] == [1, 3, 3, 3]
    assert table.notes[:2] == [
        "Settings are chosen on validation items and judged on test items; the others have no verdict.",
        "Not the same number of settings was tried (more of them favour a side on test items too, where its lucky "
        "seeds are the same): 3 for full fine-tuning; 1 for LoRA r=8.",
    ]


def test_old_records_are_chosen_and_judged_on_the_same_items_and_say_so(tmp_path):
    runs = [*full_rates(tmp_path, [(0.5, None), (0.9, None), (0.6, None)]), *adapters(tmp_path, validation=None)]
    (table,) = build_comparison(runs).tables
    assert table.baseline is not None
    assert table.baseline.settings == ("lr 0.0003",)
    assert table.notes[0].startswith("No validation items on record: settings are chosen and judged on the same items")
    assert comparison_json(build_comparison(runs))["tables"][0]["rows"][0]["chosen_on"] == "test"


def test_a_best_rate_at_the_edge_of_its_space_decides_nothing(tmp_path):
    runs = [*full_rates(tmp_path, [(0.5, 0.5), (0.6, 0.6), (0.9, 0.9)]), *adapters(tmp_path)]
    (table,) = build_comparison(runs).tables
    difference = table.lines[0].difference
    assert difference is not None
    assert difference.verdict == "best rate at the edge of its space: not decided"
    assert any("full fine-tuning (lr 0.01, upper edge)" in note for note in table.notes)
    # The study asked a wider space: then the rate is inside, and there is a verdict.
    edges = {run.path.name: "inside" for run in runs}
    difference = build_comparison(runs, edges=edges).tables[0].lines[0].difference
    assert difference is not None
    assert difference.verdict == "worse"
    # And a rate near the end of an interval is at its edge, although a larger one was drawn.
    edges = {run.path.name: "upper edge" for run in runs[:2]}
    runs = [*full_rates(tmp_path / "other", [(0.9, 0.9)] * 3)[:2], *adapters(tmp_path / "other")]
    difference = build_comparison(runs, edges=edges).tables[0].lines[0].difference
    assert difference is not None
    assert "edge of its space" in difference.verdict


def test_seeds_that_did_not_finish_forbid_a_verdict(tmp_path):
    config = synthetic_config(seed=2)
    bad = start_run(tmp_path, config)
    finish_run(bad, config, status="diverged")
    runs = [*adapters(tmp_path), bad, *full_rates(tmp_path, [(0.7, 0.7), (0.8, 0.8), (0.7, 0.7)])]
    difference = build_comparison(runs).tables[0].lines[0].difference
    assert difference is not None
    assert difference.verdict == "1 of 3 diverged: not decided"


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
    assert table.lines[0].difference is None


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
    assert rows[0]["difference"]["verdict"] == "one seed: not decided"
    assert rows[0]["difference"]["ci_low"] < rows[0]["difference"]["value"] < rows[0]["difference"]["ci_high"]
    ratio = rows[0]["checkpoint_bytes"] / rows[-1]["checkpoint_bytes"]
    assert rows[0]["checkpoint_bytes_ratio"] == pytest.approx(ratio)
    assert rows[-1]["runs"] == [str(runs[-1].path)]


def test_nothing_recorded_is_no_table():
    assert comparison_json(build_comparison([])) == {"tables": [], "differs": {}, "left_out": []}
