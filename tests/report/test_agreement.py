"""Oracle: the design's list of what runs in one table must share."""

from __future__ import annotations

import dataclasses

import pytest
from support.synthetic_runs import finished_run, replaced, start_run, synthetic_config

from lora_bench.report import build_comparison
from lora_bench.report.agreement import differing, fixed_fields, shown_field, split_by_agreement
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


@pytest.mark.parametrize("key", ["weights_digest", "data_digest"])
def test_digests_that_begin_alike_are_told_apart(tmp_path, key):
    """The first eight characters, of which `sha256:` takes seven, are the same; so are the first 63."""
    runs = [finished_run(tmp_path, synthetic_config(seed=seed)) for seed in (0, 1)]
    for run, end in zip(runs, "ab", strict=True):
        result = run.read_result()
        assert result is not None
        replaced(run, provenance=dataclasses.replace(result.provenance, **{key: "sha256:" + "1" * 63 + end}))
    groups = _groups(runs)
    assert list(differing([fields for fields, _ in groups])) == [key.removesuffix("_digest")]


def test_two_bases_with_one_seed_are_no_repetition_of_each_other(tmp_path):
    """Both would be the newest run of their row and seed, if their weights were taken for the same."""
    runs = [finished_run(tmp_path, synthetic_config(), name=name) for name in ("one", "other")]
    for run, end in zip(runs, "ab", strict=True):
        result = run.read_result()
        assert result is not None
        digest = "sha256:1" + end * 63
        replaced(run, provenance=dataclasses.replace(result.provenance, weights_digest=digest))
    assert [len(table.rows) for table in build_comparison(runs).tables] == [1, 1]


def _of_files(tmp_path, name, *, content, data, train, state="finished"):  # type: ignore[no-untyped-def]
    """A run on a user's files."""
    run = finished_run(tmp_path, synthetic_config(), name=name)
    record = load_records([run])[0][0]
    task = {**record.config["task"], "name": "files", "train": train, "eval": f"{train}.dev", "content_digest": content}
    assert record.result is not None
    result = dataclasses.replace(
        record.result, provenance=dataclasses.replace(record.result.provenance, data_digest=data)
    )
    return dataclasses.replace(record, config={**record.config, "task": task}, result=result)


def test_a_path_says_where_data_are_and_not_what_they_are(tmp_path):
    moved = [
        _of_files(tmp_path, f"{index}", content="1" * 64, data="2" * 64, train=train)
        for index, train in enumerate(("train.csv", "/home/me/train.csv"))
    ]
    assert len(split_by_agreement(moved)) == 1
    # The same items from another file: what was read is the same.
    other_file = _of_files(tmp_path, "other", content="3" * 64, data="2" * 64, train="train.tsv")
    assert len(split_by_agreement([*moved, other_file])) == 1
    other_data = _of_files(tmp_path, "edited", content="3" * 64, data="4" * 64, train="train.csv")
    groups = split_by_agreement([*moved, other_data])
    assert differing([fields for fields, _ in groups]) == {"data": ["2" * 64, "4" * 64]}


def test_before_data_were_read_the_files_tell_runs_apart(tmp_path):
    known = _of_files(tmp_path, "known", content="1" * 64, data="2" * 64, train="train.csv")
    same, other = (
        _of_files(tmp_path, name, content=content * 64, data="", train="train.csv")
        for name, content in (("same", "1"), ("other", "3"))
    )
    assert [len(members) for _, members in split_by_agreement([known, same, other])] == [2, 1]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["sha256:" + "ab" * 32, "random:" + "cd" * 32], ["abababab", "cdcdcdcd"]),
        (["sha256:" + "1" * 12 + "a" * 52, "sha256:" + "1" * 12 + "b" * 52], ["1" * 12 + "a", "1" * 12 + "b"]),
        (["", "sha256:" + "ab" * 32], ["", "abababab"]),
    ],
)
def test_digests_are_shown_as_short_as_they_can_be(values, shown):
    assert shown_field("weights", values) == shown
    assert shown_field("model.name", values) == values
