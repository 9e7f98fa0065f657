"""Oracle: predictions written by hand."""

from __future__ import annotations

import json

import pytest
from support.synthetic_runs import start_run, synthetic_config

from lora_bench.errors import RunDirError
from lora_bench.report.items import answered, item_sums, item_weights, read_items
from lora_bench.report.load import Record, load_records


def _record(tmp_path, items, *, seed=0) -> Record:  # type: ignore[no-untyped-def]
    run = start_run(tmp_path, synthetic_config(seed=seed))
    run.predictions.write_text("".join(json.dumps(item) + "\n" for item in items))
    return load_records([run])[0][0]


def test_each_score_has_its_part_of_an_item(tmp_path):
    record = _record(tmp_path, [{"item_id": "a", "correct": True, "nll": 6.0, "num_tokens": 3, "rouge_l": 0.5}])
    assert read_items(record, "accuracy") == {"a": (1.0, 1.0)}
    assert read_items(record, "exact_match") == {"a": (1.0, 1.0)}
    assert read_items(record, "nll") == {"a": (6.0, 1.0)}
    assert read_items(record, "nll_per_token") == {"a": (6.0, 3.0)}
    assert read_items(record, "rouge_l") == {"a": (0.5, 1.0)}
    assert read_items(record, "macro_f1") == {}


def test_items_that_were_not_generated_for_are_left_out(tmp_path):
    record = _record(tmp_path, [{"item_id": "a", "rouge_l": 0.5}, {"item_id": "b"}, {"item_id": "c", "rouge_l": None}])
    assert read_items(record, "rouge_l") == {"a": (0.5, 1.0)}


def test_items_are_paired_by_name_whatever_their_order():
    order = {"a": (1.0, 1.0), "b": (0.0, 2.0), "c": (1.0, 3.0)}
    other = {"c": (5.0, 3.0), "b": (4.0, 2.0), "a": (3.0, 1.0)}
    assert item_sums([order, other], order).tolist() == [[1.0, 0.0, 1.0], [3.0, 4.0, 5.0]]
    assert item_weights(order).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("runs", "same"),
    [
        ([], False),
        ([{"a": (1.0, 1.0), "b": (0.0, 1.0)}, {"b": (1.0, 1.0), "a": (1.0, 1.0)}], True),
        ([{"a": (1.0, 1.0)}], False),
        ([{"a": (1.0, 1.0), "b": (0.0, 1.0)}, {"a": (1.0, 1.0), "x": (1.0, 1.0)}], False),
    ],
)
def test_other_items_are_not_paired(runs, same):
    assert answered(runs, {"a": (1.0, 1.0), "b": (0.0, 1.0)}) is same


def test_one_item_is_not_paired():
    assert not answered([{"a": (1.0, 1.0)}], {"a": (1.0, 1.0)})


def test_predictions_that_cannot_be_read_are_named(tmp_path):
    record = _record(tmp_path, [])
    record.run.predictions.write_text("{half\n")
    with pytest.raises(RunDirError, match=r"predictions\.jsonl: line 1 is no JSON"):
        read_items(record, "accuracy")
