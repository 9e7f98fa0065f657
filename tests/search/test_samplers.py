"""Oracles: Optuna itself asked in one go, and the condition of a dimension read off the drawn points."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace

import optuna
import pytest

from lora_bench.errors import ConfigError
from lora_bench.search.question import SAMPLERS, build_question
from lora_bench.search.samplers import build_sampler
from lora_bench.search.space import Space, space_from_data
from lora_bench.search.storage import open_storage
from lora_bench.search.study import OptunaArm, Verdict
from lora_bench.search.studydir import StudyDir, settle_question

DRAWING = [name for name in SAMPLERS if name != "grid"]
CONDITIONAL = {
    "placement": ["qv", "all"],
    "lora.dropout": {"values": "interval(0.01,0.2)", "when": {"placement": "all"}},
    "training.lr": "tag(log,interval(1e-5,1e-1))",
}
PLAIN = Space()


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def drawn(name, *, num_points, seed="0:own", num_asked=0, study=None):
    """Points of two dimensions; the study goes on if one is given."""
    study = study or optuna.create_study()
    study.sampler = build_sampler(name, seed=seed, num_asked=num_asked, space=PLAIN)
    points = []
    for _ in range(num_points):
        trial = study.ask()
        points.append((trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)))
        study.tell(trial, sum(points[-1]))
    return points


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", DRAWING)
def test_a_seed_repeats_and_another_one_draws_others(name):
    assert drawn(name, num_points=3) == drawn(name, num_points=3)
    assert drawn(name, num_points=3) != drawn(name, num_points=3, seed="1:own")
    assert drawn(name, num_points=3) != drawn(name, num_points=3, seed="0:baseline")


@pytest.mark.parametrize("name", ["tpe", "random", "nsgaii"])
def test_the_number_of_trials_goes_into_the_seed(name):
    assert drawn(name, num_points=2, num_asked=5) != drawn(name, num_points=2, num_asked=0)
    assert drawn(name, num_points=2, num_asked=5) == drawn(name, num_points=2, num_asked=5)


def test_the_seed_of_random_is_a_hash_that_every_process_makes_alike():
    number = int(hashlib.sha256(b"0:own:7").hexdigest()[:8], 16)
    ours, plain = build_sampler("random", seed="0:own", num_asked=7, space=PLAIN), optuna.samplers.RandomSampler(number)
    points = []
    for sampler in (ours, plain):
        trial = optuna.create_study(sampler=sampler).ask()
        points.append(trial.suggest_float("x", 0, 1))
    assert points[0] == points[1]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_qmc_goes_on_in_its_sequence_after_a_restart():
    study = optuna.create_study()
    first = drawn("qmc", num_points=4, study=study)
    second = drawn("qmc", num_points=4, num_asked=4, study=study)
    assert [*first, *second] == drawn("qmc", num_points=8)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cmaes" else real(name))
    with pytest.raises(ConfigError, match=r"study\.sampler: cmaes needs the package cmaes.*pip install it"):
        build_sampler("cmaes", seed="0", num_asked=0, space=PLAIN)


@pytest.mark.parametrize("name", DRAWING)
def test_a_conditional_space_is_drawn_by_its_condition(tmp_path, name):
    words = ["model=tiny", "task.num_train=64", "training.lr=interval(1e-5,1e-1)", "study.baseline=null"]
    question = build_question([*words, "study.name=s", f"study.sampler={name}"])
    space = space_from_data(CONDITIONAL, where="space")
    own = replace(question.arms[0], space=space)
    question, directory = replace(question, arms=(own,)), StudyDir(tmp_path / "studies" / "s")
    settle_question(directory, question, words)
    points = []
    for _ in range(2):  # and once more, as after a restart
        arm = OptunaArm(question, own, open_storage(None, tmp_path / "journal.log"), directory)
        for number in range(len(points), len(points) + 7):
            points.append(arm.ask(number))
            arm.tell(number, Verdict("finished", {"eval/accuracy": points[-1]["training.lr"]}))
    assert {point["placement"] for point in points} == {"qv", "all"}
    for point in points:
        assert ("lora.dropout" in point) == (point["placement"] == "all")
        assert 0.01 <= point.get("lora.dropout", 0.01) <= 0.2
        assert 1e-5 <= point["training.lr"] <= 1e-1
    trials = arm.trials()
    assert [trial.params for trial in trials] == points
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 14
