"""Oracle: the product of the values, written out."""

from __future__ import annotations

import pytest

from lora_bench.errors import ConfigError
from lora_bench.search.grid import expand_grid
from lora_bench.search.question import BASELINE, build_question

TINY = ["model=tiny", "task.num_train=64"]


@pytest.fixture
def expand(tmp_path):
    """The trials of a grid, as (arm, configuration of each run)."""

    def made(words):
        trials = expand_grid(build_question([*TINY, *words]), tmp_path)
        return [(trial.arm, member.load_config()) for trial in trials for member in trial.members]

    return made


def shape(runs):
    return [(config.method.name, config.lora.r if config.lora else None, config.training.lr) for _, config in runs]


def test_ranks_and_the_baseline_beside_them(expand):
    runs = expand(["lora.r=1,4"])
    lora, full = runs[0][1].method.default_lr, runs[-1][1].training.lr
    assert shape(runs) == [("lora", 1, lora), ("lora", 4, lora), ("full", None, full)]
    assert [arm for arm, _ in runs] == ["own", "own", BASELINE]
    assert full < lora


def test_a_single_learning_rate_of_adapters_is_not_forced_on_the_baseline(expand):
    runs = expand(["lora.r=1,4", "training.lr=7e-3"])
    assert runs[0][1].training.lr == 7e-3
    assert runs[-1][1].training.lr == runs[-1][1].method.default_lr


def test_swept_rates_give_the_baseline_as_many_tries_in_its_own_range(expand):
    runs = expand(["training.lr=1e-3,1e-2"])
    ratio = runs[-1][1].method.default_lr / runs[0][1].method.default_lr
    rates = [config.training.lr for arm, config in runs if arm == BASELINE]
    assert rates == pytest.approx([1e-3 * ratio, 1e-2 * ratio])


def test_a_named_baseline_is_not_added_again_and_equal_runs_are_one(expand):
    assert [config.method.name for _, config in expand(["method=lora,full", "lora.r=1,4"])] == ["lora", "lora", "full"]


def test_seeds_and_baseline_null(expand):
    assert [config.seed for _, config in expand(["lora.r=2", "seed=range(0,3)", "study.baseline=null"])] == [0, 1, 2]


def test_every_point_and_the_baseline_get_the_same_seeds(expand):
    runs = expand(["lora.r=1,2", "seed=3,5"])
    assert [(config.method.name, config.seed) for _, config in runs] == [
        ("lora", 3),
        ("lora", 5),
        ("lora", 3),
        ("lora", 5),
        ("full", 3),
        ("full", 5),
    ]


def test_faults_of_all_points_come_at_once(expand):
    with pytest.raises(ConfigError) as caught:
        expand(["lora.r=4,0,1000", "training.lr=1e-3,-1"])
    text = str(caught.value)
    assert "lora.r: 0 is below 1" in text
    assert "training.lr: -1.0 is not above 0" in text
    assert "lora.r: 1000 is larger than the smallest adapted side" in text


def test_a_rank_above_the_matrix_names_the_matrix(expand):
    with pytest.raises(
        ConfigError, match=r"lora.r: 1000 is larger than the smallest adapted side, 32 of role .*; use 1 to 32"
    ):
        expand(["lora.r=4,1000"])
