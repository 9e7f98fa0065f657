"""Oracle: a record that goes to JSON and back is the same record."""

from __future__ import annotations

import json

import pytest

from lora_bench.records import MemoryProfile, Provenance, RunResult, Score, from_json, to_json


def make_result() -> RunResult:
    return RunResult(
        status="finished",
        config_digest="d" * 64,
        run_name="run",
        model="tiny",
        task="tweet_sentiment",
        method="lora",
        headline="accuracy",
        scores=[Score("accuracy", 0.5, 0.4, 0.6, 100, True)],
        steps=3,
        epochs=0.5,
        final_train_loss=None,
        memory=MemoryProfile(10, 4, 1, 2, 3),
        timing=None,
        sizes=None,
        provenance=Provenance("run.py", None, None, "now", "h", "cpu", 1, "3.11", {"torch": "2"}, "w", "d", 0),
        details={"largest_micro_batch": 4},
    )


def test_round_trip_through_json():
    result = make_result()
    assert from_json(RunResult, json.loads(json.dumps(to_json(result)))) == result


def test_unknown_field_is_refused_rather_than_dropped():
    data = to_json(make_result())
    data["memory"]["peak_gpu"] = 1
    with pytest.raises(ValueError, match="MemoryProfile: unknown fields"):
        from_json(RunResult, data)


def test_missing_field_is_refused():
    data = to_json(make_result())
    del data["status"]
    with pytest.raises(ValueError, match="status"):
        from_json(RunResult, data)
