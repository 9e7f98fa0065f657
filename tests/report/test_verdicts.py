"""Oracle: words written by hand beside differences whose standard error is known."""

from __future__ import annotations

import numpy as np
import pytest

from lora_bench.report.pairs import Pairs
from lora_bench.report.verdicts import AT_EDGE, Rule, difference_json, judge_pair


def pairs_of(difference: float, *, seeds: tuple[int, int] = (3, 3)) -> Pairs:
    """Two rows, 0.01 standard error, so many degrees of freedom that Student is normal: 1.96 and 1.645."""
    scores = np.array([0.7 + difference, 0.7])
    return Pairs(scores, np.full((2, 2), 0.01), np.full((2, 2), 1e9), seeds, 1000)


@pytest.mark.parametrize(
    ("difference", "higher_is_better", "margin", "verdict"),
    [
        (0.0, True, None, "inside the noise"),
        (0.0195, True, None, "inside the noise"),
        (0.0197, True, None, "better"),
        (0.0197, False, None, "worse"),
        (-0.0197, True, None, "worse"),
        (-0.0197, False, None, "better"),
        # The 90 % interval reaches 0.01645 to either side: inside +-0.02 up to a difference of 0.00355.
        (0.0035, True, 0.02, "equal within 0.02"),
        (-0.0035, True, 0.02, "equal within 0.02"),
        (0.0036, True, 0.02, "undecided"),
        (0.0, True, 0.016, "undecided"),
        (0.0197, True, 0.02, "better"),
        # Surely not 0 and surely below the margin: it does not matter.
        (0.0197, True, 0.04, "equal within 0.04"),
        (0.0300, True, 0.04, "better"),
    ],
)
def test_words(difference, higher_is_better, margin, verdict):
    assert judge_pair(pairs_of(difference), 0, 1, Rule(higher_is_better, margin)).verdict == verdict


@pytest.mark.parametrize("seeds", [(1, 3), (3, 1), (1, 1)])
@pytest.mark.parametrize("margin", [None, 0.5])
def test_one_seed_on_either_side_decides_nothing_and_its_difference_is_shown(seeds, margin):
    found = judge_pair(pairs_of(0.3, seeds=seeds), 0, 1, Rule(True, margin))
    assert found.verdict == "one seed: not decided"
    assert found.estimate.value == pytest.approx(0.3)
    assert found.estimate.low == pytest.approx(0.2804, abs=1e-4)
    assert found.p_equal is None


def test_an_obstacle_forbids_a_verdict():
    found = judge_pair(pairs_of(0.3), 0, 1, Rule(True), obstacles=[AT_EDGE])
    assert found.verdict == "best rate at the edge of its space: not decided"
    assert judge_pair(pairs_of(0.3, seeds=(1, 3)), 0, 1, Rule(True), obstacles=[AT_EDGE]).verdict == (
        "one seed; best rate at the edge of its space: not decided"
    )


def test_many_rows_widen_the_interval_that_the_word_is_read_from():
    """Of 24 rows: Tukey's range at infinitely many degrees of freedom is 5.14 standard errors of a row, or 3.63."""
    few, many = (judge_pair(pairs_of(0.03), 0, 1, Rule(True, num_rows=rows)) for rows in (2, 24))
    assert (few.verdict, many.verdict) == ("better", "inside the noise")
    assert many.estimate.high - many.estimate.value == pytest.approx(0.0363, abs=2e-4)


def test_the_data_hold_the_word_the_interval_and_the_tests():
    data = difference_json(judge_pair(pairs_of(0.0), 0, 1, Rule(True, 0.02)))
    assert data is not None
    assert data["verdict"] == "equal within 0.02"
    assert (data["word"], data["reason"], data["margin"], data["num_items"]) == ("equal", None, 0.02, 1000)
    assert data["p_equal"] == pytest.approx(0.02275, abs=1e-5)  # beyond two standard errors
    assert data["ci_high"] == pytest.approx(0.0196, abs=1e-4)
    assert difference_json(None) is None
