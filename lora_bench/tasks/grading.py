"""Grades of generated answers, each in [0, 1]."""

from __future__ import annotations

from functools import cache
from typing import Any

from lora_bench.tasks.base import Grading


def first_line(text: str) -> str:
    """The first line that says anything, without the spaces around it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def rouge_l(generated: str, reference: str) -> float:
    """ROUGE-L F1 with Porter stemming (Lin 2004), from the package `rouge_score`."""
    return float(_scorer().score(reference, generated)["rougeL"].fmeasure)


def rouge_l_of_first_line(generated: str, reference: str) -> float:
    """ROUGE-L F1 of the first line: what follows a headline is no part of it."""
    return rouge_l(first_line(generated), reference)


def exact_match(generated: str, reference: str) -> float:
    """1 if the first line is the reference, character by character, spaces around both aside; else 0."""
    return float(first_line(generated) == reference.strip())


@cache
def _scorer() -> Any:
    # Imported here: it brings nltk, which costs half a second that classification never needs.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


ROUGE_L = Grading("rouge_l", rouge_l)
ROUGE_L_OF_FIRST_LINE = Grading("rouge_l", rouge_l_of_first_line)
EXACT_MATCH = Grading("exact_match", exact_match, is_binary=True)
