"""The contract of a method, run over every registered one and several architectures (tiny, random weights).

Oracles: the base's own weights and outputs, safetensors' reader, arithmetic on shapes, and a second run.
"""

from __future__ import annotations

import functools
import re

import pytest
import torch
from safetensors import safe_open
from support.method_cases import ARCHITECTURES, CASES, build_case

from lora_bench.methods import METHODS
from lora_bench.methods.base import is_below
from lora_bench.methods.lora import lora_layers
from lora_bench.models import trained_parameters
from lora_bench.models.routing import recorded_routing, replayed_routing

TRAINED = {
    "full": r"",
    "bitfit": r"\.bias$",
    "top_layers": r"\.1\.",
    "lora_fa": r"lora_B",
    "dora": r"lora_[AB]|lora_magnitude_vector",
    "vera": r"vera_lambda_[bd]",
    "ia3": r"ia3_l",
    "adalora": r"lora_[ABE]",
    **dict.fromkeys(("adapter_h", "adapter_l", "adapter_p", "adapter_d"), r"\.adapter\."),
    "prefix_embed": r"^prefix_embeddings$",
    "prefix_layer": r"^prefix_(embeddings|activations)$",
    "lora_prefix_embed": r"lora_[AB]|^prefix_embeddings$",
    "lora_prefix_layer": r"lora_[AB]|^prefix_(embeddings|activations)$",
}
"""What the names of trained parameters hold, besides those of the head; LoRA's A and B where nothing is said."""
START = {"dora": 1e-6, "pissa": 2e-5, "olora": 2e-5}
"""How far outputs may be from the base's at the start. DoRA divides and multiplies by a norm, and a matrix from which a
part was taken sums up to itself in fp32 rounding; elsewhere what is added is exactly 0. Experts that were taken apart
add up in another order."""
STARTS_ELSEWHERE = {"prefix_embed", "prefix_layer", "lora_prefix_embed", "lora_prefix_layer", "qlora", "loftq"}
"""Trained tokens are words of the vocabulary at first, which a network reads; four bits round."""
_ONE_LAYOUT = ("eva", "qlora", "loftq", "adapter_h", "adapter_l", "adapter_p", "adapter_d")
"""Only where each layer has one attention and one feed-forward part."""
_ONE_TEXT = (*_ONE_LAYOUT, "prefix_embed", "prefix_layer", "lora_prefix_embed", "lora_prefix_layer")
_NO_EXPERTS = (*_ONE_LAYOUT, "adalora", "vera", "ia3", "pissa", "olora")
LACKING = {
    method: {
        *(["llama", "t5", "qwen3_moe"] if method == "bitfit" else []),
        *(["t5"] if method in _ONE_TEXT else []),
        *(["qwen3_moe"] if method in _NO_EXPERTS else []),
    }
    for method in METHODS
}
"""Neither Llama, T5 nor Qwen 3 has biases, T5 is an encoder with a decoder, and here Qwen 3 has experts."""
KEEPS_START = {"pissa", "olora"}
"""Save what they took from the base as well."""


def test_every_method_is_carried_by_four_architectures_or_more():
    carried = {method: {other for name, other in CASES if name == method} for method in METHODS}
    assert carried == {method: set(ARCHITECTURES) - LACKING.get(method, set()) for method in METHODS}
    assert min(map(len, carried.values())) >= 4


over_all = pytest.mark.parametrize(("method", "architecture"), CASES)


@pytest.fixture
def build(tmp_path):
    """Builds a case; the same every time."""
    return functools.partial(build_case, folder=tmp_path)


def is_head(case, name):
    return is_below(name, case.placed.head_modules)


@over_all
def test_the_output_at_the_start_is_that_of_the_base(build, method, architecture):
    case = build(method, architecture)
    assert case.base_logits.std() > 1e-3
    if method in STARTS_ELSEWHERE:
        assert not torch.equal(case.logits(), case.base_logits)
        return
    atol = max(START.get(method, 0.0), 1e-6 if architecture == "qwen3_moe" else 0.0)
    torch.testing.assert_close(case.logits(), case.base_logits, rtol=0, atol=atol)


@over_all
def test_only_what_is_named_is_trained_and_the_loss_falls(build, method, architecture):
    case = build(method, architecture)
    trained = case.method.trained(case.net)
    pattern = re.compile(TRAINED.get(method, r"lora_[AB]"))
    assert trained
    assert [name for name in trained if not pattern.search(name) and not is_head(case, name)] == []
    for name, parameter in case.net.named_parameters():
        if not is_head(case, name):
            assert parameter.requires_grad == bool(name in trained), name
    before = {name: value.clone() for name, value in case.net.state_dict().items()}
    losses = case.train()
    assert losses[-1] < losses[0]
    case.backward()
    idle = [name for name, parameter in trained.items() if parameter.grad is None]
    assert [name for name in idle if not re.search(r"pooler|ln_f", name)] == []
    for name, parameter in case.net.named_parameters():
        assert name in trained or parameter.grad is None, name
    assert case.net.state_dict().keys() == before.keys()
    changed = {name for name, value in case.net.state_dict().items() if not torch.equal(value, before[name])}
    # A tied weight has several names.
    own = {value.data_ptr() for value in trained.values()}
    assert {name for name in changed if case.net.state_dict()[name].data_ptr() not in own} == set()


