"""Oracle: the record that the numbers were written into."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.synthetic_runs import finished_run, start_run, synthetic_config

from lora_bench.records import GIB, Score
from lora_bench.rundir import RunDir
from lora_bench.tracking.names import config_metrics, result_metrics


def test_names_carry_units_and_values_are_in_them(tmp_path):
    run = finished_run(tmp_path, synthetic_config(r=8))
    result = run.read_result()
    assert result is not None
    assert result.memory is not None
    assert result.sizes is not None
    numbers = result_metrics(result)
    assert numbers["memory/peak_tensor_gib"] == result.memory.peak_tensor_bytes / GIB
    assert numbers["checkpoint/weights_mib"] == pytest.approx(result.sizes.weights_bytes / 2**20)
    assert numbers["parameters/trainable_count"] == 222_339
    assert numbers["time/step_median_ms"] == 150.0
    assert numbers["test/accuracy_ci_low"] < numbers["test/accuracy"] < numbers["test/accuracy_ci_high"]
    # A record from before there were three splits chose and judged on the same items.
    assert numbers["eval/accuracy"] == numbers["test/accuracy"]
    validated = replace(result, validation=[Score("accuracy", 0.5, 0.4, 0.6, 100, True)])
    assert result_metrics(validated)["eval/accuracy"] == 0.5
    assert result_metrics(validated)["test/accuracy"] == numbers["test/accuracy"]
    units = ("gib", "mib", "ms", "s", "count", "fraction")
    unitless = ("eval/", "test/", "train/final_loss")
    assert [key for key in numbers if not key.startswith(unitless) and key.split("_")[-1] not in units] == []


def test_what_was_not_measured_is_left_out(tmp_path):
    run = finished_run(tmp_path, synthetic_config(), status="oom")
    result = run.read_result()
    assert result is not None
    assert result_metrics(result) == {}
    assert "memory/peak_eval_rss_gib" not in result_metrics(_finished(tmp_path))


def test_knobs_of_a_method_without_adapters_are_those_it_has(tmp_path):
    full = start_run(tmp_path, synthetic_config(method="full", lr=3e-4)).read_config()
    assert config_metrics(full) == {
        "param/training.lr": 3e-4,
        "param/training.batch_size": 32,
        "param/training.max_steps": 100,
    }
    lora = start_run(tmp_path, synthetic_config(r=64)).read_config()
    assert config_metrics(lora)["param/lora.r"] == 64


def _finished(tmp_path):  # type: ignore[no-untyped-def]
    run: RunDir = finished_run(tmp_path, synthetic_config(seed=3))
    return run.read_result()
