"""Oracle: both contestants saw the same batches, so that they learnt the same."""

from __future__ import annotations

import pytest
from support.benchmark_scripts import measure


def test_our_loop_and_the_trainer_take_turns_and_learn_the_same(tmp_path):
    words = "--rounds 1 --steps 4 --turn 2 --batch-size 8 --methods lora --contestants loop_fp32 trainer_fp32"
    record = measure("step_speed.py", words, folder=tmp_path)
    assert set(record["ratios"]) == {"lora: loop_fp32 / trainer_fp32"}
    ours, theirs = record["trainings"]
    # Dropout masks differ, and nothing else.
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=0.01)
    assert [len(training["step_ms"]) for training in (ours, theirs)] == [4, 4]
