"""Optuna behind its door. Oracle: Optuna's own account of what it was told, read back by a second opening."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lora_bench.errors import ConfigError, StudyError
from lora_bench.search.question import SAMPLERS, build_question
from lora_bench.search.storage import open_storage, storage_faults
from lora_bench.search.study import OptunaArm, Verdict
from lora_bench.search.studydir import StudyDir, settle_question

RATE = "training.lr=tag(log,interval(1e-5,1e-1))"


@pytest.fixture
def opened(tmp_path):
    """Opens the arm of a search anew, as a controller does that is started again."""

    def make(*words, sampler="tpe", folder="s"):
        asked = ["model=tiny", "task.num_train=64", RATE, "study.baseline=null", f"study.sampler={sampler}"]
        question = build_question([*asked, "study.name=s", *words])
        directory = StudyDir(tmp_path / "studies" / folder)
        settle_question(directory, question, words)
        return OptunaArm(question, question.arms[0], open_storage(None, tmp_path / "journal.log"), directory)

    return make


def finished(value, **metrics):
    return Verdict("finished", {"eval/accuracy": value, **metrics})


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_a_seeded_sampler_does_not_replay_after_a_restart(opened, sampler):
    rates = []
    for _ in range(3):
        arm = opened("lora.r=1,2,4", sampler=sampler)
        for _ in range(2):
            number = len(arm.trials())
            point = arm.ask(number)
            rates.append(point["training.lr"])
            arm.tell(number, finished(1 / (1 + number)))
    assert len(set(rates)) == 6
    assert all(1e-5 <= rate <= 1e-1 for rate in rates)
    assert [trial.state.name for trial in opened("lora.r=1,2,4", sampler=sampler).trials()] == ["COMPLETE"] * 6


def test_a_trial_that_was_asked_is_taken_up_at_its_point(opened):
    point = opened().ask(0)
    arm = opened()
    assert arm.ask(0) == point
    arm.tell(0, finished(0.5))
    arm.tell(0, finished(0.9))
    assert [trial.values for trial in opened().trials()] == [[0.5]]


def test_bad_ends_are_told_so_that_the_sampler_learns(opened):
    arm = opened("study.constraints=['memory/peak_tensor_gib <= 2']")
    verdicts = [
        finished(0.5, **{"memory/peak_tensor_gib": 1.0}),
        finished(0.9, **{"memory/peak_tensor_gib": 3.0}),
        Verdict("diverged"),
        Verdict("oom"),
        Verdict("pruned", {"eval/accuracy": 0.1}, curve={5: 0.1}),
        Verdict("failed", attributes={"error": "why"}),
    ]
    for number, verdict in enumerate(verdicts):
        arm.ask(number)
        arm.tell(number, verdict)
    trials = opened("study.constraints=['memory/peak_tensor_gib <= 2']").trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4 + ["PRUNED", "FAIL"]
    ceiling = "memory/peak_tensor_gib <= 2"
    assert trials[0].constraints == {"status": 0.0, ceiling: -1.0}
    assert trials[1].constraints == {"status": 0.0, ceiling: 1.0}
    assert trials[2].constraints["status"] == 1.0
    assert trials[2].values == trials[3].values == [-math.inf]
    assert trials[4].intermediate_values == {5: 0.1}
    assert trials[5].user_attrs == {"error": "why"}


def test_several_objectives_and_a_range(opened):
    arm = opened("lora.r=range(1,9,2)", "study.objectives=[headline,memory/peak_tensor_gib]")
    point = arm.ask(0)
    assert point["lora.r"] in (1, 3, 5, 7)
    arm.tell(0, finished(0.5, **{"memory/peak_tensor_gib": 1.5}))
    assert arm.trials()[0].values == [0.5, 1.5]


def test_a_discrete_space_is_searched_without_repeats_until_it_is_done(opened):
    arm = opened(RATE.replace("tag(log,interval(1e-5,1e-1))", "1e-4,1e-3"), "lora.r=1,2")
    seen = []
    while arm.enqueue_unseen(seen):
        seen.append(arm.ask(len(seen)))
        arm.tell(len(seen) - 1, finished(0.5))
    assert len({tuple(point.items()) for point in seen}) == 4


def test_the_study_of_another_folder_is_no_projection_of_this_one(opened):
    opened().ask(0)
    with pytest.raises(StudyError, match=r"has a study 's' of another folder; give this one a name of its own"):
        opened(folder="other")
    assert len(opened().trials()) == 1


def test_a_conditional_dimension_is_drawn_only_where_it_exists(tmp_path):
    from lora_bench.search.space import space_from_data

    space = space_from_data(
        {
            "placement": ["qv", "mlp"],
            "lora.r": {"values": "range(1,9)", "when": {"placement": "mlp"}},
        },
        where="space",
    )
    question = build_question(["model=tiny", "task.num_train=64", RATE, "study.baseline=null", "study.name=s"])
    arm = replace(question.arms[0], space=space)
    directory = StudyDir(tmp_path / "studies" / "s")
    settle_question(directory, question, [])
    optuna_arm = OptunaArm(question, arm, open_storage(None, directory.journal), directory)
    points = []
    for number in range(20):
        points.append(optuna_arm.ask(number))
        optuna_arm.tell(number, finished(1 / (1 + number)))
    placements = {point["placement"] for point in points}
    assert placements == {"qv", "mlp"}
    assert all(("lora.r" in point) == (point["placement"] == "mlp") for point in points)


def test_sqlite_is_refused_with_the_reason():
    (fault,) = storage_faults("sqlite:///study.db")
    assert "SQLite hands one enqueued trial to several askers" in str(fault)
    with pytest.raises(ConfigError, match="'mysql' is not known"):
        open_storage("mysql://somewhere", None)
    assert storage_faults("postgresql://me@host/studies") == []
