"""Oracle: the run directories of a study, and what Optuna and its dashboard read of the journal."""

from __future__ import annotations

import optuna
import pytest
from support.recorded_studies import rank_study
from support.synthetic_runs import finish_run, synthetic_config

from lora_bench.rundir import RunDir
from lora_bench.search.optuna_view import OptunaView, view_name
from lora_bench.search.overview import read_overview
from lora_bench.search.rebuild import refresh_optuna
from lora_bench.search.recorded import recorded_question
from lora_bench.search.storage import open_storage


def shown(directory):
    return optuna.load_study(study_name=directory.path.name, storage=open_storage(None, directory.journal))


def test_a_grid_has_every_trial_of_both_methods_on_the_same_axes(tmp_path):
    directory = rank_study(tmp_path)
    refresh_optuna(directory)
    study = shown(directory)
    assert [trial.params for trial in study.trials] == [
        {"method": "lora", "lora.r": 1, "training.lr": 0.0005},
        {"method": "lora", "lora.r": 1, "training.lr": 0.002},
        {"method": "lora", "lora.r": 8, "training.lr": 0.0005},
        {"method": "lora", "lora.r": 8, "training.lr": 0.002},
        {"method": "full", "training.lr": 0.0001},
        {"method": "full", "training.lr": 0.0003},
    ]
    results = [RunDir(directory.runs / f"run-{index}").read_result() for index in range(6)]
    assert [trial.value for trial in study.trials] == [result.score("accuracy").value for result in results]
    assert [trial.user_attrs["trial"] for trial in study.trials][3:] == ["3", "baseline-0", "baseline-1"]
    assert len({str(trial.distributions["training.lr"]) for trial in study.trials}) == 1
    assert study.trials[0].distributions["training.lr"].log
    assert study.trials[0].intermediate_values == {50: 0.65, 100: 0.7}
    assert study.metric_names == ["eval/accuracy"]
    assert study.best_trial.number == 5


def test_the_note_is_the_question_and_a_note_of_somebody_stays(tmp_path):
    dashboard = pytest.importorskip("optuna_dashboard")
    directory = rank_study(tmp_path)
    refresh_optuna(directory)
    note = dashboard.get_note(shown(directory))
    assert note.startswith("**Which rank does LoRA need?**")
    assert "the baseline, full: `training.lr` 0.0001, 0.0003" in note
    dashboard.save_note(shown(directory), "mine")
    refresh_optuna(directory)
    assert dashboard.get_note(shown(directory)) == "mine"


def test_it_follows_a_study_that_runs_and_writes_nothing_where_nothing_is_new(tmp_path):
    directory = rank_study(tmp_path, num_finished=2)
    storage = open_storage(None, directory.journal)
    view = OptunaView(recorded_question(directory), directory, lambda: storage)
    view.sync()
    assert [trial.state.name for trial in shown(directory).trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    size = directory.journal.stat().st_size
    view.sync()
    assert directory.journal.stat().st_size == size
    finish_run(RunDir(directory.runs / "run-2"), synthetic_config(r=8, lr=0.0005, study="ranks"), accuracy=0.9)
    view.sync()
    trial = shown(directory).trials[2]
    assert (trial.state.name, trial.user_attrs["status"]) == ("COMPLETE", "finished")
    assert trial.value == RunDir(directory.runs / "run-2").read_result().score("accuracy").value


def test_a_run_that_was_tried_again_is_told_anew(tmp_path):
    directory = rank_study(tmp_path)
    refresh_optuna(directory)
    run = RunDir(directory.runs / "run-1")
    run.archive_failure()
    finish_run(run, synthetic_config(r=1, lr=0.002, study="ranks"), status="diverged")
    refresh_optuna(directory)
    trial = shown(directory).trials[1]
    assert trial.user_attrs["status"] == "diverged"
    assert trial.value == float("-inf")
    assert len(shown(directory).trials) == 6


def test_several_objectives_are_shown_as_several(tmp_path):
    objectives = ("maximize eval/accuracy", "minimize memory/peak_tensor_gib")
    directory = rank_study(tmp_path, objectives=objectives)
    refresh_optuna(directory)
    study = shown(directory)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(len(trial.values) == 2 for trial in study.trials)
    assert {trial.number for trial in study.best_trials} == {
        row.line.number + 4 * (row.line.arm == "baseline") for row in read_overview(directory).pareto_front()
    }


def test_a_search_keeps_its_samplers_apart_from_what_is_looked_at(pretended_study, tmp_path):
    rate = "training.lr=tag(log,interval(1e-4,1e-2))"
    pretended_study(rate, "lora.r=1,2", "study.name=one", "study.n_trials=3", "training.max_steps=10")
    from lora_bench.search.studydir import StudyDir

    directory = StudyDir(tmp_path / "root" / "studies" / "one")
    storage = open_storage(None, directory.journal)
    assert sorted(optuna.get_all_study_names(storage)) == ["one", "one-all", "one-baseline"]
    assert view_name(recorded_question(directory)) == "one-all"
    everything = optuna.load_study(study_name="one-all", storage=storage).trials
    assert sorted(trial.params["method"] for trial in everything) == ["full"] * 3 + ["lora"] * 3
    directory.journal.unlink()
    refresh_optuna(directory)
    storage = open_storage(None, directory.journal)
    again = optuna.load_study(study_name="one-all", storage=storage).trials
    assert [(trial.params, trial.values) for trial in again] == [(trial.params, trial.values) for trial in everything]
    assert len(optuna.load_study(study_name="one", storage=storage).trials) == 3
