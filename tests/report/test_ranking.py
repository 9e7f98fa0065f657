"""Oracle: ranks drawn by hand from answers that are far apart or nearly the same."""

from __future__ import annotations

import json

import pytest
from support.synthetic_runs import finished_run, replaced, synthetic_config

from lora_bench.report.load import load_records
from lora_bench.report.ranking import Contender, build_ranking, ranking_json
from lora_bench.report.rows import build_rows
from lora_bench.rundir import RunDir, write_text

NUM_ITEMS = 400


def answered(run: RunDir, num_right: int, flipped: tuple[int, ...] = ()) -> RunDir:
    """Makes the first answers of a run right and the others wrong, but for those that are flipped."""
    right = [(index < num_right) != (index in flipped) for index in range(NUM_ITEMS)]
    items = [{"item_id": str(index), "correct": flag} for index, flag in enumerate(right)]
    write_text(run.predictions, "".join(json.dumps(item) + "\n" for item in items))
    result = run.read_result()
    assert result is not None
    scores = [type(result.scores[0])("accuracy", sum(right) / NUM_ITEMS, 0.0, 1.0, NUM_ITEMS, True)]
    replaced(run, scores=scores)
    return run


def contenders(runs) -> list[Contender]:  # type: ignore[no-untyped-def]
    rows = build_rows(load_records(runs)[0], baseline_method="")
    return [Contender(row, num_settings=1, edge=None) for row in rows]


@pytest.fixture
def runs(tmp_path):
    """Three seeds each: ranks 1 and 2 differ in a few items, rank 4 is worse, rank 8 within its noise."""
    right = {1: 300, 2: 298, 4: 200, 8: 197}
    flips = {0: (1, 350), 1: (2, 360), 2: (3, 370)}
    return [
        answered(finished_run(tmp_path, synthetic_config(r=r, seed=seed)), number, flips[seed])
        for r, number in right.items()
        for seed in range(3)
    ]


def test_rows_inside_the_noise_of_the_best_share_its_rank(runs):
    ranking = build_ranking({}, contenders(runs))
    assert [(place.rank, place.contender.row.label) for place in ranking.places] == [
        (1, "LoRA r=1"),
        (1, "LoRA r=2"),
        (3, "LoRA r=4"),
        (3, "LoRA r=8"),
    ]
    first, second, third, _ = ranking.places
    assert first.difference is None
    assert second.difference is not None
    assert third.difference is not None
    assert second.difference.value == pytest.approx(-2 / NUM_ITEMS)
    assert second.difference.is_inside_noise
    assert third.difference.value == pytest.approx(-100 / NUM_ITEMS)
    assert third.difference.high < 0
    assert ranking.num_comparisons == 6
    assert ranking.level == pytest.approx(0.05 / 2)  # four pairs are told apart, and 2 of 6 are left


def test_a_loss_is_ranked_from_below(runs):
    for run in runs:
        result = run.read_result()
        replaced(run, scores=[type(score)(**{**vars(score), "higher_is_better": False}) for score in result.scores])
    places = build_ranking({}, contenders(runs)).places
    assert [place.contender.row.label[-1] for place in places] == ["8", "4", "2", "1"]
    assert [place.rank for place in places] == [1, 1, 3, 3]


def test_who_answered_other_items_or_fewer_seeds_is_named_and_not_ranked(runs):
    runs[3].predictions.write_text('{"item_id": "other", "correct": true}\n')
    runs[-1].result.unlink()
    ranking = build_ranking({}, contenders(runs))
    assert [place.contender.row.label for place in ranking.places] == ["LoRA r=1", "LoRA r=4"]
    (remark,) = ranking.remarks
    assert remark == "Not ranked, since their predictions are not of the same items and seeds: LoRA r=2, LoRA r=8."
    for run in runs:
        run.predictions.unlink()
    assert build_ranking({}, contenders(runs)).places == ()


def test_the_data_are_json_with_full_digits(runs):
    data = json.loads(json.dumps(ranking_json(build_ranking({"task.name": "t"}, contenders(runs)))))
    assert [place["rank"] for place in data["places"]] == [1, 1, 3, 3]
    assert data["places"][0]["difference_to_first"] is None
    assert data["places"][1]["difference_to_first"]["value"] == pytest.approx(-0.005)
    assert data["places"][0]["method"] == "lora"
    assert data["places"][0]["lr"] == 2e-3
    assert data["places"][0]["trainable_parameters"] == 28_803
    assert len(data["places"][0]["runs"]) == 3


def test_a_ranking_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a ranking of no methods"):
        build_ranking({}, [])
