"""Oracle: Hydra's documentation of its sweep syntax, and products written out."""

from __future__ import annotations

import pytest

from lora_bench.config.overrides import parse
from lora_bench.errors import ConfigError
from lora_bench.search.space import Space, dimension_from, space_from_data, words_of


def dimension(text):
    return dimension_from(parse([text])[0])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lora.r=1,4,8", ("1", "4", "8")),
        ("lora.r=choice(1,4)", ("1", "4")),
        ("placement=qv,all", ("qv", "all")),
        ("placement.roles=[q,v],[q,k,v,o]", ("[q,v]", "[q,k,v,o]")),
        ("lora.r=range(1,7,2)", ("1", "3", "5")),
        ("placement=glob([q*,a*])", ("all", "attention", "q", "qv")),
        ("placement=glob(q*,exclude=qv)", ("q",)),
        ("lora.r=shuffle(1,2,3)", ("1", "2", "3")),
        ("lora.r=1,1,2", ("1", "2")),
        ("lora.r=4", ("4",)),
    ],
)
def test_listed_values(text, values):
    assert dimension(text).values == values


def test_a_range_leaves_its_stop_out_as_hydra_says():
    drawn = dimension("lora.r=range(1,9,2)")
    assert (drawn.low, drawn.high, drawn.step, drawn.is_int) == (1, 7, 2, True)


def test_intervals():
    rate = dimension("training.lr=tag(log,interval(1e-5,1e-2))")
    assert (rate.low, rate.high, rate.is_log, rate.is_int, rate.values) == (1e-5, 1e-2, True, False, ())
    assert dimension("lora.r=int(interval(1,64))").is_int
    assert dimension("lora.r=tag(log,int,interval(1,64))").is_int
    assert not dimension("a=interval(1,5)").is_int


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training.lr=tag(log,interval(0,1))", "a log scale needs it above 0"),
        ("training.lr=interval(2,1)", "low < high"),
        ("placement=glob(z*)", r"matches nothing; available: all, attention"),
        ("lora.r=glob(*)", "glob chooses among files; groups: "),
    ],
)
def test_faults_of_a_dimension(text, words):
    with pytest.raises(ConfigError, match=words):
        dimension(text)


def test_the_points_of_a_grid_in_order():
    space = Space((dimension("placement=qv,all"), dimension("lora.r=1,2")))
    assert [words_of(point) for point in space.points()] == [
        ["placement=qv", "lora.r=1"],
        ["placement=qv", "lora.r=2"],
        ["placement=all", "lora.r=1"],
        ["placement=all", "lora.r=2"],
    ]


def test_a_conditional_dimension_exists_only_where_its_condition_holds():
    space = space_from_data(
        {
            "placement": ["qv", "all"],
            "lora.r": {"values": [1, 2], "when": {"placement": "all"}},
        },
        where="space",
    )
    assert list(space.points()) == [
        {"placement": "qv"},
        {"placement": "all", "lora.r": "1"},
        {"placement": "all", "lora.r": "2"},
    ]


def test_lists_numbers_and_null_of_a_file():
    space = space_from_data(
        {"placement.roles": [["q"], ["q", "v"]], "training.micro_batch_size": [None, 4], "seed": 3}, where="space"
    )
    assert [one.values for one in space.dimensions] == [("[q]", "[q,v]"), ("null", "4"), ("3",)]


def test_faults_of_a_file_come_at_once():
    data = {
        "lora.r": {"values": [1], "when": {"placment": "all"}},
        "lora.alpha": {"valeus": [1]},
        "training.lr": "interval(1,0)",
    }
    with pytest.raises(ConfigError) as caught:
        space_from_data(data, where="rank.yaml: space")
    text = str(caught.value)
    assert "'placment' is not a dimension before this one" in text
    assert "no key 'valeus' here" in text
    assert "rank.yaml: space.training.lr: interval(1.0,0.0) is empty" in text
