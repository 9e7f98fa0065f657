"""Oracle: the keys of mlflow 3.17's page, seen to work in a browser."""

from __future__ import annotations

import json

from lora_bench.tracking.page import page_path, shared_view


def test_the_view_shows_the_headline_with_its_interval_first():
    view = json.loads(shared_view(["accuracy"]))
    assert view["selectedColumns"][:3] == [
        "metrics.`test/accuracy`",
        "metrics.`test/accuracy_ci_low`",
        "metrics.`test/accuracy_ci_high`",
    ]
    assert "params.`lora.r`" in view["selectedColumns"]
    assert view["orderByKey"] == "metrics.`test/accuracy`"
    assert set(view["columnWidths"]) == set(view["selectedColumns"]) == set(view["columnOrder"])


def test_without_a_result_there_is_nothing_to_sort_by():
    assert "orderByKey" not in json.loads(shared_view([]))


def test_the_link_names_experiment_and_view():
    assert page_path("7") == "/#/experiments/7/runs?viewStateShareKey=lora_bench&workflowType=machine_learning"
