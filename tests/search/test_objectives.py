"""Oracle: directions and distances written out by hand, and means that are done in the head."""

from __future__ import annotations

import math

import pytest
from support.synthetic_runs import finish_run, start_run, synthetic_config

from lora_bench.config.schema import StudyConfig
from lora_bench.search.objectives import (
    Constraint,
    Objective,
    build_constraints,
    build_objectives,
    cost_metrics,
    known_direction,
    mean_metrics,
)


def texts(faults):
    return "\n".join(map(str, faults))


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("eval/accuracy", "maximize"),
        ("eval/rouge_l", "maximize"),
        ("eval/nll", "minimize"),
        ("eval/nll_per_token", "minimize"),
        ("perf/tokens_per_s", "maximize"),
        ("perf/padding_fraction", "minimize"),
        ("memory/peak_tensor_gib", "minimize"),
        ("checkpoint/weights_mib", "minimize"),
        ("time/step_median_ms", "minimize"),
        ("train/final_loss", "minimize"),
    ],
)
def test_known_directions(metric, direction):
    assert known_direction(metric) == direction


def test_the_headline_is_the_score_that_the_task_is_judged_by():
    study = StudyConfig(objectives=["headline", "memory/peak_tensor_gib"])
    assert build_objectives(study, "macro_f1") == (
        [Objective("eval/macro_f1", "maximize"), Objective("memory/peak_tensor_gib", "minimize")],
        [],
    )


def test_given_directions_are_over_known_ones():
    study = StudyConfig(objectives=["headline", "eval/nll"], direction=["minimize", "maximize"])
    objectives, faults = build_objectives(study, "accuracy")
    assert ([one.direction for one in objectives], faults) == (["minimize", "maximize"], [])


def test_faults_of_objectives_come_together():
    study = StudyConfig(objectives=["headline", "memory/peak_tensor_gb"], direction=["maximise", "minimize"])
    said = texts(build_objectives(study, "accuracy")[1])
    assert "no metric 'memory/peak_tensor_gb' (did you mean 'memory/peak_tensor_gib'?)" in said
    assert "'maximise' (did you mean 'maximize'?); accepted: maximize, minimize" in said
    assert "study.objectives: empty" in texts(build_objectives(StudyConfig(objectives=[]), "accuracy")[1])
    one_of_two = StudyConfig(objectives=["headline", "eval/nll"], direction=["maximize"])
    assert "1 for 2 objectives; give one for each" in texts(build_objectives(one_of_two, "accuracy")[1])


def test_better_is_strict_and_the_worst_is_worse_than_everything():
    more, less = Objective("eval/accuracy", "maximize"), Objective("eval/nll", "minimize")
    assert (more.better(2, 1), more.better(1, 1), more.better(1, 2)) == (True, False, False)
    assert (less.better(2, 1), less.better(1, 1), less.better(1, 2)) == (False, False, True)
    assert (more.worst, less.worst) == (-math.inf, math.inf)
    assert more.better(-1e300, more.worst)
    assert less.better(1e300, less.worst)


@pytest.mark.parametrize(
    ("text", "constraint", "inside", "outside"),
    [
        ("memory/peak_tensor_gib <= 2", Constraint("memory/peak_tensor_gib", "<=", 2), 1.5, 2.5),
        ("eval/accuracy>=0.7", Constraint("eval/accuracy", ">=", 0.7), 0.8, 0.6),
        (" checkpoint/weights_mib  <=  1.5e3 ", Constraint("checkpoint/weights_mib", "<=", 1500), 1000, 2000),
    ],
)
def test_bounds_and_how_far_a_value_is_out_of_them(text, constraint, inside, outside):
    assert build_constraints([text]) == ([constraint], [])
    # Optuna: "a value strictly larger than 0 means that a constraint is violated" (TPESampler, constraints_func).
    assert constraint.violation(inside) < 0 < constraint.violation(outside)
    assert constraint.violation(constraint.bound) == 0
    assert build_constraints([str(constraint)]) == ([constraint], [])


@pytest.mark.parametrize("text", ["memory/peak_tensor_gib < 2", "eval/accuracy", "eval/nll <= e", "eval/nll <= 1.2.3"])
def test_what_is_no_bound_is_said_with_an_example(text):
    constraints, faults = build_constraints([text])
    assert constraints == []
    assert f"'{text}' is not a bound on a metric; write 'memory/peak_tensor_gib <= 2'" in texts(faults)


def test_a_bound_on_a_metric_that_does_not_exist():
    assert "did you mean 'time/train_s'?" in texts(build_constraints(["time/trains <= 3"])[1])


def test_means_are_over_metrics_that_all_results_have(tmp_path):
    results = []
    for seed, accuracy, status in ((0, 0.6, "finished"), (1, 0.7, "finished"), (2, 0.0, "oom")):
        config = synthetic_config(seed=seed)
        results.append(finish_run(start_run(tmp_path, config), config, accuracy=accuracy, status=status))
    whole = mean_metrics(results[:2])
    accuracies = [result.score("accuracy").value for result in results[:2]]
    assert whole["eval/accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert accuracies[0] != accuracies[1]
    assert whole["time/train_s"] == 20
    assert set(cost_metrics()) & set(whole)
    assert not any(name.startswith(("eval/", "memory/", "time/")) for name in mean_metrics(results))
    assert mean_metrics([]) == {}
