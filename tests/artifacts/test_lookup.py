"""Oracle: the directories that are there, and the words that a user reads."""

from __future__ import annotations

import pytest
from support.synthetic_runs import start_run, synthetic_config

from lora_bench.artifacts.lookup import find_run
from lora_bench.errors import UsageError

NAMES = ("minilm-lora-qv", "minilm-lora-all", "tiny")


@pytest.fixture
def made(tmp_path):
    return {name: start_run(tmp_path, synthetic_config(), name=name) for name in NAMES}


def test_a_run_is_found_by_name_beginning_and_folder(made, tmp_path):
    assert find_run("tiny", tmp_path) == made["tiny"]
    assert find_run("minilm-lora-q", tmp_path) == made["minilm-lora-qv"]
    assert find_run(str(made["tiny"].path), tmp_path / "elsewhere").path == made["tiny"].path


def test_a_name_that_begins_another_is_itself(made, tmp_path):
    start_run(tmp_path, synthetic_config(), name="tiny.2")
    assert find_run("tiny", tmp_path) == made["tiny"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minilm", r"'minilm' is the beginning of 2 runs; write more of one: minilm-lora-all, minilm-lora-qv"),
        ("tinny", r"no run 'tinny' in .* \(did you mean 'tiny'\?\); runs: minilm-lora-all, minilm-lora-qv, tiny"),
    ],
)
def test_a_name_that_is_not_one_is_explained(made, tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        find_run(text, tmp_path)


def test_a_folder_that_is_no_run_is_explained(tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(UsageError, match=r"adapter is no run directory \(it has no config.yaml\)"):
        find_run(str(tmp_path / "adapter"), tmp_path)
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"is an adapter without the record of a run; .* lora-bench import .*adapter"):
        find_run(str(tmp_path / "adapter"), tmp_path)


def test_an_empty_root_is_said_so(tmp_path):
    with pytest.raises(UsageError, match=r"no run 'tiny', and .* holds no run; --root names the folder"):
        find_run("tiny", tmp_path)
