"""Oracles: `PeftModel.from_pretrained`, called as the card says, and the run's own network with PEFT's forward."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from lora_bench.artifacts import export as exporting
from lora_bench.artifacts.export import export_run
from lora_bench.artifacts.lowrank import Factors
from lora_bench.artifacts.network import load_adapted, logits, probe_batch
from lora_bench.errors import ArtifactError
from lora_bench.methods.fused import unfuse
from lora_bench.methods.quiet import quiet_peft


def load_as_the_card_says(folder, run):
    """Runs the card's own lines."""
    code = (folder / "README.md").read_text().split("```")[1].removeprefix("python\n")
    names = {}
    with quiet_peft():
        exec(code, names)  # a test of the text that users copy
    assert isinstance(names["model"], PeftModel)
    auto = AutoModelForSequenceClassification if run.num_labels else AutoModelForCausalLM
    assert auto.__name__ in code
    return names["model"]


@pytest.mark.parametrize("name", ["bert_all", "gpt2_mlp", "llama_qv", "llama_embed"])
def test_peft_gives_the_same_outputs_bit_for_bit(trained, tmp_path, name):
    run = trained(name)
    report = export_run(run, tmp_path / "out", with_base=True)
    own = load_adapted(run).net
    unfuse(own)
    batch = probe_batch(own)
    assert torch.equal(logits(load_as_the_card_says(tmp_path / "out", run), batch), logits(own, batch))
    assert (report.difference, report.num_joined, report.is_restorable) == (0, 0, True)
    copied, original = (folder / "adapter_model.safetensors" for folder in (tmp_path / "out", run.weights))
    assert copied.read_bytes() == original.read_bytes()
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "out" / "base") == report.base


def test_a_split_matrix_is_joined_for_the_plain_architecture(trained, tmp_path):
    run = trained("gpt2_qv")
    report = export_run(run, tmp_path / "out", with_base=True)
    loaded = load_as_the_card_says(tmp_path / "out", run)
    adapted = [name for name, module in loaded.named_modules() if hasattr(module, "lora_A")]
    assert adapted == [f"base_model.model.transformer.h.{layer}.attn.c_attn" for layer in range(2)]
    own = load_adapted(run).net
    batch = probe_batch(own)
    expected = logits(own, batch)
    # Products of rank 4 with zeros in place of two of rank 2: another order of additions.
    assert torch.allclose(logits(loaded, batch), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert (report.num_joined, report.is_restorable) == (2, True)


def test_embeddings_are_exported_beside_a_joined_matrix(trained, tmp_path):
    run = trained("gpt2_ends")
    report = export_run(run, tmp_path / "out", with_base=True)
    loaded, own = load_as_the_card_says(tmp_path / "out", run), load_adapted(run).net
    batch = probe_batch(own)
    expected = logits(own, batch)
    # bf16: products of rank 4 with zeros in place of two of rank 2.
    assert torch.allclose(logits(loaded, batch), expected, rtol=0, atol=4e-2 * float(expected.abs().max()))
    assert report.fp32_difference < 1e-5
    assert (report.num_joined, report.is_restorable) == (2, True)
    assert "PEFT's merge would add both changes to both" in (tmp_path / "out" / "README.md").read_text()


def test_the_tokenizer_stays_off_the_adapters_folder(trained, tmp_path):
    export_run(trained("bert_qv"), tmp_path / "out", with_base=True)
    # PEFT's Auto classes would resize the embeddings to it.
    assert not (tmp_path / "out" / "tokenizer_config.json").exists()
    assert (tmp_path / "out" / "base" / "tokenizer_config.json").is_file()


def test_random_weights_ask_for_their_base(trained, tmp_path):
    with pytest.raises(ArtifactError, match=r"its base has random weights, .* add --with-base"):
        export_run(trained("bert_qv"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_method_without_an_adapter_is_refused(trained, tmp_path):
    with pytest.raises(
        ArtifactError, match="what method=full trained is no PEFT adapter, or not that alone; lora-bench"
    ):
        export_run(trained("bert_full"), tmp_path / "out", with_base=True)


def test_an_adapter_that_peft_reads_otherwise_is_found_and_nothing_is_written(trained, tmp_path, monkeypatch):
    real = exporting.read_low_rank

    def without_scale(run, adapted):
        found = real(run, adapted)
        wrong = {name: Factors(own.a_RI, own.b_OR, own.scaling / 2) for name, own in found.factors.items()}
        return dataclasses.replace(found, factors=wrong)

    monkeypatch.setattr(exporting, "read_low_rank", without_scale)
    with pytest.raises(
        ArtifactError, match=r"PeftModel.from_pretrained makes of the adapter differs .* use lora-bench"
    ):
        export_run(trained("gpt2_qv"), tmp_path / "out", with_base=True)
    assert list(tmp_path.iterdir()) == []
