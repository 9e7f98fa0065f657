"""Valid command lines with one slip each: every one is refused in words that name it, and none is a traceback.

Oracle: the slip itself, which is known. A few of each kind run always; MUTATIONS=500 runs as many.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from support.mutations import KINDS, ODD_WORDS, VALID, judge, mutants

NUMBER = int(os.environ.get("MUTATIONS", 3 * len(KINDS)))
SEED = int(os.environ.get("MUTATIONS_SEED", 0))


@pytest.mark.parametrize("words", VALID)
def test_the_command_lines_themselves_are_right(words):
    assert judge(words) is None


def test_every_slip_is_refused_in_words_that_name_it():
    found: Counter[str] = Counter()
    for mutant in mutants(NUMBER, seed=SEED):
        told = judge(mutant.words)
        found[f"{mutant.kind}, {'refused' if told else 'accepted'}"] += 1
        if mutant.names:
            assert told is not None, mutant
            assert mutant.names in told, (mutant, told)
        if told is not None:
            assert len(told) < 4000, mutant
            told.encode()
    print(dict(found))


@pytest.mark.parametrize("word", ODD_WORDS[:: 1 if "MUTATIONS" in os.environ else 6])
def test_odd_words_are_no_tracebacks(word):
    for words in ((*VALID[0], word), (*VALID[3], word)):
        judge(words)
