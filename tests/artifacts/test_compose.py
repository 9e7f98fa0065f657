"""Oracle: W + 0.7 s1 B1 A1 + 0.3 s2 B2 A2 in fp64, from the adapters' files and the base alone."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from lora_bench.artifacts.checks import Part
from lora_bench.artifacts.compose import compose_runs
from lora_bench.artifacts.merge import merge_run, read_model
from lora_bench.artifacts.network import load_base
from lora_bench.config.schema import Dtype
from lora_bench.errors import ArtifactError
from lora_bench.methods.lora import lora_scaling

ULP = 2.0**-23


def explicit_sum(parts, base, *, splits):
    """In fp64; a role of a fused matrix is put where its rows are."""
    total = {name: value.double().clone() for name, value in base.items()}
    for run, weight in parts:
        adapter = load_file(run.weights / "adapter_model.safetensors")
        for key in adapter:
            if not key.endswith(".lora_A.weight"):
                continue
            stem = key.removesuffix(".lora_A.weight")
            name = stem.removeprefix("base_model.model.")
            change = weight * lora_scaling(run.config.lora)
            change *= adapter[f"{stem}.lora_B.weight"].double() @ adapter[key].double()
            fused, _, role = name.rpartition(".")
            if role in splits:  # a Conv1D, whose weight is (in, out)
                size = change.shape[0]
                total[f"{fused}.weight"][:, splits[role] * size : (splits[role] + 1) * size] += change.T
            else:
                total[f"{name}.weight"] += change if total[f"{name}.weight"].shape == change.shape else change.T
    return total


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("bert_all", "bert_qv"), {}),  # other ranks, placements and seeds
        (("llama_all", "llama_qv"), {}),
        (("gpt2_qv", "gpt2_qv"), {"q": 0, "k": 1, "v": 2}),
    ],
)
def test_the_sum_is_the_explicit_one(trained, tmp_path, names, splits):
    runs = [trained(name) for name in names]
    parts = [Part(run, weight) for run, weight in zip(runs, (0.7, 0.3), strict=True)]
    report = compose_runs(parts, tmp_path / "sum", dtype=Dtype.fp32)
    found = read_model(tmp_path / "sum", runs[0].kind).state_dict()
    base = load_base(runs[0]).state_dict()
    expected = explicit_sum([(part.trained, part.weight) for part in parts], base, splits=splits)
    for name, value in expected.items():
        if not any(head in name for head in ("classifier", "pooler", "score")):
            # One rounding of each merged weight and one of the sum.
            assert float((found[name].double() - value).abs().max()) <= 2 * ULP * float(value.abs().max()), name
    changed = [name for name in base if not torch.equal(found[name].double(), base[name].double())]
    heads = ("classifier", "pooler", "score")
    assert report.num_changed == len([name for name in changed if not any(head in name for head in heads)])
    assert report.num_shared > 0


def test_embeddings_and_unembedding_add_up_apart(trained, tmp_path):
    # The base shares one table, and one of the runs changes both ends of it.
    plain, ends = trained("gpt2_v"), trained("gpt2_ends")
    compose_runs([Part(plain, 0.7), Part(ends, 0.3)], tmp_path / "sum", dtype=Dtype.fp32)
    found, base = read_model(tmp_path / "sum", ends.kind).state_dict(), load_base(ends).state_dict()["lm_head.weight"]
    adapter = load_file(ends.weights / "adapter_model.safetensors")
    scale, prefix = 0.3 * lora_scaling(ends.config.lora), "base_model.model."
    table, head = f"{prefix}transformer.wte.lora_embedding_", f"{prefix}lm_head.lora_"
    changes = {
        "transformer.wte.weight": (adapter[f"{table}B"].double() @ adapter[f"{table}A"].double()).T,
        "lm_head.weight": adapter[f"{head}B.weight"].double() @ adapter[f"{head}A.weight"].double(),
    }
    for name, change in changes.items():
        expected = base.double() + scale * change
        assert float(change.abs().max()) > 0
        assert float((found[name].double() - expected).abs().max()) <= 2 * ULP * float(expected.abs().max()), name


def test_one_run_with_weight_one_is_that_run_merged(trained, tmp_path):
    run = trained("gpt2_qv")
    merge_run(run, tmp_path / "merged")
    compose_runs([Part(run, 1.0)], tmp_path / "sum")
    merged, composed = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "sum"))
    assert all(torch.equal(merged[name], value) for name, value in composed.items())


def test_methods_may_differ_and_bf16_is_rounded_once(trained, tmp_path):
    parts = [Part(trained("bert_full"), 0.5), Part(trained("bert_qv"), 0.5)]
    report = compose_runs(parts, tmp_path / "wide")
    compose_runs(parts, tmp_path / "narrow", dtype=Dtype.bf16)
    assert report.dtype == "fp32"
    wide, narrow = (load_file(tmp_path / name / "model.safetensors") for name in ("wide", "narrow"))
    assert all(torch.equal(narrow[name], value.bfloat16()) for name, value in wide.items())


def head_of(run):
    return load_file(run.weights / "adapter_model.safetensors")["base_model.model.classifier.weight"]


def test_heads_are_averaged_or_taken_from_one(trained, tmp_path):
    one, other = trained("bert_all"), trained("bert_qv")
    parts = [Part(one, 1.5), Part(other, 0.5)]
    assert compose_runs(parts, tmp_path / "mean").head == "weighted mean"
    mean = load_file(tmp_path / "mean" / "model.safetensors")["classifier.weight"]
    assert torch.allclose(mean, 0.75 * head_of(one) + 0.25 * head_of(other), rtol=0, atol=1e-7)
    taken = [Part(one, 1.0), Part(other, -0.5)]
    assert compose_runs(taken, tmp_path / "one", head=other).head == other.name
    assert torch.equal(load_file(tmp_path / "one" / "model.safetensors")["classifier.weight"], head_of(other))


@pytest.mark.parametrize("weights", [(1.0, -0.5), (0.0, 0.0)])
def test_weights_without_a_mean_ask_for_a_head(trained, tmp_path, weights):
    parts = [Part(trained(name), weight) for name, weight in zip(("bert_all", "bert_qv"), weights, strict=True)]
    with pytest.raises(ArtifactError, match=r"have no mean with the weights .*; name the run of the head with --head"):
        compose_runs(parts, tmp_path / "sum")
    assert list(tmp_path.iterdir()) == []


def test_other_classes_ask_for_a_head(trained, tmp_path):
    one, other = trained("bert_all"), trained("bert_qv")
    vars(other)["labels"] = ["no", "perhaps", "yes"]
    with pytest.raises(ArtifactError, match=r"\[negative, neutral, positive\] and \[no, perhaps, yes\]; .* --head"):
        compose_runs([Part(one, 0.5), Part(other, 0.5)], tmp_path / "sum")


def test_different_bases_are_refused(trained, tmp_path):
    with pytest.raises(ArtifactError, match="stand on different bases"):
        compose_runs([Part(trained("bert_qv"), 0.5), Part(trained("gpt2_qv"), 0.5)], tmp_path / "sum")
    assert list(tmp_path.iterdir()) == []
