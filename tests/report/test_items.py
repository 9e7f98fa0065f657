"""Oracles: predictions written by hand, and SciPy's binomial test."""

from __future__ import annotations

import json

import pytest
from scipy import stats
from support.synthetic_runs import start_run, synthetic_config

from lora_bench.errors import RunDirError
from lora_bench.report.items import paired_difference, read_items
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
    own = {"a": (1.0, 1.0), "b": (0.0, 1.0), "c": (1.0, 1.0)}
    theirs = {"c": (0.0, 1.0), "b": (0.0, 1.0), "a": (1.0, 1.0)}
    difference = paired_difference([own], [theirs])
    assert difference is not None
    assert difference.estimate.value == pytest.approx(1 / 3)
    assert difference.num_items == 3
    assert difference.mcnemar_p == 1.0


def test_mcnemar_is_taken_where_both_are_one_run_of_right_and_wrong():
    own = {str(index): (float(index < 70), 1.0) for index in range(100)}
    theirs = {str(index): (float(index < 55), 1.0) for index in range(100)}
    difference = paired_difference([own], [theirs])
    assert difference is not None
    assert difference.mcnemar_p == pytest.approx(stats.binomtest(15, 15).pvalue)
    assert difference.verdict(higher_is_better=True) == "better"
    assert difference.verdict(higher_is_better=False) == "worse"
    several = paired_difference([own, own], [theirs])
    assert several is not None
    assert several.mcnemar_p is None


def test_a_loss_that_falls_is_better():
    own = {str(index): (1.0 + index % 3, 1.0) for index in range(60)}
    theirs = {str(index): (2.0 + index % 3, 1.0) for index in range(60)}
    difference = paired_difference([own], [theirs])
    assert difference is not None
    assert difference.estimate.value == pytest.approx(-1)
    assert difference.verdict(higher_is_better=False) == "better"


@pytest.mark.parametrize("theirs", [{}, {"a": (1.0, 1.0)}, {"a": (1.0, 1.0), "x": (1.0, 1.0)}])
def test_other_items_are_not_paired(theirs):
    own = {"a": (1.0, 1.0), "b": (0.0, 1.0)}
    assert paired_difference([own], [theirs]) is None


def test_predictions_that_cannot_be_read_are_named(tmp_path):
    record = _record(tmp_path, [])
    record.run.predictions.write_text("{half\n")
    with pytest.raises(RunDirError, match=r"predictions\.jsonl: not one JSON object a line"):
        read_items(record, "accuracy")
