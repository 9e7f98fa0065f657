"""Oracle: the sentences that a user should read, and Hydra's own parser for what is accepted."""

from __future__ import annotations

import pytest

from lora_bench.config.commandline import read_command_line
from lora_bench.errors import ConfigError


def problem(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_command_line(words)
    return str(caught.value)


def test_options_and_overrides_stand_in_any_order():
    line = read_command_line(["model=tiny", "--cfg", "job", "lora.r=3", "-m", "seed=1,2"])
    assert line.options == ("--multirun", "--cfg", "job")
    assert line.overrides == ("model=tiny", "lora.r=3", "seed=1,2")
    assert line.is_sweep


def test_values_may_begin_with_a_minus():
    assert read_command_line(["training.lr=-1"]).overrides == ("training.lr=-1",)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--hlep"], "--hlep: unknown option (did you mean '--help'?)"),
        (["--lr=3"], "--lr=3: unknown option; keys have no dashes: training.lr=3"),
        (["--lora.r=3"], "keys have no dashes: lora.r=3"),
        (["-x"], "keys are written as key=value, without dashes"),
        (["--cfg", "jbo"], "invalid choice: 'jbo'"),
        (["--config-name=x"], "--config-name: the configuration is conf/config.yaml; --config-dir DIR adds"),
        (["--experimental-rerun", "x"], "again=2 trains it anew"),
        (["--config-dir", "/no/where"], "/no/where is not a folder"),
        (["paths.root=\udcff"], "paths.root=\\xff: holds bytes that are no UTF-8 text"),
        (["a\0=1"], "holds a zero byte"),
        (["placement.layers=last:" + "9" * 5000], "placement.layers: a number of 5000 digits is no value of any key"),
    ],
)
def test_what_means_nothing_is_refused(words, told):
    assert told in problem(*words)


def test_a_folder_of_choices_becomes_a_search_path(tmp_path):
    folder = tmp_path / "it's mine"
    folder.mkdir()
    (word,) = read_command_line(["--config-dir", str(folder)]).overrides
    assert word == f"hydra.searchpath=['file://{tmp_path}/it\\'s mine']"
