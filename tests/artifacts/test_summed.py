"""Oracle: the same sum as merged weights, and PEFT's own loading."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel

from lora_bench.artifacts.checks import Part
from lora_bench.artifacts.compose import compose_runs
from lora_bench.artifacts.merge import read_model
from lora_bench.artifacts.network import logits, probe_batch
from lora_bench.artifacts.summed import compose_adapter
from lora_bench.errors import ArtifactError
from lora_bench.methods.quiet import quiet_peft


@pytest.mark.parametrize(
    ("names", "rank"),
    [
        (("bert_all", "bert_qv"), 6),
        (("gpt2_qv", "gpt2_qv"), 8),
        (("llama_all", "llama_qv"), 6),
        (("gpt2_v", "gpt2_ends"), 5),
        (("t5_all", "t5_qv"), 6),
    ],
)
def test_the_summed_adapter_is_the_merged_sum(trained, tmp_path, names, rank):
    parts = [Part(trained(name), weight) for name, weight in zip(names, (0.7, 0.3), strict=True)]
    report = compose_adapter(parts, tmp_path / "adapter", with_base=True)
    compose_runs(parts, tmp_path / "merged")
    merged = read_model(tmp_path / "merged", parts[0].trained.kind)
    with quiet_peft():
        base = read_model(tmp_path / "adapter" / "base", parts[0].trained.kind)
        adapter = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    batch = probe_batch(merged)
    expected = logits(merged, batch)
    # Language models train in bf16 here, where adapter and merged weights round apart.
    tolerance = 1e-5 if parts[0].trained.num_labels else 4e-2
    assert torch.allclose(logits(adapter, batch), expected, rtol=0, atol=tolerance * float(expected.abs().max()))
    assert report.rank == rank
    assert report.fp32_difference < 1e-5
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert max([config["r"], *config["rank_pattern"].values()]) == rank


def test_what_is_no_lora_is_refused(trained, tmp_path):
    parts = [Part(trained("bert_full"), 0.5), Part(trained("bert_qv"), 0.5)]
    with pytest.raises(ArtifactError, match="what method=full trained is no PEFT adapter"):
        compose_adapter(parts, tmp_path / "adapter", with_base=True)
    assert list(tmp_path.iterdir()) == []
