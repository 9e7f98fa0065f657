"""Oracle: the words that a user reads, and weights that are as they were."""

from __future__ import annotations

import pytest
import torch
from support.method_cases import build_case

from lora_bench.errors import ModelError

FILES = {
    "full": "model.safetensors",
    "bitfit": "trained.safetensors",
    "adapter_p": "trained.safetensors",
    "prefix_layer": "prefix.safetensors",
    "lora": "adapter_model.safetensors",
    "pissa": "adapter_model.safetensors",
    "adalora": "adapter_model.safetensors",
    "eva": "adapter_model.safetensors",
}
over_methods = pytest.mark.parametrize("method", FILES)


@pytest.fixture
def written(tmp_path):
    """A folder that a method wrote, and a fresh case to load it into."""

    def make(method):
        case = build_case(method, "bert", folder=tmp_path)
        case.method.save(case.net, tmp_path / "weights")
        return tmp_path / "weights", build_case(method, "bert", folder=tmp_path, seed=1)

    return make


def refuses(case, folder, told):
    before = {name: value.clone() for name, value in case.net.state_dict().items()}
    with pytest.raises(ModelError, match=told):
        case.method.load(case.net, folder)
    after = case.net.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


@over_methods
def test_a_folder_of_something_else_is_refused(method, written, tmp_path):
    _, case = written(method)
    refuses(case, tmp_path / "nowhere", "is not a folder that this method wrote; there is nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    refuses(case, tmp_path / "other", f"has no {FILES[method]}, so .* it holds notes.txt")


@over_methods
def test_a_pickle_is_refused_unread(method, written, tmp_path):
    _, case = written(method)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/no'\ntR.")
    refuses(case, tmp_path / "old", "adapter_model.bin is a pickle, which is never read: save it as safetensors first")


@over_methods
@pytest.mark.parametrize("how", ["cut", "header"])
def test_a_damaged_file_is_refused(method, how, written):
    folder, case = written(method)
    data = (folder / FILES[method]).read_bytes()
    (folder / FILES[method]).write_bytes(data[:-10] if how == "cut" else b"\xff" * 8 + data[8:])
    refuses(case, folder, "damaged, or no safetensors file .*; copy or train it again")


@pytest.mark.parametrize(("method", "words"), [("lora", "lora.r=4"), ("prefix_layer", "method.num_tokens=5")])
def test_tensors_of_other_settings_are_refused(method, words, written, tmp_path):
    folder, _ = written(method)
    refuses(build_case(method, "bert", words, folder=tmp_path), folder, "has shape .*, the model's .*settings differ")


@pytest.mark.parametrize("method", ["lora", "bitfit", "prefix_layer"])
def test_tensors_of_another_model_are_refused(method, written, tmp_path):
    folder, _ = written(method)
    refuses(
        build_case(method, "gpt2", folder=tmp_path), folder, "belongs to another model or method; .* on one side only"
    )
