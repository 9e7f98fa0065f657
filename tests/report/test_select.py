"""Oracle: a grid of ranks whose scores, sizes and times were set by hand."""

from __future__ import annotations

import pytest
from support.synthetic_runs import finished_run, rank_grid, start_run, synthetic_config

from lora_bench.errors import UsageError
from lora_bench.report.compare import build_comparison
from lora_bench.report.load import load_records
from lora_bench.report.select import Selection, select
from lora_bench.rundir import find_run_dirs


@pytest.fixture
def records(tmp_path):
    rank_grid(tmp_path, study="ranks")
    start_run(tmp_path, synthetic_config(seed=7), name="begun")
    finished_run(tmp_path, synthetic_config(seed=8), name="burst", status="diverged")
    return load_records(find_run_dirs(tmp_path))[0]


def names(records, **asked):
    chosen = select(records, Selection(**asked))
    return [f"{one.config['method']['name']}{(one.config['lora'] or {}).get('r', '')}" for one in chosen]


def test_runs_are_chosen_by_status_method_study_and_age(records):
    assert len(select(records, Selection())) == 7
    assert [one.run.path.name for one in select(records, Selection(statuses=("diverged", "interrupted")))] == [
        "begun",
        "burst",
    ]
    assert names(records, methods=("full",)) == ["full"]
    assert names(records, runs={"begun"}) == ["lora8"]
    assert [one.run.path.name for one in select(records, Selection(last=1, statuses=("interrupted",)))] == ["begun"]
    assert len(select(records, Selection(models=("minilm",), statuses=("finished",)))) == 5


def test_runs_are_sorted_and_those_without_a_value_come_last(records):
    scores = [one.result.scores[0].value for one in select(records, Selection(sort="score"))[:5]]
    assert scores == sorted(scores, reverse=True)
    assert [one.state for one in select(records, Selection(sort="score"))[5:]] == ["interrupted", "diverged"]
    assert names(records, sort="r", statuses=("finished",)) == ["lora1", "lora4", "lora8", "lora64", "full"]
    assert names(records, sort="parameters")[0] == "lora1"
    assert names(records, sort="training.lr")[0] == "full"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"statuses": ("finishd",)}, r"--status: no 'finishd' \(did you mean 'finished'\?\); accepted: finished, run"),
        ({"methods": ("lroa",)}, r"--method: no 'lroa' \(did you mean 'lora'\?\); accepted: full, lora"),
        ({"models": ("mini",)}, r"--model: no 'mini' \(did you mean 'minilm'\?\); accepted: minilm"),
        ({"sort": "scroe"}, r"--sort: no key 'scroe' \(did you mean 'score'\?\); accepted: score, newest"),
    ],
)
def test_what_there_is_none_of_has_a_near_name(records, asked, message):
    with pytest.raises(UsageError, match=message):
        select(records, Selection(**asked))


def test_rows_of_a_table_are_sorted_with_the_baseline_last(tmp_path):
    runs = rank_grid(tmp_path)
    (table,) = build_comparison(runs, sort="score").tables
    values = [row.quality.value for row in table.rows[:-1]]
    assert values == sorted(values, reverse=True)
    assert table.rows[-1].label == "full fine-tuning"
