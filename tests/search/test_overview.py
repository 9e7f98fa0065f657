"""Oracle: a front and a best drawn by hand, and a command that is parsed again."""

from __future__ import annotations

import shlex

from support.synthetic_runs import synthetic_config

from lora_bench import rundir
from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve, to_yaml
from lora_bench.search.objectives import Objective
from lora_bench.search.overview import Overview, TrialRow, repeat_command
from lora_bench.search.studydir import TrialLine

QUALITY, MEMORY = Objective("eval/accuracy", "maximize"), Objective("memory/peak_tensor_gib", "minimize")


def overview(tmp_path, *trials):
    rows = []
    for number, (accuracy, memory, status, is_feasible) in enumerate(trials):
        line = TrialLine(
            "own",
            number,
            {},
            ["lora.r=1", "study.n_trials=3", "executor=slurm", "processes=ddp", "processes.nodes=2"],
            [f"run-{number}"],
        )
        rows.append(TrialRow(line, status, {QUALITY.metric: accuracy, MEMORY.metric: memory}, is_feasible))
    return Overview("s", "", "done", None, (QUALITY, MEMORY), tuple(rows), {}, (), tmp_path)


def test_the_front_and_the_best_leave_out_what_is_beaten_broken_or_infeasible(tmp_path):
    found = overview(
        tmp_path,
        (0.9, 3.0, "finished", True),
        (0.8, 1.0, "finished", True),
        (0.7, 2.0, "finished", True),  # beaten by the one before it
        (0.8, 1.0, "finished", True),  # equal to one on the front
        (0.99, 0.5, "pruned", True),
        (0.98, 0.5, "finished", False),
    )
    assert [row.line.number for row in found.pareto_front()] == [0, 1, 3]
    assert found.best("own").line.number == 0
    assert found.best("baseline") is None


def test_the_best_run_is_repeated_beside_its_record(tmp_path):
    found = overview(tmp_path, (0.9, 3.0, "finished", True))
    rundir.write_text(tmp_path / "run-0" / "config.yaml", to_yaml(synthetic_config(seed=5)))
    words = shlex.split(repeat_command(found.best("own"), found.runs))
    assert words == ["python", "run.py", "lora.r=1", "processes=ddp", "seed=5", "again=2"]
    assert resolve(compose_config(words[2:])).again == 2


def test_where_methods_are_varied_each_has_its_best(tmp_path):
    points = [("lora", 0.7), ("full", 0.8), ("lora", 0.75), ("full", 0.6)]
    rows = tuple(
        TrialRow(TrialLine("own", number, {"method": method}, [], []), "finished", {QUALITY.metric: accuracy}, True)
        for number, (method, accuracy) in enumerate(points)
    )
    found = Overview("s", "", "done", None, (QUALITY,), rows, {}, (), tmp_path)
    assert [(row.kind, row.line.number) for row in found.best_of_each_method()] == [("lora", 2), ("full", 1)]
