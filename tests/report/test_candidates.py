"""Oracle: settings chosen by hand."""

from __future__ import annotations

import dataclasses

import pytest
from support.synthetic_runs import finish_run, finished_run, start_run, synthetic_config

from lora_bench.report.candidates import choose, edge_among, group_settings
from lora_bench.report.load import load_records
from lora_bench.report.rows import build_rows


def rows_of(runs):  # type: ignore[no-untyped-def]
    return build_rows(load_records(runs)[0], baseline_method="full")


def tried(root, scores, *, method="lora", r=8):  # type: ignore[no-untyped-def]
    """Rates with their accuracy on test and on validation items, two seeds each."""
    return [
        finished_run(root, synthetic_config(method=method, r=r, lr=lr, seed=seed), accuracy=test, validation=validation)
        for lr, (test, validation) in scores.items()
        for seed in (0, 1)
    ]


def test_validation_items_choose_and_test_items_do_not(tmp_path):
    rows = rows_of(tried(tmp_path, {1e-4: (0.9, 0.6), 1e-3: (0.7, 0.8), 1e-2: (0.8, 0.7)}))
    found = choose(rows, {}, higher_is_better=True)
    assert found.chosen is not None
    assert (found.chosen.rate, found.chosen_on, found.edge) == (1e-3, "validation", "inside")
    assert found.chosen.choosing == pytest.approx(0.8)
    lowest = choose(rows, {}, higher_is_better=False)
    assert lowest.chosen is not None
    assert (lowest.chosen.rate, lowest.edge) == (1e-4, "lower edge")


def test_of_equal_means_one_inside_is_chosen(tmp_path):
    rows = rows_of(tried(tmp_path, {1e-4: (0.7, 0.8), 1e-3: (0.7, 0.8), 1e-2: (0.7, 0.8)}))
    found = choose(rows, {}, higher_is_better=True)
    assert found.chosen is not None
    assert (found.chosen.rate, found.edge) == (1e-3, "inside")


@pytest.mark.parametrize("old", [(1e-3,), (1e-4, 1e-3)])
def test_where_a_record_has_no_validation_items_all_are_chosen_by_test_items(tmp_path, old):
    scores = {1e-4: (0.9, 0.6), 1e-3: (0.7, 0.8)}
    rows = rows_of(tried(tmp_path, {lr: (test, None if lr in old else val) for lr, (test, val) in scores.items()}))
    found = choose(rows, {}, higher_is_better=True)
    assert found.chosen is not None
    assert (found.chosen.rate, found.chosen_on) == (1e-4, "test")


def test_a_setting_that_lost_a_seed_is_not_chosen_while_another_is_whole(tmp_path):
    runs = tried(tmp_path, {1e-4: (0.9, 0.9), 1e-3: (0.7, 0.7)})
    config = synthetic_config(lr=1e-4, seed=2)
    lost = start_run(tmp_path, config)
    finish_run(lost, config, status="diverged")
    found = choose(rows_of([*runs, lost]), {}, higher_is_better=True)
    assert found.chosen is not None
    assert (found.chosen.rate, found.edge, len(found.settings)) == (1e-3, "upper edge", 2)


def test_nothing_that_finished_is_nothing_chosen(tmp_path):
    config = synthetic_config()
    run = start_run(tmp_path, config)
    finish_run(run, config, status="diverged")
    assert choose(rows_of([run]), {}, higher_is_better=True).chosen is None


def test_the_space_of_a_study_is_over_the_rates_of_the_table(tmp_path):
    runs = tried(tmp_path, {1e-4: (0.6, 0.6), 1e-3: (0.7, 0.7)})
    rows = rows_of(runs)
    names = [run.path.name for run in runs]
    assert choose(rows, {}, higher_is_better=True).edge == "upper edge"
    assert choose(rows, dict.fromkeys(names, "inside"), higher_is_better=True).edge == "inside"
    assert choose(rows[:1], dict.fromkeys(names, "upper edge"), higher_is_better=True).edge == "upper edge"
    assert choose(rows[:1], {}, higher_is_better=True).edge is None


def test_each_rank_stands_at_its_best_rate_and_the_baseline_at_the_best_of_all(tmp_path):
    runs = [
        *tried(tmp_path, {1e-4: (0.6, 0.6), 1e-3: (0.7, 0.7)}, r=1),
        *tried(tmp_path, {1e-4: (0.6, 0.6), 1e-3: (0.7, 0.7)}, r=8),
        *tried(tmp_path, {1e-5: (0.6, 0.6), 1e-4: (0.7, 0.7)}, method="full"),
    ]
    groups = group_settings(rows_of(runs))
    assert [[(row.label, row.rate) for row in group] for group in groups] == [
        [("LoRA r=1", 1e-4), ("LoRA r=1", 1e-3)],
        [("LoRA r=8", 1e-4), ("LoRA r=8", 1e-3)],
        [("full fine-tuning", 1e-5), ("full fine-tuning", 1e-4)],
    ]


def test_points_of_a_search_are_settings_of_their_method(tmp_path):
    runs = [
        run
        for r, lr in ((1, 1.1e-4), (4, 3.2e-4), (8, 7.1e-4), (64, 9.9e-4))
        for run in tried(tmp_path, {lr: (0.7, 0.7)}, r=r)
    ]
    (group,) = group_settings(rows_of(runs))
    assert len(group) == 4
    # Three ranks, each with a rate that somebody gave it, are still three questions.
    assert len(group_settings(rows_of(runs[:6]))) == 3


def test_what_else_differs_is_another_candidate(tmp_path):
    other = synthetic_config(lr=1e-3)
    other.training.weight_decay = 0.1
    runs = [*tried(tmp_path, {1e-3: (0.7, 0.7)}), finished_run(tmp_path, other)]
    assert len(group_settings(rows_of(runs))) == 2


@pytest.mark.parametrize(
    ("rate", "rates", "edge"),
    [
        (1.0, [1.0], None),
        (1.0, [1.0, 2.0], "lower edge"),
        (2.0, [1.0, 2.0], "upper edge"),
        (2.0, [3.0, 1.0, 2.0, 2.0], "inside"),
    ],
)
def test_edges_of_listed_rates(rate, rates, edge):
    assert edge_among(rate, rates) == edge


def test_rows_of_one_method_know_what_they_are(tmp_path):
    (row,) = rows_of(tried(tmp_path, {1e-3: (0.7, 0.7)}))
    assert (row.method, row.rate, row.is_validated) == ("lora", 1e-3, True)
    assert not dataclasses.replace(row, choosing=None).is_validated
