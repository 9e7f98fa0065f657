"""Oracles: W + scale B A in fp64 from the files alone, the unmerged network, and transformers' own loading."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from support.run_edits import edit_config
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lora_bench.artifacts import network
from lora_bench.artifacts.merge import merge_run
from lora_bench.artifacts.network import load_adapted, load_base, logits, probe_batch
from lora_bench.artifacts.trained import open_run
from lora_bench.config.schema import Dtype
from lora_bench.errors import ArtifactError, UsageError
from lora_bench.manifest import find_change
from lora_bench.methods.lora import LoraMethod, lora_layers, lora_scaling
from lora_bench.methods.quantised import dequantised


@pytest.mark.parametrize("name", ["bert_all", "gpt2_qv", "gpt2_mlp", "llama_all", "gpt2_ends", "llama_embed"])
def test_a_merged_folder_is_the_unmerged_network(trained, tmp_path, name):
    run = trained(name)
    report = merge_run(run, tmp_path / "merged")
    auto = AutoModelForSequenceClassification if run.num_labels else AutoModelForCausalLM
    assert report.auto_class == auto.__name__
    merged = auto.from_pretrained(tmp_path / "merged", dtype="auto").eval()
    unmerged, base = load_adapted(run).net, load_base(run)
    batch = probe_batch(base)
    expected = logits(unmerged, batch)
    assert report.fp32_difference <= 1e-5, "another order of additions"
    # bf16: W + BA is rounded to 8 bits once more. Over all logits: the largest of millions depends on the CPU.
    tolerance = 1e-5 if run.dtype is Dtype.fp32 else 3e-2
    assert float((logits(merged, batch) - expected).norm()) <= tolerance * float(expected.norm())
    assert float((logits(base, batch) - expected).norm()) > 10 * tolerance * float(expected.norm()), "nothing moved"
    assert {key: value.shape for key, value in merged.state_dict().items()} == {
        key: value.shape for key, value in base.state_dict().items()
    }
    assert merged.config.id2label == base.config.id2label
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")("a text")["input_ids"]) > 0
    assert find_change(tmp_path / "merged") is None


def test_the_weights_are_w_plus_scale_b_a(trained, tmp_path):
    run = trained("bert_all")
    merge_run(run, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    adapter = load_file(run.weights / "adapter_model.safetensors")
    base = load_base(run).state_dict()
    changed = 0
    for name, weight in base.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in adapter:
            a_ri, b_or = (adapter[f"{stem}.lora_{part}.weight"].double() for part in "AB")
            expected = weight.double() + lora_scaling(run.config.lora) * (b_or @ a_ri)
            assert torch.allclose(merged[name].double(), expected, rtol=0, atol=2e-7)  # 2 ulp of weights below 1
            changed += 1
        elif not any(head in name for head in ("classifier", "pooler")):
            assert torch.equal(merged[name], weight), name
    assert changed == 2 * 6


def test_fp32_keeps_what_bf16_rounds_away(trained, tmp_path):
    run = trained("llama_qv")
    as_trained = merge_run(run, tmp_path / "bf16")
    wider = merge_run(run, tmp_path / "fp32", dtype=Dtype.fp32)
    assert (as_trained.dtype, wider.dtype) == ("bf16", "fp32")
    assert max(as_trained.fp32_difference, wider.fp32_difference) < 1e-5 < as_trained.trained_difference
    narrow, wide = (load_file(tmp_path / name / "model.safetensors") for name in ("bf16", "fp32"))
    assert all(torch.equal(narrow[name], value.bfloat16()) for name, value in wide.items())


def test_a_fully_trained_model_is_written_as_it_is(trained, tmp_path):
    run = trained("bert_full")
    report = merge_run(run, tmp_path / "merged")
    assert report.written_difference == 0
    written, own = (load_file(folder / "model.safetensors") for folder in (tmp_path / "merged", run.weights))
    assert all(torch.equal(written[name], value) for name, value in own.items())


def test_the_folder_says_where_it_is_from(trained, tmp_path):
    run = trained("bert_qv")
    merge_run(run, tmp_path / "merged")
    origin = json.loads((tmp_path / "merged" / "lora_bench.json").read_text())
    assert origin["made_by"] == "lora-bench merge"
    assert origin["runs"][0]["config_digest"] == run.result.config_digest
    assert origin["runs"][0]["base_digest"] == run.base_digest


@pytest.mark.parametrize("name", ["gpt2_qlora", "bert_loftq"])
def test_four_bits_are_merged_into_what_they_stand_for(trained, tmp_path, name):
    pytest.importorskip("bitsandbytes")
    run = trained(name)
    report = merge_run(run, tmp_path / "merged", dtype=Dtype.fp32, with_dequantised=True)
    assert report.is_dequantised
    assert report.fp32_difference < 1e-5
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", dtype="auto").eval()
    assert not hasattr(merged.config, "quantization_config")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert {key: value.shape for key, value in merged.state_dict().items()} == {
        key: value.shape for key, value in load_base(run).state_dict().items()
    }
    batch = probe_batch(merged)
    unmerged = load_adapted(run).net
    expected = logits(unmerged, batch)
    # The run computes its products in bf16, the merged model in fp32.
    assert float((logits(merged, batch) - expected).abs().max()) <= 2e-2 * float(expected.abs().max())
    for layer_name, layer in lora_layers(unmerged).items():
        if name == "bert_loftq":
            a_ri, b_or = (getattr(layer, part)["default"].weight.double() for part in ("lora_A", "lora_B"))
            whole = dequantised(layer.base_layer).double() + layer.scaling["default"] * (b_or @ a_ri)
            assert torch.allclose(merged.get_submodule(layer_name).weight.double(), whole, rtol=0, atol=2e-7)


def test_four_bits_are_kept_unless_they_are_to_be_made_whole(trained, tmp_path):
    pytest.importorskip("bitsandbytes")
    words = r"method=qlora keeps its base in four bits, .* loses most .*; `lora-bench merge RUN --out DIR --dequantise`"
    with pytest.raises(ArtifactError, match=words):
        merge_run(trained("gpt2_qlora"), tmp_path / "merged")
    with pytest.raises(UsageError, match=r"--dequantise: .* \(method=lora\) has no base in four bits; leave it out"):
        merge_run(trained("bert_qv"), tmp_path / "merged", with_dequantised=True)
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_not_free_is_refused_and_an_empty_one_is_taken(trained, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(UsageError, match="full is not empty, and nothing is overwritten; give a new folder"):
        merge_run(trained("bert_qv"), tmp_path / "full")
    with pytest.raises(UsageError, match="file is a file; give a new folder"):
        merge_run(trained("bert_qv"), tmp_path / "full" / "file")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    (tmp_path / "empty").mkdir()
    merge_run(trained("bert_qv"), tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").is_file()


def test_a_method_that_cannot_merge_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(LoraMethod, "merge", lambda self, net: None)
    with pytest.raises(ArtifactError, match="method=lora computes something beside the base's weights"):
        merge_run(trained("bert_qv"), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_merge_that_is_wrong_is_found_and_nothing_is_written(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(LoraMethod, "merge", lambda self, net: net.unload())  # forgets the adapter
    with pytest.raises(ArtifactError, match=r"merged and unmerged outputs differ by .* nothing was written"):
        merge_run(trained("bert_all"), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_weights_in_integers_are_refused(trained, tmp_path, monkeypatch):
    class Quantised(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.config = net, net.config
            self.packed = nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)

        def forward(self, **batch):
            return self.net(**batch)

    real = network.load_adapted

    def load_quantised(run):
        adapted = real(run)
        return type(adapted)(Quantised(adapted.net), adapted.method)

    monkeypatch.setattr(network, "load_adapted", load_quantised)
    with pytest.raises(ArtifactError, match=r"its base is quantised; .* train on unquantised weights"):
        merge_run(trained("bert_qv"), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_configuration_are_refused(copy_of):
    run = copy_of("bert_qv")
    edit_config(run, lambda config: config["lora"].update(r=3))
    with pytest.raises(ArtifactError, match=r"weights/ does not belong to its config.yaml \(.*; train it again"):
        load_adapted(open_run(run))
