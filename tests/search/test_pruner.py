"""Pruning in a study with real processes. Oracle: the records and curves of the runs."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from lora_bench import rundir
from lora_bench.rundir import find_run_dirs

OBJECTIVES = {
    "one objective": ["study.objectives=[headline]"],
    "two objectives": ["study.objectives=[headline,memory/peak_tensor_gib]"],
}


@pytest.mark.parametrize("objectives", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_pruned_run_stops_at_its_next_evaluation_and_keeps_its_record(tmp_path, cache, pretended_study, objectives):
    steps, every = 200, 10
    out = pretended_study(
        "training.lr=tag(log,interval(1e-6,1e-1))",
        "study.n_trials=6",
        "study.baseline=null",
        "study.n_jobs=2",
        "study.pruner=median",
        "study.pruner_startup_trials=1",
        f"training.max_steps={steps}",
        f"training.eval_every={every}",
        *objectives,
    )
    records = {run.path.name: json.loads(run.result.read_text()) for run in find_run_dirs(tmp_path / "root")}
    counts = Counter(record["status"] for record in records.values())
    assert set(counts) == {"finished", "pruned"}, out
    for run in find_run_dirs(tmp_path / "root"):
        record = records[run.path.name]
        curve = [line["step"] for line in rundir.read_lines(run.metrics) if "eval/accuracy" in line["metrics"]]
        assert curve == list(range(every, record["steps"] + 1, every))
        if record["status"] == "pruned":
            assert record["steps"] < steps
            assert record["steps"] % every == 0
            assert run.stop_request.read_text().startswith("median: ")
            assert record["scores"]
