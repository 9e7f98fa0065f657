"""The contract of a task, over every task there is; and the files under `conf/task`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from lora_bench.config.schema import GenerationTaskConfig, TaskConfig, TaskKind
from lora_bench.config.store import SCHEMAS
from lora_bench.errors import ConfigError
from lora_bench.tasks import TASKS, check_task, load_task

CONF = Path(__file__).resolve().parents[2] / "conf" / "task"


def read_config(name, tmp_path):
    """The task's YAML over its schema, as Hydra composes it; user files where the task reads some."""
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert values.pop("defaults") == [f"base_{name}", "_self_"]
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SCHEMAS["task"][f"base_{name}"]), values))
    if name == "files":
        path = tmp_path / "a.csv"
        path.write_text("text,label\na,x\nb,y\nc,x\nd,y\n")
        config.train = config.eval = str(path)
    return config


def test_every_task_has_its_yaml_and_its_schema():
    assert {path.stem for path in CONF.glob("*.yaml")} == set(TASKS)
    assert {f"base_{name}" for name in TASKS} == set(SCHEMAS["task"])


@pytest.mark.parametrize("name", sorted(TASKS))
def test_contract(name, tmp_path):
    config = read_config(name, tmp_path)
    assert list(config.faults()) == []
    assert check_task(config) == []
    data = load_task(config)
    assert data == load_task(config)
    assert (data.name, data.kind) == (name, config.kind)
    for count, split in ((config.num_validation, data.validation), (config.num_eval, data.test)):
        assert count is None or len(split) == count
    for split in (data.train, data.validation, data.test):
        assert len({item.item_id for item in split}) == len(split) > 0
        for item in split:
            assert item.text.strip()
            if data.kind is TaskKind.classification:
                assert 0 <= item.label < len(data.labels)
                assert item.response is None
            else:
                assert item.response.strip()
                assert item.label is None
    if data.kind is TaskKind.generation:
        assert isinstance(config, GenerationTaskConfig)
        assert data.headline in ("nll_per_token", data.grading.metric)
    if name != "files":
        texts = [{item.text for item in split} for split in (data.train, data.validation, data.test)]
        assert len(set.union(*texts)) == sum(map(len, texts))


def test_every_module_says_dataset_metric_and_pattern():
    for load in TASKS.values():
        doc = sys.modules[load.__module__].__doc__
        for mark in ("\nDataset: ", "\nMetric: ", "\nPattern: ", "http"):
            assert mark in doc, load.__module__


def test_unknown_task_has_a_suggestion():
    config = TaskConfig(name="bbc_topics")
    with pytest.raises(
        ConfigError, match=r"task: unknown task 'bbc_topics' \(did you mean 'bbc_topic'\?\); tasks: arithm"
    ):
        load_task(config)
    assert [fault.key for fault in check_task(config)] == ["task"]


def test_tasks_need_no_torch():
    code = "import sys, lora_bench.tasks, lora_bench.tasks.encode; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CONF.parents[1])
    assert done.stdout.strip() == "set()"
