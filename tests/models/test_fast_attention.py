"""Oracle: the `eager` and `sdpa` attention of transformers, in fp32; finite differences in fp64.

Tolerance in fp32: the same sums in another order, through softmax, over at most 16 keys: 1e-5.
"""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GPT2Config,
    LlamaConfig,
)

from lora_bench.models import fast_attention
from lora_bench.models.fast_attention import MAX_KEYS, NAME, _Attention, use_fast_attention

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONFIGS = {
    "bert": BertConfig(vocab_size=40, num_labels=3, **SHAPE),
    "gpt2": GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=600),
    "llama_grouped": LlamaConfig(vocab_size=40, num_key_value_heads=2, **SHAPE),
}


def build(name, attention):
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[name])  # A model keeps its configuration and the attention is written into it.
    if name == "bert":
        return BertForSequenceClassification._from_config(config, attn_implementation=attention)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def batch(num_tokens=9):
    ids = torch.randint(1, 40, (3, num_tokens), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, -4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def outcome(net, inputs):
    net.zero_grad()
    logits = net(**inputs).logits
    logits.square().sum().backward()
    return [logits.detach(), *(p.grad for p in net.parameters() if p.grad is not None)]


@pytest.mark.parametrize("oracle", ["eager", "sdpa"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("padded", [True, False])
def test_logits_and_gradients_are_those_of_transformers(monkeypatch, name, oracle, padded):
    net, other = build(name, "sdpa").eval(), build(name, oracle).eval()
    assert use_fast_attention(net)
    monkeypatch.setattr(fast_attention, "sdpa_attention_forward", None)  # Would fail if it were fallen back to.
    inputs = batch() if padded else {"input_ids": batch()["input_ids"]}
    found, expected = outcome(net, inputs), outcome(other, inputs)
    if padded and name != "bert":
        # Padding positions attend nothing that anybody defined; only real tokens have an output.
        found[0], expected[0] = (t[inputs["attention_mask"].bool()] for t in (found[0], expected[0]))
    assert len(found) == len(expected) > 10
    # The gradient of a key's bias is zero but for rounding, so the size of all gradients sets the scale.
    scale = max(float(theirs.abs().max()) for theirs in expected[1:])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale)


def test_gradients_against_finite_differences():
    q, k, v = (torch.randn(2, 2, size, 3, dtype=torch.float64, requires_grad=True) for size in (4, 5, 5))
    bias = torch.randn(2, 1, 4, 5, dtype=torch.float64)

    def attend(q, k, v, p):
        torch.manual_seed(2)  # The same mask at every evaluation.
        return _Attention.apply(q, k, v, bias, 0.7, p)

    for p in (0.0, 0.3):
        assert torch.autograd.gradcheck(lambda q, k, v, p=p: attend(q, k, v, p), (q, k, v))


def test_dropout_keeps_the_expectation():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 4, 8) for _ in range(3))
    many = [tensor.expand(4000, 1, 4, 8) for tensor in (q, k, v)]
    found = _Attention.apply(*many, None, 0.3, 0.2)
    expected = _Attention.apply(q, k, v, None, 0.3, 0.0)
    error = (found.mean(0) - expected[0]).abs() / (found.std(0) / 4000**0.5)
    assert error.max() < 5, "five standard errors"
    assert found.std(0).min() > 0.01


def test_bf16_error_is_that_of_eager():
    net, eager = build("bert", "sdpa").eval(), build("bert", "eager").eval()
    assert use_fast_attention(net)
    expected = outcome(eager, batch())
    low = [outcome(model.bfloat16(), batch()) for model in (net, eager)]
    ours, theirs = (
        sum(float((f.float() - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True)) for found in low
    )
    assert 0 < ours < 1.2 * theirs


@pytest.mark.parametrize(
    "change",
    [
        lambda net, inputs: torch.autocast("cpu", torch.bfloat16),
        lambda net, inputs: inputs.update(batch(MAX_KEYS + 1)),
        lambda net, inputs: inputs.update(attention_mask=torch.ones(3, 1, 9, 9, dtype=torch.bool)),
    ],
    ids=["autocast", "long", "mask_of_its_own"],
)
def test_everything_else_goes_to_sdpa(monkeypatch, change):
    net, inputs = build("gpt2", "sdpa").eval(), batch()
    assert use_fast_attention(net)
    calls = []
    original = fast_attention.sdpa_attention_forward
    monkeypatch.setattr(fast_attention, "sdpa_attention_forward", lambda *a, **k: calls.append(1) or original(*a, **k))
    changed = change(net, inputs)
    if changed is None:
        net(**inputs)
    else:
        with changed:
            net(**inputs)
    assert len(calls) == 2, "one for each layer"


def test_generation_with_a_cache_is_the_same():
    net, other = build("llama_grouped", "sdpa").eval(), build("llama_grouped", "eager").eval()
    assert use_fast_attention(net)
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    assert torch.equal(net.generate(**batch(), **options), other.generate(**batch(), **options))


def test_models_that_do_not_run_with_sdpa_stay_as_they_are(tmp_path):
    deberta = DebertaV2ForSequenceClassification(DebertaV2Config(vocab_size=40, **SHAPE))
    assert not use_fast_attention(deberta)
    assert not use_fast_attention(build("bert", "eager"))
    net = build("bert", "sdpa")
    assert use_fast_attention(net)
    net.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text(), "a saved model knows nothing of it"
