"""Oracle: the same bytes in two places are one run, other bytes in one place are two; records of before keep theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import yaml

from lora_bench.config.identity import folder_digest, without_places
from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import config_digest, from_yaml, plain_digest, resolve, to_plain, to_yaml


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("train", "dev", "eval"):
        (folder / f"{name}.csv").write_text(f"text,label\n{name} a,0\n{name} b,1\n")
    return folder


def words(folder, **names):
    names = {"train": "train.csv", "validation": "dev.csv", "eval": "eval.csv"} | names
    return ["task=files", *(f"task.{split}={folder}/{name}" for split, name in names.items())]


def digest(*given):
    return config_digest(resolve(compose_config(list(given))))


def test_a_path_decides_nothing_and_the_content_everything(files, tmp_path, monkeypatch):
    first = digest(*words(files))
    moved = shutil.copytree(files, tmp_path / "there")
    shutil.move(moved / "train.csv", moved / "other.csv")
    assert digest(*words(moved, train="other.csv")) == first
    monkeypatch.chdir(files)
    assert digest(*words(".")) == first
    # Which file has which part is content.
    assert digest(*words(files, train="eval.csv", eval="train.csv")) != first
    assert digest(*words(files)[:2], f"task.eval={files}/eval.csv") != first
    assert digest(*words(files), "task.text=text", "task.label=label") != first
    for name in ("train", "dev", "eval"):
        before = (files / f"{name}.csv").read_text()
        (files / f"{name}.csv").write_text(before + "c,1\n")
        assert digest(*words(files)) != first
        (files / f"{name}.csv").write_text(before)
    assert digest(*words(files)) == first


def test_columns_of_a_generation_task_are_settled_and_recorded(files, tmp_path):
    (files / "train.csv").write_text("instruction,input,output\na,b,c\n")
    config = resolve(compose_config([*words(files), "model=tiny-gpt2"]))
    assert (config.task.prompt, config.task.input, config.task.response) == ("instruction", "input", "output")
    assert config.task.kind.value == "generation"
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert from_yaml(path) == config
    named = [f"task.{field}={name}" for field, name in zip(("prompt", "input"), ("instruction", "input"), strict=True)]
    assert digest(*words(files), "model=tiny-gpt2", *named) == config_digest(config)


def test_records_of_earlier_versions_keep_their_digest(files):
    plain = to_plain(resolve(compose_config(words(files))))
    earlier = yaml.safe_load(yaml.dump(plain))
    earlier["task"]["content_digest"] = "ab" * 32
    assert without_places(earlier) == earlier
    moved = yaml.safe_load(yaml.dump(earlier))
    moved["task"]["train"] = "/elsewhere/train.csv"
    assert plain_digest(moved) != plain_digest(earlier)
    assert "train" not in without_places(plain)["task"]


def test_a_file_that_cannot_be_read_leaves_no_digest(files):
    assert resolve(compose_config(words(files, eval="none.csv"))).task.content_digest is None
    assert resolve(compose_config(["task=files"])).task.content_digest is None


def model_words(folder):
    return ["model=tiny", "model.source=folder", f"model.folder={folder}"]


def test_a_copied_or_touched_model_folder_is_the_same_model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (folder / name).write_text(name)
    cache = f"paths.cache={tmp_path}/cache"
    first = digest(*model_words(folder), cache)
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(copy / "model.safetensors", (1, 1))
    assert digest(*model_words(copy), cache) == first
    (copy / "README.md").write_text("a card may be edited")
    assert digest(*model_words(copy), cache) == first
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (copy / name).write_text(f"other {name}")
        assert digest(*model_words(copy), cache) != first
        (copy / name).write_text(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives root's rights up")
def test_a_model_folder_that_may_not_be_entered_leaves_no_digest(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    folder.chmod(0)
    for above in (path for path in (tmp_path, *tmp_path.parents) if "pytest" in path.as_posix()):
        above.chmod(0o755)
    code = (
        "import os, sys; from pathlib import Path; from lora_bench.config.identity import folder_digest\n"
        "os.seteuid(65534); print(folder_digest(sys.argv[1], cache=Path('/nowhere')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
    assert folder_digest("\ud800", cache=tmp_path) is None
