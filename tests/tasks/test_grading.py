"""Oracles: `rouge_score` itself, and cases by hand."""

from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from lora_bench.tasks.grading import exact_match, first_line, rouge_l, rouge_l_of_first_line

PAIRS = [
    ("China's banks are jumping", "Profits jump at China's top bank"),
    ("the same headline", "the same headline"),
    ("", "something"),
    ("nothing alike", "entirely different words"),
]


@pytest.mark.parametrize(("generated", "reference"), PAIRS)
def test_rouge_l_is_the_package_s_own_with_the_reference_as_target(generated, reference):
    wanted = RougeScorer(["rougeL"], use_stemmer=True).score(target=reference, prediction=generated)["rougeL"]
    assert rouge_l(generated, reference) == wanted.fmeasure


def test_rouge_l_by_hand():
    # Longest common subsequence "a c" of 2: precision 2/3, recall 2/4, F1 4/7.
    assert rouge_l("a b c", "a x c y") == pytest.approx(4 / 7)


def test_only_the_first_line_of_a_headline_counts():
    assert first_line("\n  \n Prices rise \nMore text") == "Prices rise"
    assert first_line(" \n") == ""
    assert rouge_l_of_first_line(" prices rise\n\nThe pound fell", "Prices rise") == 1.0


@pytest.mark.parametrize(
    ("generated", "grade"), [(" 46", 1), ("46\n12 + 1 = 13", 1), ("\n46", 1), ("46.", 0), ("046", 0), ("4", 0), ("", 0)]
)
def test_exact_match(generated, grade):
    assert exact_match(generated, " 46") == grade
