"""Oracle: the question that was asked, and one on record that cannot be read."""

from __future__ import annotations

import pytest
from support.recorded_studies import rank_study

from lora_bench.errors import RecordError
from lora_bench.search.question import build_question
from lora_bench.search.recorded import recorded_question
from lora_bench.search.studydir import StudyDir, TrialLine, settle_question

WORDS = ["model=tiny", "training.lr=tag(log,interval(1e-4,1e-2))", "lora.r=range(1,9)", "placement=qv,all", "seed=0,1"]


def test_a_question_is_read_as_it_was_asked_without_its_command(tmp_path):
    asked = build_question([*WORDS, "study.name=one", "study.constraints=['memory/peak_tensor_gib <= 2']"])
    directory = StudyDir(tmp_path / "studies" / "one")
    settle_question(directory, asked, ["no command that could be composed"])
    point = {"training.lr": 0.001, "lora.r": 3, "placement": "qv"}
    directory.append_trial(TrialLine("own", 0, point, [], []))
    read = recorded_question(directory)
    assert (read.name, read.seeds, read.objectives, read.constraints) == (
        asked.name,
        asked.seeds,
        asked.objectives,
        asked.constraints,
    )
    assert (read.is_grid, read.sampler) == (False, "tpe")
    own = {one.key: one for one in read.arms[0].space.dimensions}
    assert (own["training.lr"].low, own["training.lr"].high, own["training.lr"].is_log) == (1e-4, 1e-2, True)
    assert (own["lora.r"].low, own["lora.r"].high, own["lora.r"].is_int) == (1, 8, True)
    assert own["placement"].values == ("qv", "all")


def test_a_record_that_is_no_question_is_named(tmp_path):
    directory = rank_study(tmp_path)
    directory.question.write_text("question: {arms: 3}\ntext: ''\n")
    with pytest.raises(RecordError, match=r"study.yaml: holds no question"):
        recorded_question(directory)
