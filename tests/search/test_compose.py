"""Oracle: Hydra's own composition of the same words."""

from __future__ import annotations

import dataclasses

import pytest

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import config_digest, resolve
from lora_bench.errors import ConfigError
from lora_bench.search.compose import compose_run, with_seed

TINY = ("model=tiny", "task.num_train=64")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["lora.r=4", "training.lr=1e-3"],
        ["training.lr=1e-3", "method=full"],
        ["method=full", "seed=3"],
        ["placement=qv", "lora.alpha_convention=rslora", "lora.dropout=0.1"],
        ["placement.roles=[q,v]", "training.micro_batch_size=null"],
        ["task=bbc_topic", "task.max_length=32"],
        ["training.dtype=fp32", "training.schedule=cosine", "again=2"],
        ["study.objectives=[headline,eval/nll]", "study.constraints=['eval/nll <= 2']"],
        ["model.architecture.num_hidden_layers=3"],
        ["+model.architecture.classifier_dropout=0.1"],
        ["lora.r=4", "lora.r=8"],
    ],
)
def test_a_run_is_what_hydra_composes(words):
    assert compose_run([*TINY, *words]) == resolve(compose_config([*TINY, *words]))


def test_runs_with_the_same_choices_leave_each_other_alone():
    first = compose_run([*TINY, "lora.r=4", "placement.roles=[q]"])
    other = compose_run([*TINY, "lora.r=2", "training.batch_size=8"])
    assert (first.lora.r, first.training.batch_size, first.placement.roles) == (4, 32, ["q"])
    assert (other.lora.r, other.training.batch_size) == (2, 8)
    assert compose_run([*TINY, "lora.r=4", "placement.roles=[q]"]) == first
    assert compose_run(TINY) == resolve(compose_config(TINY))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lora.rank=4", "rank"),
        ("lora.r=much", "lora.r.*much"),
        ("training.dtype=fp17", "training.dtype.*fp17"),
        ("training.max_steps=0", r"training\.max_steps: 0 is below 1"),
    ],
)
def test_faults_name_the_key_and_what_was_given(word, said):
    with pytest.raises(ConfigError, match=said):
        compose_run([*TINY, word])


def test_another_seed_is_another_run_and_nothing_else():
    config = compose_run([*TINY, "seed=1"])
    other = with_seed(config, 5)
    assert (config.seed, other.seed) == (1, 5)
    assert dataclasses.replace(other, seed=1) == config
    assert config_digest(other) != config_digest(config) == config_digest(with_seed(other, 1))
