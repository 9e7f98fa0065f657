"""Oracle: what each method and each command reads, as the schema and the README say."""

from __future__ import annotations

import pytest

from lora_bench.config.overrides import compose_config, set_values
from lora_bench.config.resolve import resolve
from lora_bench.config.unread import unread_faults
from lora_bench.errors import ConfigError
from lora_bench.search.question import build_question

TINY = ["model=tiny", "task.num_train=64", "tracking=none"]


def unread(*words: str, is_sweep: bool = False) -> list[str]:
    configs = [resolve(compose_config(list(words)))]
    return [str(fault) for fault in unread_faults(set_values(words), configs, is_sweep=is_sweep)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["method=full", "lora.r=4"], "lora.r: method=full does not read it, as lora, rslora,"),
        (["method=ia3", "placement=qv"], "placement: method=ia3 has no placement, as lora, rslora"),
        (["method=vera", "lora.alpha=4"], "lora.alpha: method=vera does not read it"),
        (["placement.budget=5000", "lora.r=4"], "lora.r: placement.budget chooses the rank; give one of them"),
        (
            ["model=tiny", "model.folder=x"],
            "model.folder: read with model.source=folder alone, and tiny has model.source=random; add model.source",
        ),
        (["model=minilm", "model.architecture.num_hidden_layers=2"], "read with model.source=random alone"),
        (["tracking=none", "tracking.experiment=x"], "tracking.experiment: tracking=none writes to no store"),
        (["study.pruner=ashaa"], "study.pruner: concerns studies, and this command trains one run; add -m"),
        (["executor.max_retries=1"], "executor.max_retries: concerns studies"),
        (["model=tiny-gpt2", "task=arithmetic", "training.head_lr=1e-3"], "task=arithmetic has no task head"),
    ],
)
def test_what_nothing_reads_is_named(words, told):
    (fault,) = unread(*words)
    assert told in fault


@pytest.mark.parametrize(
    "words",
    [
        ["lora.r=4", "placement=qv", "executor.threads_per_run=1", "paths.root=x"],
        ["method=full", "training.lr=1e-4"],
        ["method=vera", "placement=qv", "method.r=8"],
        ["method=full", "study.pruner=null"],
        ["model=tiny", "model.architecture.num_hidden_layers=2"],
    ],
)
def test_what_is_read_passes(words):
    assert unread(*words) == []


def told_by_study(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build_question([*TINY, *words])
    return str(caught.value)


def test_a_key_that_one_method_of_a_study_reads_is_read():
    build_question([*TINY, "method=lora,full", "lora.r=1,4"])
    assert "lora.r: method=full does not read it" in told_by_study("method=full", "lora.r=1,4")


def test_a_grid_draws_nothing():
    text = told_by_study("lora.r=1,4", "study.n_trials=5", "study.pruner_factor=3", "study.pruner=median")
    assert "study.n_trials: all values are listed, so that the study is a grid" in text
    assert "study.pruner_factor: goes with study.pruner=asha or study.pruner=hyperband" in text


def test_seeds_are_given_once():
    assert "study.seeds: seed=0,1 says which seeds" in told_by_study("lora.r=1,4", "seed=0,1", "study.seeds=[0,1]")
