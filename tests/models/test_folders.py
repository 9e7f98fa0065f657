"""Oracle: files that safetensors and transformers wrote, and the same files spoilt."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from lora_bench.errors import ModelError
from lora_bench.models.folders import check_folder, is_writable, tokenizer_size, weight_files


@pytest.fixture
def folder(tmp_path):
    """A whole model folder with one weight file."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "bert"}')
    (path / "tokenizer.json").write_text("{}")
    save_file({"a": torch.arange(6.0), "b": torch.ones(2, 2)}, path / "model.safetensors")
    return path


def test_a_whole_folder_is_accepted(folder):
    check_folder(folder)
    assert weight_files(folder) == [folder / "model.safetensors"]


def test_shards_are_found_through_the_index(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    save_file({"c": torch.zeros(3)}, folder / "model-00002-of-00002.safetensors")
    index = {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00001-of-00002.safetensors",
        "c": "model-00002-of-00002.safetensors",
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert [path.name for path in weight_files(folder)] == sorted(set(index.values()))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors: is missing"):
        check_folder(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd"])
def test_an_index_cannot_leave_its_folder(name, folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match="names files outside its folder"):
        check_folder(folder)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused_with_the_reason(pickle, folder):
    (folder / "model.safetensors").rename(folder / pickle)
    with pytest.raises(
        ModelError, match=rf"holds {pickle} but no model.safetensors; a pickle runs code .* save_pretrained"
    ):
        check_folder(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-1], r"has \d+ bytes, its header says \d+"),
        (lambda data: data + b"x", r"has \d+ bytes, its header says \d+"),
        (lambda data: data[:5], "no safetensors file"),
        (lambda data: b"", "no safetensors file"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "no safetensors file"),
        (lambda data: data[:8] + b"#" * (len(data) - 8), "no safetensors file"),
    ],
    ids=["short", "long", "five bytes", "empty", "pointer", "no header"],
)
def test_damaged_weights_are_found_without_reading_them(spoil, words, folder):
    path = folder / "model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ModelError, match=words):
        check_folder(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.json", "has no config.json, so it is not a model folder"),
        ("tokenizer.json", r"has no tokenizer \(tokenizer.json, "),
        ("model.safetensors", "has neither model.safetensors nor model.safetensors.index.json"),
    ],
)
def test_what_is_missing_is_named(name, words, folder):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=words):
        check_folder(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_damaged_configuration_is_named(text, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json: "):
        check_folder(folder)


def test_an_adapter_is_no_model(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"holds an adapter, not a model"):
        check_folder(folder)


def test_a_file_is_no_folder(folder):
    with pytest.raises(ModelError, match="is not a folder"):
        check_folder(folder / "config.json")


def test_writable(tmp_path):
    assert is_writable(tmp_path / "not" / "there" / "yet")
    (tmp_path / "file").write_text("")
    assert not is_writable(tmp_path / "file" / "below")


def test_an_adapter_is_no_model_and_its_base_is_named(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    with pytest.raises(
        ModelError, match=r"holds an adapter, not a model.* give the folder of its base model, owner/base"
    ):
        check_folder(folder)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="give the folder of its base model, or make one model of both"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("name", "text", "size"),
    [
        ("tokenizer.json", json.dumps({"model": {"vocab": {"a": 0, "b": 7}}, "added_tokens": [{"id": 90}]}), 8),
        ("tokenizer.json", json.dumps({"model": {"vocab": [["a", 0.0], ["b", -1.0]]}}), 2),
        ("vocab.txt", "a\nb\nc\n", 3),
        ("vocab.json", '{"a": 0, "b": 1}', 2),
        ("tokenizer.json", "{}", None),
        ("tokenizer.json", "[", None),
        ("spm.model", "", None),
    ],
)
def test_how_many_numbers_a_tokenizer_gives(tmp_path, name, text, size):
    (tmp_path / name).write_text(text)
    assert tokenizer_size(tmp_path) == size
