"""Oracle: ranks drawn by hand from answers that are far apart or nearly the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.synthetic_runs import finished_run, replaced, synthetic_config

from lora_bench.report.candidates import Candidate
from lora_bench.report.load import load_records
from lora_bench.report.pairs import compare_pairs
from lora_bench.report.ranking import build_ranking, rank_rows, ranking_json
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


def contenders(runs, edges=None) -> list[Candidate]:  # type: ignore[no-untyped-def]
    rows = build_rows(load_records(runs)[0], baseline_method="")
    return [Candidate((row,), row, "validation", (edges or {}).get(row.label)) for row in rows]


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
    assert [(place.rank, place.row.label) for place in ranking.places] == [
        (1, "LoRA r=1"),
        (1, "LoRA r=2"),
        (3, "LoRA r=4"),
        (3, "LoRA r=8"),
    ]
    first, second, third, _ = ranking.places
    assert first.difference is None
    assert second.difference is not None
    assert third.difference is not None
    assert second.difference.estimate.value == pytest.approx(-2 / NUM_ITEMS)
    assert second.difference.word == "inside the noise"
    assert third.difference.estimate.value == pytest.approx(-100 / NUM_ITEMS)
    assert third.difference.estimate.high < 0
    assert third.difference.word == "worse"
    assert ranking.num_comparisons == 6
    assert ranking.rule.num_rows == 4


def test_a_loss_is_ranked_from_below(runs):
    for run in runs:
        result = run.read_result()
        replaced(run, scores=[type(score)(**{**vars(score), "higher_is_better": False}) for score in result.scores])
    places = build_ranking({}, contenders(runs)).places
    assert [place.row.label[-1] for place in places] == ["8", "4", "2", "1"]
    assert [place.rank for place in places] == [1, 1, 3, 3]


def test_who_answered_other_items_is_named_and_a_seed_fewer_is_ranked(runs):
    runs[3].predictions.write_text('{"item_id": "other", "correct": true}\n')
    runs[-1].result.unlink()
    ranking = build_ranking({}, contenders(runs))
    assert [(place.rank, place.row.label) for place in ranking.places] == [
        (1, "LoRA r=1"),
        (2, "LoRA r=4"),
        (2, "LoRA r=8"),
    ]
    assert len(ranking.places[-1].row.finished) == 2
    (remark,) = ranking.remarks
    assert remark == "Not ranked, since their predictions are not of the same items: LoRA r=2."
    for run in runs:
        run.predictions.unlink()
    assert build_ranking({}, contenders(runs)).places == ()


def test_rows_of_one_seed_are_not_ranked(runs):
    places = build_ranking({}, contenders(runs[::3])).places
    assert [place.rank for place in places] == [None] * 4
    assert {place.obstacle for place in places} == {"one seed"}
    assert {place.difference.verdict for place in places[1:] if place.difference} == {"one seed: not decided"}
    assert places[0].difference is None


def test_a_row_of_one_seed_stands_among_the_others_without_a_rank(runs):
    del runs[1:3]  # the first row keeps one seed
    places = build_ranking({}, contenders(runs)).places
    assert [(place.rank, place.row.label[-1]) for place in places] == [(None, "1"), (1, "2"), (2, "4"), (2, "8")]
    assert places[1].difference is None
    assert places[0].difference is not None
    assert places[0].difference.verdict == "one seed: not decided"


def test_a_best_rate_at_an_edge_is_not_ranked(runs):
    ranking = build_ranking({}, contenders(runs, {"LoRA r=1": "upper edge", "LoRA r=2": "inside"}))
    assert [place.rank for place in ranking.places] == [None, 1, 2, 2]
    first, second, third, _ = ranking.places
    assert first.difference is not None
    assert first.difference.verdict == "best rate at the edge of its space: not decided"
    assert second.difference is None
    assert third.difference is not None
    assert third.difference.word == "worse"
    assert (ranking.num_comparisons, ranking.rule.num_rows) == (3, 3)


def test_a_margin_gives_a_word_for_equal(runs):
    places = build_ranking({}, contenders(runs), margin=0.05).places
    assert [place.difference.verdict for place in places[1:] if place.difference] == [
        "equal within 0.05",
        "worse",
        "worse",
    ]
    assert [place.rank for place in places] == [1, 1, 3, 3]


def test_ranks_are_those_of_tukeys_range():
    """Five rows without noise but for a spread over items, two standard errors apart: 1 and 2 share, 1 and 3 do not.

    Tukey's range of five rows at many degrees of freedom is 3.86 / sqrt 2 = 2.73 standard errors.
    """
    rng = np.random.default_rng(1)
    noise_MN = rng.normal(size=(5, 1, 4000))
    noise_MN = (noise_MN - noise_MN.mean(axis=2, keepdims=True)) / noise_MN.std(axis=2, ddof=1, keepdims=True)
    error = np.sqrt(2 / 4000)
    rows_MSN = np.repeat(noise_MN - 2 * error * np.arange(5)[:, None, None], 2, axis=1)
    assert rank_rows(compare_pairs(list(rows_MSN), np.ones(4000)), range(5)) == [1, 1, 3, 3, 5]


def test_the_data_are_json_with_full_digits(runs):
    data = json.loads(json.dumps(ranking_json(build_ranking({"task.name": "t"}, contenders(runs)))))
    assert [place["rank"] for place in data["places"]] == [1, 1, 3, 3]
    assert data["places"][0]["difference_to_first"] is None
    assert data["places"][1]["difference_to_first"]["value"] == pytest.approx(-0.005)
    assert data["places"][1]["difference_to_first"]["verdict"] == "inside the noise"
    assert data["correction"] == "Tukey's range over 4 rows"
    assert (data["places"][0]["chosen_on"], data["places"][0]["judged_on"]) == ("validation", "test")
    assert data["places"][0]["method"] == "lora"
    assert data["places"][0]["lr"] == 2e-3
    assert data["places"][0]["trainable_parameters"] == 28_803
    assert len(data["places"][0]["runs"]) == 3


def test_a_ranking_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a ranking of no methods"):
        build_ranking({}, [Candidate((), None, "validation", None)])
