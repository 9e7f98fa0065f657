"""Oracle: the rules as `schema.py` states them, and every file under conf/ composed for real."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import config_digest, from_yaml, resolve, to_yaml
from lora_bench.config.store import CONF_DIR
from lora_bench.errors import ConfigError

GROUPS = ("model", "task", "method", "placement", "lora", "training", "executor", "tracking", "paths", "study")
CHOICES = sorted((path.parent.name, path.stem) for path in CONF_DIR.rglob("*.yaml") if path.parent.name in GROUPS)


def test_every_choice_was_found():
    assert len(CHOICES) >= 30
    assert {group for group, _ in CHOICES} == set(GROUPS)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_resolves(group, choice):
    config = resolve(compose_config([f"{group}={choice}"]))
    part = getattr(config, group)
    assert part is None or not hasattr(part, "name") or group == "study" or part.name == choice


def test_all_faults_are_raised_at_once():
    with pytest.raises(ConfigError) as caught:
        resolve(compose_config(["lora.r=0", "lora.alpha=-1", "training.lr=0", "training.micro_batch_size=5"]))
    text = str(caught.value)
    assert text.startswith("4 problems in this run")
    for words in ("lora.r: 0 is below 1", "lora.alpha: -1.0 is not above 0", "training.lr: 0", "5 does not divide"):
        assert words in text


def test_full_fine_tuning_has_no_lora_and_no_placement():
    config = resolve(compose_config(["method=full", "lora.r=4"]))
    assert config.lora is None
    assert config.placement is None
    assert config_digest(config) == config_digest(resolve(compose_config(["method=full", "lora.r=8"])))


def test_equal_placements_are_one_whatever_they_were_called():
    assert resolve(compose_config(["placement=qv"])).placement.name == "qv"
    assert resolve(compose_config(["placement.roles=[q,o]"])).placement.name == "q+o"
    same = [config_digest(resolve(compose_config([words]))) for words in ("placement=qv", "placement.roles=[q,v]")]
    assert same[0] == same[1]


def test_digest_leaves_infrastructure_out_and_takes_the_rest_in():
    base = config_digest(resolve(compose_config([])))
    same = ["paths.root=/tmp/x", "study.n_jobs=2", "tracking=none", "executor.threads_per_run=1", "again=2"]
    assert config_digest(resolve(compose_config(same))) == base
    for word in ("seed=1", "lora.r=4", "training.lr=1e-4", "task.num_train=100", "training.dtype=fp32"):
        assert config_digest(resolve(compose_config([word]))) != base


def test_an_edited_file_is_another_run(tmp_path):
    train, held_out = tmp_path / "train.csv", tmp_path / "eval.csv"
    train.write_text("text,label\na,0\nb,1\n")
    held_out.write_text("text,label\na,0\n")
    words = ["task=files", f"task.train={train}", f"task.eval={held_out}"]
    before = config_digest(resolve(compose_config(words)))
    train.write_text("text,label\na,0\nc,1\n")
    assert config_digest(resolve(compose_config(words))) != before


@pytest.mark.parametrize("words", [[], ["method=full", "task=bbc_headline", "model=tiny-gpt2"], ["task=files"]])
def test_yaml_round_trip_gives_the_same_run(tmp_path, words):
    config = resolve(compose_config(words))
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    again = from_yaml(path)
    assert again == config
    assert config_digest(again) == config_digest(config)


def test_configuration_needs_no_torch():
    code = (
        "import sys, json; from lora_bench.config.overrides import compose_config;"
        "from lora_bench.config.resolve import resolve; resolve(compose_config([]));"
        "import lora_bench.preflight, lora_bench.cli, lora_bench.search.grid;"
        "print(json.dumps([m for m in ('torch', 'transformers', 'mlflow') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


def test_a_scaled_rate_is_the_run_with_that_rate():
    scaled = resolve(compose_config(["training.lr_scale=0.3"]))
    assert config_digest(scaled) == config_digest(resolve(compose_config(["training.lr=1.5e-4"])))
    assert "lr_scale" not in to_yaml(scaled)
    with pytest.raises(ConfigError, match=r"training.lr_scale: 0.0 is not above 0 and finite; 1 changes nothing"):
        resolve(compose_config(["training.lr_scale=0"]))
