"""Oracle: how the pretended quality depends on the learning rate (much) and on the rank (little), by its formula."""

from __future__ import annotations

import numpy as np
import pytest

from lora_bench.search.importance import importances, omega_squared
from lora_bench.search.question import build_question
from lora_bench.search.studydir import find_study_dirs
from lora_bench.search.trials import trial_from_line

GRID = ["training.lr=1e-5,1e-4,1e-3", "lora.r=1,2,4"]
SEARCH = ["training.lr=tag(log,interval(1e-6,1e-3))", "lora.r=1,2", "study.n_trials=24"]


@pytest.mark.parametrize(("words", "least"), [(GRID, 0.99), (SEARCH, 0.5)])
def test_the_rate_matters_and_the_rank_hardly(pretended_study, tmp_path, words, least):
    words = [*words, "study.baseline=null", "training.max_steps=5", "study.n_jobs=2", "study.name=mine"]
    assert "importance for eval/accuracy: training.lr" in pretended_study(*words)
    (directory,) = find_study_dirs(tmp_path / "root")
    question = build_question(["model=tiny", "task.num_train=64", *words, f"paths.root={tmp_path}/root"])
    trials = [trial_from_line(line, directory.runs) for line in directory.read_trials()]
    parts = importances(question, trials)["own"]
    assert list(parts) == ["training.lr", "lora.r"]
    assert parts["training.lr"].share > least
    assert (parts["lora.r"].by_chance > 0.05) == (words[0] == SEARCH[0])
    assert importances(question, trials[:3]) == {}


def test_omega_squared_by_hand():
    """Key a: means 1 and 3 around 2, SS 4; key b: SS 1; total 6.

    Of the four values, 1 is left for one degree of freedom: (4 - 1) / (6 + 1) and (1 - 1) / (6 + 1).
    """
    points = [{"a": a, "b": b} for a in "xy" for b in "uv"]
    values = [1.0, 1.0, 2.0, 4.0]
    parts = omega_squared(points, values)
    assert parts == pytest.approx({"a": 3 / 7, "b": 0.0})


def test_points_need_not_be_balanced():
    """b explains nothing beyond a, although its means differ: it was asked mostly where a is high."""
    points = [{"a": a, "b": b} for a, b in ("xu", "xu", "xv", "yu", "yv", "yv")]
    noise = [0.01, -0.01, 0.0, 0.0, -0.01, 0.01]
    parts = omega_squared(points, [float(point["a"] == "y") + add for point, add in zip(points, noise, strict=True)])
    assert parts["a"] > 0.85
    assert abs(parts["b"]) < 0.001


@pytest.mark.parametrize(
    ("points", "values"),
    [
        ([{"a": "x"}, {"a": "y"}], [1.0, 2.0]),  # nothing is left for the rest
        ([{"a": "x"}, {"a": "x"}], [1.0, 2.0]),  # one value
        ([{"a": "x"}, {"a": "y"}, {"a": "y"}], [1.0, 1.0, 1.0]),
    ],
)
def test_without_anything_to_explain_nothing_is_said(points, values):
    assert omega_squared(points, values) == {}


def test_what_does_nothing_explains_nothing_on_average():
    """24 methods in 72 trials: eta squared has the mean 23 / 71; this one 0, to three standard errors."""
    rng = np.random.default_rng(1)
    points = [{"method": str(method), "rate": str(rate)} for method in range(24) for rate in range(3)]
    found = [omega_squared(points, list(rng.normal(size=72))) for _ in range(150)]
    for key in ("method", "rate"):
        values = np.array([parts[key] for parts in found])
        assert abs(values.mean()) < 3 * values.std() / np.sqrt(150) + 0.01
