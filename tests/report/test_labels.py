"""Oracle: labels written by hand."""

from __future__ import annotations

import dataclasses

import pytest
from support.synthetic_runs import start_run, synthetic_config

from lora_bench.report.labels import run_label, short_number, varied_keys
from lora_bench.report.load import load_records


def labels(root, *configs):
    runs = [start_run(root, config, name=f"run-{index}") for index, config in enumerate(configs)]
    records, problems = load_records(runs)
    assert problems == []
    varied = varied_keys(records)
    return [run_label(record, varied) for record in records]


def with_batch(config, size):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, batch_size=size))


def test_a_label_says_method_rank_rate_and_seed(tmp_path):
    full = synthetic_config(method="full", lr=3e-5, seed=2)
    assert labels(tmp_path, synthetic_config(lr=5e-4), full) == ["lora r=8 lr 5e-4 s0", "full lr 3e-5 s2"]


def test_what_a_study_varies_is_said_in_that_study_alone(tmp_path):
    configs = [with_batch(synthetic_config(study="sizes"), size) for size in (16, 32)]
    configs += [with_batch(synthetic_config(study="rates", lr=lr), 64) for lr in (1e-3, 1e-2)]
    assert labels(tmp_path, *configs) == [
        "lora r=8 lr 2e-3 batch_size 16 s0",
        "lora r=8 lr 2e-3 batch_size 32 s0",
        "lora r=8 lr 1e-3 s0",
        "lora r=8 lr 0.01 s0",
    ]


def test_a_choice_stands_for_the_keys_that_follow_from_it(tmp_path):
    config = synthetic_config()
    qv = dataclasses.replace(config, placement=dataclasses.replace(config.placement, name="qv", roles=["q", "v"]))
    assert labels(tmp_path, config, qv) == ["lora r=8 lr 2e-3 all s0", "lora r=8 lr 2e-3 qv s0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-4, "5e-4"), (0.05, "0.05"), (1.5e-4, "1.5e-4"), (0.0665326, "0.06653"), (3.0, "3")],
)
def test_numbers_are_short(value, text):
    assert short_number(value) == text
