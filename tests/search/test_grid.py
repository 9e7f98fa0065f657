"""Oracle: the product of the values, written out."""

from __future__ import annotations

import pytest

from lora_bench.errors import ConfigError
from lora_bench.search.grid import expand_grid, study_name

TINY = ["model=tiny", "task.num_train=64"]


def shape(points):
    return [(p.config.method.name, p.config.lora.r if p.config.lora else None, p.config.training.lr) for p in points]


def test_ranks_and_the_baseline_beside_them():
    points = expand_grid([*TINY, "lora.r=1,4"])
    lora, full = points[0].config.method.default_lr, points[-1].config.training.lr
    assert shape(points) == [("lora", 1, lora), ("lora", 4, lora), ("full", None, full)]
    assert [point.is_baseline for point in points] == [False, False, True]
    assert full < lora


def test_a_single_learning_rate_of_adapters_is_not_forced_on_the_baseline():
    points = expand_grid([*TINY, "lora.r=1,4", "training.lr=7e-3"])
    assert points[0].config.training.lr == 7e-3
    assert points[-1].config.training.lr == points[-1].config.method.default_lr


def test_swept_rates_give_the_baseline_as_many_tries_in_its_own_range():
    points = expand_grid([*TINY, "training.lr=1e-3,1e-2"])
    ratio = points[-1].config.method.default_lr / points[0].config.method.default_lr
    rates = [point.config.training.lr for point in points if point.is_baseline]
    assert rates == pytest.approx([1e-3 * ratio, 1e-2 * ratio])


def test_a_named_baseline_is_not_added_again_and_equal_runs_are_one():
    points = expand_grid([*TINY, "method=lora,full", "lora.r=1,4"])
    assert [p.config.method.name for p in points] == ["lora", "lora", "full"]


def test_seeds_and_baseline_null():
    points = expand_grid([*TINY, "lora.r=2", "seed=range(0,3)", "study.baseline=null"])
    assert [p.config.seed for p in points] == [0, 1, 2]


def test_faults_of_all_points_come_at_once():
    with pytest.raises(ConfigError) as caught:
        expand_grid([*TINY, "lora.r=0,4,1000", "training.max_steps=0"])
    text = str(caught.value)
    assert "lora.r: 0 is below 1" in text
    assert "training.max_steps: 0 is below 1" in text


def test_a_rank_above_the_matrix_names_the_matrix():
    with pytest.raises(
        ConfigError, match=r"lora.r: 1000 is larger than the smallest adapted side, 32 of role .*; use 1 to 32"
    ):
        expand_grid([*TINY, "lora.r=4,1000"])


def test_the_name_of_a_study_is_stable_and_can_be_given():
    words = [*TINY, "lora.r=1,4", "seed=0,1"]
    assert study_name(expand_grid(words), words) == "tiny-tweet_sentiment-lora.r-seed"
    named = [*words, "study.name=mine"]
    assert study_name(expand_grid(named), named) == "mine"
