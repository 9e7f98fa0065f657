"""Oracle: the words of PEFT, transformers and torch, and the keys that mean the same here."""

from __future__ import annotations

import pytest

from lora_bench.config.aliases import ADVICE, CHOICES, KEYS, as_roles, leaves, like_choice, like_keys
from lora_bench.config.near import near_choice, near_key
from lora_bench.config.store import group_choices, group_names


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lr", "training.lr"),
        ("learning_rate", "training.lr"),
        ("training.learning_rate", "training.lr"),
        ("learning-rate", "training.lr"),
        ("lerning_rate", "training.lr"),
        ("r", "lora.r"),
        ("rank", "lora.r"),
        ("lora_r", "lora.r"),
        ("method.r", "method.r"),
        ("lora_alpha", "lora.alpha"),
        ("alpha", "lora.alpha"),
        ("batch_size", "training.batch_size"),
        ("per_device_train_batch_size", "training.batch_size"),
        ("steps", "training.max_steps"),
        ("max_steps", "training.max_steps"),
        ("epochs", "training.max_steps"),
        ("max_length", "task.max_length"),
        ("max_seq_length", "task.max_length"),
        ("target_modules", "placement"),
        ("output_dir", "paths.root"),
        ("training.seed", "seed"),
        ("lora.roles", "placement.roles"),
        ("n_trials", "study.n_trials"),
        ("num_gpus", "processes.count"),
        ("dtype", "training.dtype"),
        ("fused", "method.fused"),
    ],
)
def test_a_word_of_another_tool_finds_its_key(given, meant):
    assert like_keys(given)[0] == meant


def test_a_word_that_means_nothing_finds_nothing():
    assert like_keys("qwertz") == ()


def test_every_key_that_is_named_exists():
    known = {key for keys in leaves().values() for key in keys} | set(group_names())
    assert {key for keys in KEYS.values() for key in keys} <= known
    assert len(KEYS) >= 60


def test_every_choice_that_is_named_exists():
    for group, named in CHOICES.items():
        assert set(named.values()) <= set(group_choices(group)), group


def test_dropout_is_ambiguous_and_both_are_named():
    assert set(like_keys("dropout")[:2]) == {"training.dropout", "lora.dropout"}
    assert like_keys("lora.dropouts")[0] == "lora.dropout"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("[q_proj,v_proj]", "placement.roles=[q,v]"),
        ("['query','value']", "placement.roles=[q,v]"),
        ("q_proj,k_proj,v_proj,o_proj", "placement.roles=[q,k,v,o]"),
        ("all-linear", "placement=all"),
        ("[q_proj,c_attn]", None),
    ],
)
def test_module_names_are_roles(given, word):
    assert as_roles(given) == word


@pytest.mark.parametrize(
    ("group", "given", "meant"),
    [
        ("placement", "all-linear", "all"),
        ("placement", "Attention", "attention"),
        ("method", "sft", "full"),
        ("method", "prefix-tuning", "prefix_layer"),
        ("method", "lora-plus", "lora_plus"),
        ("task", "tweet-sentiment", "tweet_sentiment"),
        ("executor", "submitit_slurm", "slurm"),
        ("model", "nonsense", None),
    ],
)
def test_a_choice_of_another_tool(group, given, meant):
    assert like_choice(group, given, group_choices(group)) == meant


def test_the_corrected_word_is_whole(tmp_path):
    assert near_key("lr", "1e-3", ["lora", "seed"]) == " (did you mean 'training.lr=1e-3'?)"
    assert near_key("lora.rnak", "3", ["lora.r", "lora.alpha"]) == " (did you mean 'lora.r=3'?)"
    assert near_key("target_modules", "[q_proj,v_proj]", []) == " (did you mean 'placement.roles=[q,v]'?)"
    assert near_key("epochs", "3", []) == f" ({ADVICE['epochs']})"
    assert "model.source=folder model.folder=" in near_choice("model", str(tmp_path), group_choices("model"))
    hub = near_choice("model", "bigscience/bloom-560m", group_choices("model"))
    assert hub == " (a repository is given as model.source=hub model.hub_id=bigscience/bloom-560m)"
    assert "task=files task.train=my.csv" in near_choice("task", "my.csv", group_choices("task"))
