"""Oracles: a clock that is set by hand; and studies with real processes, which must end with their budget."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lora_bench.config.schema import StudyConfig
from lora_bench.rundir import find_run_dirs
from lora_bench.search.clock import Clock
from lora_bench.search.studydir import StudyDir

RATE = "training.lr=tag(log,interval(1e-5,1e-1))"


@pytest.fixture
def directory(tmp_path):
    """The folder of a study of which nothing is on record."""
    return StudyDir(tmp_path / "studies" / "s")


@pytest.fixture
def now(monkeypatch):
    """Seconds on the clock's own clock."""
    hand = SimpleNamespace(s=1000.0)
    monkeypatch.setattr("lora_bench.search.clock.time", SimpleNamespace(monotonic=lambda: hand.s, time=lambda: 0.0))
    return hand


def test_without_a_budget_no_time_is_too_long(directory, now):
    clock = Clock(StudyConfig(), directory)
    now.s += 1e9
    clock.add_run(1e9)
    assert not clock.is_spent()


def test_wall_time_is_that_of_all_starts_and_not_of_the_time_between(directory, now):
    study = StudyConfig(wall_min=1.0)
    clock = Clock(study, directory)
    now.s += 50
    clock.note(directory, "stopped", num_done=1, num_runs=4)
    now.s += 10_000
    clock = Clock(study, directory)
    assert clock.wall_s == 50
    now.s += 9.9
    assert not clock.is_spent()
    now.s += 0.1
    assert clock.is_spent()


def test_device_time_is_what_the_runs_have_taken_together(directory, now):
    study = StudyConfig(device_min=1.0)
    clock = Clock(study, directory)
    now.s += 10_000
    clock.add_run(30)
    clock.add_run(20)
    assert not clock.is_spent()
    clock.note(directory, "stopped", num_done=2, num_runs=4)
    clock = Clock(study, directory)
    clock.add_run(9.9)
    assert not clock.is_spent()
    clock.add_run(0.1)
    assert clock.is_spent()


def test_the_first_budget_that_is_spent_counts(directory, now):
    clock = Clock(StudyConfig(wall_min=1.0, device_min=100.0), directory)
    now.s += 60
    assert clock.is_spent()


def test_progress_is_there_for_other_commands(directory, now):
    clock = Clock(StudyConfig(), directory)
    now.s += 5
    clock.add_run(3)
    clock.note(directory, "running", num_done=1, num_runs=4)
    expected = {"state": "running", "num_done": 1, "num_runs": 4, "wall_s": 5.0, "device_s": 3.0, "updated_at": 0.0}
    assert directory.read_progress() == expected


@pytest.mark.parametrize("budget", ["device_min", "wall_min"])
def test_a_study_begins_no_trial_once_its_budget_is_spent(tmp_path, pretended_study, budget):
    # A run takes 0.2 s and more, so that a budget of 0.6 s is spent long before 60 of them.
    words = [RATE, "study.name=one", "study.n_trials=60", "study.baseline=null", "study.sampler=random"]
    words += ["training.max_steps=20", f"study.{budget}=0.01"]
    pretended_study(*words)
    directory, runs = StudyDir(tmp_path / "root" / "studies" / "one"), find_run_dirs(tmp_path / "root")
    assert 1 <= len(runs) < 20
    assert all(run.read_result().status == "finished" for run in runs)
    assert len(directory.read_trials()) == len(runs)
    assert directory.read_progress()["state"] == "done"
    assert directory.read_progress()[budget.replace("min", "s")] >= 0.6
    # The same command again has nothing left to spend; more is given by another word.
    pretended_study(*words)
    assert len(find_run_dirs(tmp_path / "root")) == len(runs)
    pretended_study(*words, f"study.{budget}=null", f"study.n_trials={len(runs) + 2}")
    assert len(find_run_dirs(tmp_path / "root")) == len(runs) + 2
