"""Oracle: Hydra itself composes what is accepted here; what it would refuse is named with the nearest word."""

from __future__ import annotations

import pytest

from lora_bench.config.overrides import (
    bracket_layers,
    check_overrides,
    compose_config,
    imply_group,
    parse,
    split_values,
)
from lora_bench.errors import ConfigError


def faults(*words: str, is_sweep: bool = True) -> list[str]:
    return [str(fault) for fault in check_overrides(words, is_sweep=is_sweep)]


@pytest.mark.parametrize(
    "words",
    [
        ["lora.r=1,4,8,64"],
        ["model=gpt2-medium", "model.source=random", "training.max_steps=3"],
        ["method=lora,full", "training.lr=3e-4,3e-3", "task=files", "task.train=train.csv", "task.eval=dev.csv"],
        ["training.max_grad_norm=null", "placement.roles=[q,v]"],
        ["lora.r=choice(1,2)", "seed=range(0,3)"],
        ["model.architecture.hidden_size=64"],
    ],
)
def test_what_users_type_is_accepted(words):
    assert faults(*words) == []


def test_all_faults_come_together_with_the_nearest_names():
    found = faults("lora.rank=4", "modle=minilm", "training.lr=fast", "task=tweet_sentimnt", "placement=al")
    text = "\n".join(found)
    assert "lora.rank: no key 'rank' in 'lora' (did you mean 'lora.r=4'?)" in text
    assert "modle: no key 'modle' (did you mean 'model=minilm'?)" in text
    assert "training.lr: 'fast' is not a number" in text
    assert "task: no choice 'tweet_sentimnt' (did you mean 'tweet_sentiment'?)" in text
    assert "placement: no choice 'al' (did you mean 'all'?)" in text
    assert len(found) == 5


def test_keys_of_another_choice_are_not_accepted():
    assert "no key 'train' in 'task'" in faults("task.train=x.csv")[0]
    assert faults("task.train=x.csv")[0].endswith("; task=files would have it")
    assert "; processes=ddp, fsdp, zero1, zero2, zero3, zero3_offload would have it" in faults("processes.count=2")[0]


def test_several_values_without_m_say_so():
    assert faults("lora.r=1,4", is_sweep=False) == ["lora.r: several values (1,4) make a sweep; add -m"]


def test_numbers_of_layers_are_one_list_and_no_sweep():
    words = bracket_layers(["placement.layers=0,2,5", "lora.r=1,4", "+placement.layers=1, 3"])
    assert words == ["placement.layers=[0,2,5]", "lora.r=1,4", "+placement.layers=[1, 3]"]
    assert faults(words[0], is_sweep=False) == []
    assert compose_config(words[:1]).placement.layers == [0, 2, 5]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("placement.layers=first:4,last:4", ["first:4", "last:4"]),
        ("placement.layers=choice(0,2,5)", [0, 2, 5]),
        ("placement.layers=[0,2],last:1", [[0, 2], "last:1"]),
        ("placement.layers=3", [3]),
    ],
)
def test_other_values_of_layers_are_hydras(word, values):
    assert bracket_layers([word]) == [word]
    (item,) = parse([word])
    texts = split_values(item)
    assert [compose_config([f"placement.layers={text}"]).placement.layers for text in texts] == values


@pytest.mark.parametrize(
    ("words", "implied"),
    [
        (["-m", "seed=1", "processes.nodes=2", "processes.count=8"], 2),
        (["processes.count=2", "processes=zero2"], None),
        (["processes=fsdp", "processes.count=2"], None),
        (["lora.r=4"], None),
    ],
)
def test_a_number_of_processes_alone_asks_for_ddp(words, implied):
    given = imply_group(words)
    assert [word for word in given if word not in words] == ([] if implied is None else ["processes=ddp"])
    if implied is not None:
        assert given.index("processes=ddp") == implied
        assert faults(*given[1:]) == []


def test_a_word_that_is_no_override_is_named():
    assert "not an override; write key=value" in faults("lora.r")[0]
    assert faults("lora.r\u202e=4") == [
        "lora.r\\u202e=4: no key has '\\u202e' in its name; write key=value, or key=a,b with -m"
    ]
    assert faults("lora.r=" + "9" * 5000) == [
        "lora.r: a number of 5000 digits is no value of any key; give a shorter one"
    ]


@pytest.mark.parametrize(
    "value", ["choice(" + ",".join(["1"] * 10_001) + ")", ",".join(["1"] * 10_001), "range(1,99999)"]
)
def test_a_sweep_over_more_values_than_anyone_means_is_refused_at_once(value):
    assert "values, and 10000 is the most that are listed" in faults(f"lora.r={value}")[0]


def test_only_what_can_be_swept_over_is_offered_as_a_sweep():
    assert "give it once, or sweep over them with -m lora.r=1,4" in faults("lora.r=1", "lora.r=4")[0]
    assert faults("lora.r=range(1,3)", "lora.r=4")[0].endswith("(range(1,3), 4); give it once")


def test_interval_in_a_grid_is_refused():
    (item,) = parse(["training.lr=interval(1e-5,1e-2)"])
    with pytest.raises(ConfigError, match="only a search can draw from"):
        split_values(item)


def test_compose_gives_the_schema_types():
    config = compose_config(["lora.r=4"])
    assert config.lora.r == 4
    assert config.training.lr == config.method.default_lr
