"""Oracle: both sides did the same work, and the parts add up to the wall time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import makespan
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("num_runs", "grid"),
    [(1, ((1,), (0,))), (3, ((1, 4, 8), (0,))), (4, ((1, 4, 8, 64), (0,))), (8, ((1, 4, 8, 64), (0, 1)))],
)
def test_the_grid_has_as_many_runs_as_asked(num_runs, grid):
    assert makespan.ranks_and_seeds(num_runs) == grid


@pytest.mark.slow
def test_both_sides_train_the_same_runs(tmp_path):
    out = tmp_path / "makespan.json"
    words = "--steps 2 --runs 1 --threads 1 --num-train 64 --num-eval 32 --contestants study_fp32 script_fp32_longest"
    done = subprocess.run(
        [sys.executable, "benchmarks/makespan.py", *words.split(), "--out", str(out)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert set(record["ratios"]) == {"study_fp32 / script_fp32_longest"}
    ours, theirs = record["makespans"]
    assert [{**run, "accuracy": None} for run in ours["runs"]] == [{**run, "accuracy": None} for run in theirs["runs"]]
    for one in (ours, theirs):
        assert sum(one["parts_s"].values()) == pytest.approx(one["wall_s"])
        assert min(one["parts_s"].values()) > 0
