"""Oracle: Hydra composes a choice of the user's own folder, and the run says what that file says."""

from __future__ import annotations

import pytest

from lora_bench.config.commandline import read_command_line
from lora_bench.config.dirs import adopt_config_dirs, with_config_dirs
from lora_bench.config.overrides import check_overrides, compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.store import use_config_dirs
from lora_bench.errors import ConfigError


@pytest.fixture(autouse=True)
def no_folders():
    yield
    use_config_dirs([])


def own_choices(folder, name="mine"):
    (folder / "training").mkdir(parents=True)
    (folder / "training" / f"{name}.yaml").write_text("defaults: [default, _self_]\nmax_steps: 7\n")
    return list(read_command_line(["--config-dir", str(folder), f"training={name}", "model=tiny"]).overrides)


def test_choices_of_a_folder_stand_beside_ours(tmp_path):
    words = own_choices(tmp_path / "conf")
    adopt_config_dirs(words)
    assert check_overrides(words) == []
    assert resolve(compose_config(words)).training.max_steps == 7
    # Hydra keeps the search path from a sweeper, whose words get it back.
    assert with_config_dirs(words[1:]) == words
    assert resolve(compose_config(words[1:])).training.max_steps == 7
    faults = [str(fault) for fault in check_overrides([words[0], "training=mien"])]
    assert faults == ["training: no choice 'mien' (did you mean 'mine'?); available: default, mine"]


def test_without_the_folder_its_choices_are_unknown(tmp_path):
    words = own_choices(tmp_path / "conf")
    adopt_config_dirs(words[1:])
    assert "no choice 'mine'" in str(check_overrides(words[1:])[0])


def test_a_name_that_is_taken_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has the name of training=default, which stays; rename the file"):
        adopt_config_dirs(own_choices(tmp_path / "conf", "default"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no choices; put YAML files into a folder named executor, lora"):
        adopt_config_dirs(read_command_line(["--config-dir", str(tmp_path / "empty")]).overrides)
    with pytest.raises(ConfigError, match="is set by --config-dir DIR"):
        adopt_config_dirs(["hydra.searchpath=[pkg://x]"])
