"""Oracle: how the pretended quality depends on the learning rate (much) and on the rank (little), by its formula."""

from __future__ import annotations

import pytest

from lora_bench.search.importance import eta_squared, importances
from lora_bench.search.question import build_question
from lora_bench.search.studydir import find_study_dirs
from lora_bench.search.trials import trial_from_line

GRID = ["training.lr=1e-5,1e-4,1e-3", "lora.r=1,2,4"]
SEARCH = ["training.lr=tag(log,interval(1e-6,1e-3))", "lora.r=1,2", "study.n_trials=24"]


@pytest.mark.parametrize(("words", "least"), [(GRID, 0.99), (SEARCH, 0.5)])
def test_the_rate_matters_and_the_rank_hardly(pretended_study, tmp_path, words, least):
    words = [*words, "study.baseline=null", "training.max_steps=5", "study.n_jobs=2", "study.name=mine"]
    assert "importance for eval/accuracy (own): training.lr" in pretended_study(*words)
    (directory,) = find_study_dirs(tmp_path / "root")
    question = build_question(["model=tiny", "task.num_train=64", *words, f"paths.root={tmp_path}/root"])
    trials = [trial_from_line(line, directory.runs) for line in directory.read_trials()]
    parts = importances(question, trials)["own"]
    assert list(parts) == ["training.lr", "lora.r"]
    assert parts["training.lr"] > least
    assert importances(question, trials[:3]) == {}


def test_eta_squared_by_hand():
    # Group means 1 and 3 around 2: between 4 * 1; whole 4 * 1 + 4 * 1.
    pairs = [("a", 0.0), ("a", 2.0), ("b", 2.0), ("b", 4.0)]
    assert eta_squared(pairs) == pytest.approx(0.5)
    assert eta_squared([("a", 1.0), ("b", 1.0)]) is None
