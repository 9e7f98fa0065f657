"""Oracle: what Optuna and MLflow held before their files were taken away."""

from __future__ import annotations

import pytest
from support import mlflow_rows

from lora_bench.errors import StudyError
from lora_bench.search.rebuild import rebuild

RATE = "training.lr=tag(log,interval(1e-5,1e-1))"
SEARCH = [RATE, "lora.r=1,2,4", "study.n_trials=3", "study.sampler=random", "training.max_steps=10"]
BOUNDED = [*SEARCH, "study.constraints=['memory/peak_tensor_gib <= 0.002']"]


def told(study):
    """Everything that Optuna was told: name of the arm -> its trials."""
    return {
        name: [
            (
                trial.number, trial.state.name, trial.params, trial.distributions, trial.constraints, trial.user_attrs,
                trial.intermediate_values,
                # Of a pruned trial Optuna itself makes the last value of its curve, which is compared above.
                trial.values if trial.state.name == "COMPLETE" else None,
            )
            for trial in trials
        ]
        for name, trials in study.optuna_trials().items()
    }  # fmt: skip


def command(study):
    return study.directory.read_question()["command"]


def test_optuna_is_made_again_as_it_was(study):
    study.finish(*BOUNDED, "study.pruner=median", "study.pruner_startup_trials=1")
    before = told(study)
    assert {len(trials) for trials in study.optuna_trials().values()} == {3}
    study.directory.journal.unlink()
    assert rebuild(study.directory, command(study)) == (6, ())
    assert told(study) == before


def test_a_trial_that_was_not_finished_is_made_again_as_running(study):
    study.finish(*SEARCH, "study.baseline=null")
    line = study.directory.read_trials()[0]
    (run,) = [run for run in study.runs() if run.path.name == line.runs[0]]
    run.result.unlink()
    rebuild(study.directory, command(study))
    (trials,) = study.optuna_trials().values()
    assert [trial.state.name for trial in trials] == ["RUNNING", "COMPLETE", "COMPLETE"]
    assert trials[0].params == line.point


def test_mlflow_is_made_again_from_the_run_directories(study):
    study.finish("lora.r=1", "study.baseline=null", "tracking=mlflow", "training.max_steps=5")
    before = mlflow_rows.run_names(study.root)
    assert sum(before.values()) == 2
    (study.root / "mlflow.db").unlink()
    assert rebuild(study.directory, command(study)) == (1, ())
    study.check_each_once_in_mlflow(study.root)
    assert mlflow_rows.run_names(study.root) == before


def test_a_study_that_somebody_carries_out_or_that_asks_something_else_is_left_alone(study):
    study.finish(*SEARCH, "study.name=one", "study.baseline=null")
    journal = study.directory.journal.read_bytes()
    with study.directory.hold(), pytest.raises(StudyError, match="has carried it out since"):
        rebuild(study.directory, command(study))
    other = [word.replace("lora.r=1,2,4", "lora.r=1,2,8") for word in command(study)]
    with pytest.raises(StudyError, match=r"with another question\s+arms.own.space.lora.r: was 1, 2, 4, now 1, 2, 8"):
        rebuild(study.directory, other)
    assert study.directory.journal.read_bytes() == journal
