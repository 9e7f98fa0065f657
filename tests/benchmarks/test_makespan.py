"""Oracle: both sides did the same work, and the parts add up to the wall time."""

from __future__ import annotations

import makespan
import pytest
from support.benchmark_scripts import measure


@pytest.mark.parametrize(
    ("num_runs", "grid"),
    [(1, ((1,), (0,))), (3, ((1, 4, 8), (0,))), (4, ((1, 4, 8, 64), (0,))), (8, ((1, 4, 8, 64), (0, 1)))],
)
def test_the_grid_has_as_many_runs_as_asked(num_runs, grid):
    assert makespan.ranks_and_seeds(num_runs) == grid


@pytest.mark.slow
def test_both_sides_train_the_same_runs(tmp_path):
    words = "--steps 2 --runs 1 --threads 1 --num-train 64 --num-eval 32 --contestants study_fp32 script_fp32_longest"
    record = measure("makespan.py", words, folder=tmp_path)
    assert set(record["ratios"]) == {"study_fp32 / script_fp32_longest"}
    ours, theirs = record["makespans"]
    assert [{**run, "accuracy": None} for run in ours["runs"]] == [{**run, "accuracy": None} for run in theirs["runs"]]
    for one in (ours, theirs):
        assert sum(one["parts_s"].values()) == pytest.approx(one["wall_s"])
        assert min(one["parts_s"].values()) > 0
