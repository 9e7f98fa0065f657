"""Oracle: the design's list of what runs in one table must share."""

from __future__ import annotations

import dataclasses

import pytest
from support.synthetic_runs import finished_run, replaced, start_run, synthetic_config

from lora_bench.report.agreement import differing, fixed_fields, split_by_agreement
from lora_bench.report.load import load_records


def _groups(runs):  # type: ignore[no-untyped-def]
    return split_by_agreement(load_records(runs)[0])


def test_seed_rank_method_and_rate_are_compared_and_keep_runs_together(tmp_path):
    runs = [
        finished_run(tmp_path, config)
        for config in (
            synthetic_config(r=1),
            synthetic_config(r=64, seed=3, lr=5e-3),
            synthetic_config(method="full"),
        )
    ]
    ((fields, members),) = _groups(runs)
    assert len(members) == 3
    assert fields["evaluation"] == "accuracy over 200 items"
    assert fields["task.max_length"] == "64"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"training": {"batch_size": 64}}, "training.batch_size"),
        ({"training": {"max_steps": 7}}, "training.max_steps"),
        ({"training": {"dtype": "fp32"}}, "training.dtype"),
        ({"task": {"max_length": 128}}, "task.max_length"),
        ({"task": {"split_seed": 1}}, "task.split_seed"),
        ({"task": {"num_train": 10}}, "task.num_train"),
        ({"model": {"attention": "eager"}}, "model.attention"),
        ({"model": {"source": "random"}}, "model.source"),
    ],
)
def test_a_configuration_that_differs_elsewhere_is_another_table(tmp_path, change, field):
    runs = [finished_run(tmp_path, synthetic_config(seed=seed)) for seed in (0, 1)]
    records = load_records(runs)[0]
    config = {**records[1].config}
    for group, values in change.items():
        config[group] = {**config[group], **values}
    changed = dataclasses.replace(records[1], config=config)
    groups = split_by_agreement([records[0], changed])
    assert len(groups) == 2
    assert list(differing([fields for fields, _ in groups])) == [field]


@pytest.mark.parametrize(
    ("origin", "field"),
    [
        ({"hardware": "another machine"}, "hardware"),
        ({"num_threads": 8}, "threads"),
        ({"data_digest": "c" * 64}, "data"),
        ({"weights_digest": "c" * 64}, "weights"),
    ],
)
def test_results_of_another_machine_or_other_data_are_another_table(tmp_path, origin, field):
    runs = [finished_run(tmp_path, synthetic_config(seed=seed)) for seed in (0, 1)]
    result = runs[1].read_result()
    assert result is not None
    replaced(runs[1], provenance=dataclasses.replace(result.provenance, **origin))
    groups = _groups(runs)
    assert list(differing([fields for fields, _ in groups])) == [field]


def test_another_evaluation_is_another_table(tmp_path):
    runs = [
        finished_run(tmp_path, synthetic_config(seed=seed), num_items=count) for seed, count in ((0, 200), (1, 100))
    ]
    groups = _groups(runs)
    assert differing([fields for fields, _ in groups]) == {
        "evaluation": ["accuracy over 200 items", "accuracy over 100 items"]
    }


def test_a_run_that_ended_before_all_was_known_joins_those_it_agrees_with(tmp_path):
    config = synthetic_config(r=2)
    failed = start_run(tmp_path, config)
    whole = finished_run(tmp_path, synthetic_config(r=4))
    result = whole.read_result()
    assert result is not None
    unknown = dataclasses.replace(result.provenance, data_digest="", weights_digest="", num_threads=0)
    failed.write_result(dataclasses.replace(result, status="failed", headline="", scores=[], provenance=unknown))
    ((_, members),) = _groups([failed, whole])
    assert {record.state for record in members} == {"failed", "finished"}


def test_a_run_without_a_result_is_placed_by_its_configuration(tmp_path):
    record = load_records([start_run(tmp_path, synthetic_config())])[0][0]
    assert "hardware" not in fixed_fields(record)
    assert fixed_fields(record)["model.name"] == "minilm"
