"""Oracle: two configurations whose digests begin alike, made so by hand."""

from __future__ import annotations

import pytest
from support.synthetic_runs import finish_run, start_run, synthetic_config

from lora_bench import naming
from lora_bench.config.resolve import config_digest
from lora_bench.naming import run_dir_for, run_name


def test_a_run_finds_itself_while_it_waits_and_when_it_is_done(tmp_path):
    config = synthetic_config()
    run = run_dir_for(config, tmp_path)
    assert run.path.name == f"minilm-tweet_sentiment-lora-all-r8-s0-{config_digest(config)[:10]}"
    start_run(tmp_path, config, name=run.path.name)
    assert run_dir_for(config, tmp_path) == run
    finish_run(run, config)
    assert run_dir_for(config, tmp_path) == run


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("again", [None, 2])
def test_a_configuration_whose_digest_begins_alike_has_a_directory_of_its_own(tmp_path, monkeypatch, is_done, again):
    """The short name is made the same, as if ten digits were; each must find its own directory."""
    config, other = synthetic_config(), synthetic_config(lr=1e-3)
    config.again = other.again = again
    monkeypatch.setattr(
        naming, "run_name", lambda one, num_digits=10: "r" if num_digits == 10 else f"r-{config_digest(one)}"
    )
    run = run_dir_for(config, tmp_path)
    start_run(tmp_path, config, name=run.path.name)
    if is_done:
        finish_run(run, config)
    found = run_dir_for(other, tmp_path)
    assert found.path != run.path
    assert config_digest(other) in found.path.name
    assert run_dir_for(config, tmp_path) == run


def test_a_record_that_cannot_be_read_is_no_other_configuration(tmp_path):
    config = synthetic_config()
    run = run_dir_for(config, tmp_path)
    run.path.mkdir(parents=True)
    run.result.write_text("{")
    assert run_dir_for(config, tmp_path) == run
    assert run_name(config, num_digits=64).endswith(config_digest(config))
