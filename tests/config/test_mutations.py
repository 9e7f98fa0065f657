"""Valid command lines with one slip each: every one is refused in words that name it, and none is a traceback.

Oracle: the slip itself, which is known. Two of each kind run always; MUTATIONS=500 runs as many, of MUTATIONS_SEED.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.mutations import KINDS, ODD_WORDS, VALID, judge, mutants

ROOT = Path(__file__).resolve().parents[2]
NUMBER = int(os.environ.get("MUTATIONS", 2 * len(KINDS)))
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


@pytest.mark.parametrize("word", ODD_WORDS[:: 1 if "MUTATIONS" in os.environ else 9])
def test_odd_words_are_no_tracebacks(word):
    for words in ((*VALID[0], word), (*VALID[3], word)):
        told = judge(words)
        assert told is None or "".join(told.splitlines()).isprintable()


@pytest.mark.parametrize("index", range(2 if "MUTATIONS" in os.environ else 1))
def test_the_program_itself_ends_with_the_code_of_a_configuration_error(index, tmp_path):
    mutant = [mutant for mutant in mutants(len(KINDS), seed=SEED) if mutant.names][index]
    words = [sys.executable, "run.py", *mutant.words, f"paths.root={tmp_path}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert mutant.names in done.stderr
    assert not list(tmp_path.iterdir())
