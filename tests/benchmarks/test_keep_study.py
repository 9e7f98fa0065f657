"""Oracle: the run directories that were kept."""

from __future__ import annotations

import json

import pytest
from keep_study import keep_study, read_kept
from support.synthetic_runs import finished_run, rank_grid, synthetic_config

from lora_bench.rundir import RunDir


def test_what_is_kept_is_what_the_runs_hold(tmp_path):
    rank_grid(tmp_path / "root")
    path = keep_study(tmp_path / "root", tmp_path / "kept")
    kept = list(read_kept(path))
    assert len(kept) == 5
    for run in kept:
        directory = RunDir(tmp_path / "root" / "runs" / run["result"]["run_name"])
        assert run["config"] == directory.read_config()
        assert run["result"] == json.loads(directory.result.read_text())
        items = [json.loads(line) for line in directory.predictions.read_text().splitlines()]
        assert run["items"]["test"]["correct"] == {item["item_id"]: int(item["correct"]) for item in items}
        assert run["items"]["test"]["nll"] == {
            item["item_id"]: pytest.approx(item["nll"], abs=5.1e-6) for item in items
        }


def test_the_same_runs_give_the_same_bytes_and_one_file(tmp_path):
    rank_grid(tmp_path / "root")
    first = keep_study(tmp_path / "root", tmp_path / "a").read_bytes()
    assert first == keep_study(tmp_path / "root", tmp_path / "b").read_bytes()


def test_other_items_or_no_run_are_refused(tmp_path):
    root = tmp_path / "root"
    rank_grid(root)
    finished_run(root, synthetic_config(seed=9), num_items=100)
    with pytest.raises(SystemExit, match="answers other test items"):
        keep_study(root, tmp_path / "kept")
    with pytest.raises(SystemExit, match="no run with a result has 'bert'"):
        keep_study(root, tmp_path / "kept", match="bert")