@over_all
def test_the_base_is_the_one_that_was_loaded(build, method, architecture):
    case = build(method, architecture)
    if case.method.changes_base:
        assert case.method.notes
        return
    weights = {name.replace(".base_layer", ""): value for name, value in case.net.state_dict().items()}
    found = 0
    body = {name: value for name, value in case.base.items() if not is_head(case, name)}
    for name, value in body.items():
        same = [own for key, own in weights.items() if key == name or key.endswith(f".{name}")]
        found += len(same)
        assert all(torch.equal(own, value) for own in same), name
    # Fused matrices were split; `tests/models/test_split.py` holds the parts to the whole.
    assert found >= len(body) - (4 if architecture in ("gpt2", "qwen3_moe") else 0)


@over_all
def test_counts_are_their_closed_form(build, method, architecture):
    case = build(method, architecture)
    head = case.method.num_head(case.net, case.placed)
    counted = sum(parameter.numel() for parameter in case.method.trained(case.net).values())
    assert head == sum(value.numel() for name, value in case.base.items() if is_below(name, case.placed.head_modules))
    if method == "full":
        assert counted == sum(parameter.numel() for parameter in case.net.parameters())
    elif method == "eva":
        layers = lora_layers(case.net).values()
        assert sum(layer.r["default"] for layer in layers) == len(case.placed.target_modules) * case.config.lora.r
        assert counted - head == sum(one.r["default"] * (one.in_features + one.out_features) for one in layers)
    else:
        assert counted - head == trained_parameters(case.config, case.config.model.architecture) > 0


@over_all
def test_save_and_load_give_the_same_outputs_bit_for_bit(build, method, architecture, tmp_path):
    case = build(method, architecture)
    case.train()
    expected = case.logits()
    case.method.save(case.net, tmp_path / "weights")
    # Another seed: whatever `apply` drew has to come from the file.
    fresh = build(method, architecture, seed=1)
    fresh.method.load(fresh.net, tmp_path / "weights")
    assert torch.equal(fresh.logits(), expected)
    assert not torch.equal(expected, case.base_logits)


@over_all
def test_what_is_saved_is_the_methods_and_nothing_else(build, method, architecture, tmp_path):
    case = build(method, architecture)
    case.method.save(case.net, tmp_path / "weights")
    files = [path for path in (tmp_path / "weights").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}
    numbers, names = {}, []
    for path in (path for path in files if path.suffix == ".safetensors"):
        with safe_open(path, framework="pt") as file:
            names += file.keys()
            numbers[path.name] = sum(file.get_tensor(name).numel() for name in list(file.keys()))
    trained = sum(parameter.numel() for parameter in case.method.trained(case.net).values())
    frozen = sum(value.numel() for name, value in case.net.named_parameters() if "lora_A" in name)
    start = numbers.pop("start.safetensors", 0)
    assert start == (trained - case.method.num_head(case.net, case.placed) if method in KEEPS_START else 0)
    assert sum(numbers.values()) == trained + (frozen if method == "lora_fa" else 0)
    pattern = re.compile(TRAINED.get(method, r"lora_[AB]") if method != "lora_fa" else r"lora_[AB]")
    assert [name for name in names if not pattern.search(name) and not is_head(case, name)] == []


@over_all
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.bfloat16, 6e-2)])
def test_merged_gives_the_same_outputs(build, method, architecture, dtype, tolerance):
    # fp32: rounding of one more addition per weight. bf16: W + BA is rounded to 8 bits once more.
    case = build(method, architecture, dtype=dtype)
    case.train()
    with recorded_routing(case.net) as routing:
        expected = case.logits()
    merged = case.method.merge(case.net)
    if merged is None:
        return
    assert not [name for name, _ in merged.named_parameters() if re.search("lora|vera|ia3", name)]
    with replayed_routing(merged, routing):
        torch.testing.assert_close(case.logits(merged), expected, atol=tolerance, rtol=tolerance)
    # Rounding sends a token to another expert near a tie alone, and seldom: none or one of 96 here, by the CPU.
    assert routing.largest_gap <= tolerance
    assert routing.share_agreeing >= 0.9


@over_all
def test_the_same_seed_gives_the_same_run(build, method, architecture):
    first, second = (build(method, architecture) for _ in range(2))
    assert first.train() == second.train()
    for (name, left), (_, right) in zip(first.net.named_parameters(), second.net.named_parameters(), strict=True):
        assert torch.equal(left, right), name


@over_all
def test_gradient_accumulation_is_one_large_batch(build, method, architecture):
    whole, parts = (build(method, architecture) for _ in range(2))
    whole.train(steps=2)
    parts.train(steps=2)
    loss = whole.backward()
    assert parts.backward(slice(0, 2), slice(2, 4)) == pytest.approx(loss, rel=1e-6)
    for (name, left), right in zip(
        whole.method.trained(whole.net).items(), parts.method.trained(parts.net).values(), strict=True
    ):
        if left.grad is not None:
            # fp32: the same sums in another order.
            scale = float(left.grad.abs().max())
            torch.testing.assert_close(right.grad, left.grad, rtol=1e-4, atol=1e-5 * scale + 1e-8, msg=name)
