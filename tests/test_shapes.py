"""Oracle: what a folder, a shell, a table of CSV and a page of HTML would do with a name."""

from __future__ import annotations

import pytest

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.errors import ConfigError, StudyError
from lora_bench.search.studydir import study_dir
from lora_bench.shapes import config_problem, is_folder_name, name_problem

HOSTILE = [
    "../../x",
    "..",
    "",
    ".hidden",
    "a/b",
    "a\\b",
    "x" * 300,
    "=cmd()",
    "+1",
    "@x",
    "-x",
    "<img src=x>",
    "a\nb",
    "a|b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_something_would_act_on_is_refused(name, tmp_path):
    assert name_problem(name)
    with pytest.raises(StudyError, match=r"study\.name"):
        study_dir(tmp_path, name)


@pytest.mark.parametrize("name", ["minilm", "rank-0a1b2c", "tiny-tweet_sentiment-lora.r-training.lr-1a2b3c", "größe 2"])
def test_usual_names_stay(name, tmp_path):
    assert name_problem(name) is None
    assert is_folder_name(name)
    assert study_dir(tmp_path, name).path == tmp_path / "studies" / name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "x" * 256, "a\nb"])
def test_a_recorded_name_stays_within_its_folder(name):
    assert not is_folder_name(name)


@pytest.mark.parametrize("key", ["model.name", "task.name"])
def test_names_of_a_run_are_checked_before_it_starts(key):
    for name in ("'../../x'", "x" * 300, "'=cmd()'"):
        with pytest.raises(ConfigError, match=key):
            resolve(compose_config(["model=tiny", f"{key}={name}"]))


def test_the_first_thing_missing_in_a_configuration_is_named():
    whole = {"model": {"name": "m"}, "task": {"name": "t"}, "method": {"name": "x"}, "training": {"lr": 1.0}, "seed": 0}
    assert config_problem(whole) is None
    for key in whole:
        assert key in str(config_problem({**whole, key: None}))
    assert "lora is no mapping" in str(config_problem({**whole, "lora": [1]}))
    assert "lora.r" in str(config_problem({**whole, "lora": {"r": "8"}}))
