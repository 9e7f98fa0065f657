"""Oracle: PEFT's own forward and backward, in fp32 and under autocast; finite differences in fp64.

fp32 tolerance: both sides sum the same products in another order, so results differ by a few units in the last
place of sums over at most 48 numbers: 1e-5 relative to the size of the result is an order above what was seen.
"""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners import lora
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from lora_bench.methods.fused import FusedLinear, _LoraProduct, _rows_with_gradient, fuse, unfuse

IN, OUT = 48, 32


ALPHAS = (32, 33)
"""With 32 the scale alpha / r is often a power of two, which rounds nothing; with 33 each product is rounded."""


def wrapped(base: nn.Module | None = None, *, r: int = 4, alpha: float = 33, **options: object) -> PeftModel:
    """One adapted layer with a B that is not zero."""
    torch.manual_seed(0)
    net = nn.Sequential(base or nn.Linear(IN, OUT))
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=["0"], fan_in_fan_out=isinstance(base, Conv1D), **options)
    return fill_b(get_peft_model(net, config))


def fill_b(net: PeftModel) -> PeftModel:
    """B starts at zero, where half of the gradients vanish."""
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return net


def fused_copy(net: nn.Module) -> nn.Module:
    """The same network with the fused forward."""
    other = copy.deepcopy(net)
    assert fuse(other) > 0
    return other


def outcome(net: nn.Module, x: Tensor, *, autocast: bool = False) -> dict[str, Tensor]:
    """Output, gradient of the input and gradients of all parameters, in fp64; the output's gradient is fixed."""
    x = x.detach().clone().requires_grad_()
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = net(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).bfloat16().to(y.dtype))
    found = {"y": y.detach(), "x": x.grad}
    found |= {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {name: tensor.double() for name, tensor in found.items()}


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Relative distance in the 2-norm, by name."""
    assert found.keys() == expected.keys()
    return {name: float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected}


def assert_same(net: nn.Module, other: nn.Module, x: Tensor):
    """Output and every gradient agree to the fp32 tolerance of this file."""
    found = errors(outcome(other, x), outcome(net, x))
    assert len(found) >= 4, "output, input, A and B"
    assert max(found.values()) < 1e-5, found


@pytest.mark.parametrize("shape", [(6, IN), (2, 3, IN), (IN,)], ids=["2d", "3d", "1d"])
@pytest.mark.parametrize("kind", ["linear", "no_bias", "conv1d"])
@pytest.mark.parametrize("r", [1, 4, 40])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_equals_peft_in_fp32(kind: str, shape: tuple[int, ...], r: int, alpha: float):
    torch.manual_seed(1)
    base = {"linear": nn.Linear(IN, OUT), "no_bias": nn.Linear(IN, OUT, bias=False), "conv1d": Conv1D(OUT, IN)}[kind]
    net = wrapped(base, r=r, alpha=alpha)
    assert_same(net, fused_copy(net), torch.randn(shape))


def test_input_that_is_not_contiguous():
    net = wrapped()
    x = torch.randn(IN, 5, 3).permute(2, 1, 0)
    assert not x.is_contiguous()
    assert_same(net, fused_copy(net), x)


def test_gradients_against_finite_differences():
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    x, dropped, a, b = draw(2, 3, 5), draw(2, 3, 5), draw(2, 5), draw(4, 2)
    weight, bias = draw(4, 5).detach(), draw(4).detach()
    assert torch.autograd.gradcheck(lambda *t: _LoraProduct.apply(t[0], None, weight, bias, *t[1:], 1.7), (x, a, b))
    assert torch.autograd.gradcheck(
        lambda *t: _LoraProduct.apply(t[0], t[1], weight, None, *t[2:], 1.7), (x, dropped, a, b)
    )


@pytest.mark.parametrize("b_std", [0.01, 0.2, 2.0])
@pytest.mark.parametrize(("alpha", "r"), [(32, 8), (33, 8), (33, 5), (1, 3)])
def test_bf16_error_is_that_of_peft_under_autocast(b_std: float, alpha: float, r: int):
    # Both round A, B, x A^T and the result to bf16 (2^-9); ours leaves out two roundings of the adapter's part.
    net = wrapped(r=r, alpha=alpha)
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=b_std)
        if "lora_" not in name:  # The base is in bf16 in both; A and B are masters in fp32, which both round.
            parameter.data = parameter.data.bfloat16().float()
    x = torch.randn(256, IN).bfloat16().float()
    expected = outcome(copy.deepcopy(net).double(), x.double())
    of_peft = errors(outcome(net, x, autocast=True), expected)
    low = fused_copy(net)
    for module in low.modules():
        if isinstance(module, lora.Linear):
            module.base_layer.to(torch.bfloat16)
    of_fused = errors(outcome(low, x.bfloat16()), expected)
    assert {name: error for name, error in of_fused.items() if error > 1.1 * of_peft[name]} == {}
    assert max(of_fused.values()) < 0.01


def test_dropout_of_the_adapter_draws_what_peft_draws():
    net = wrapped(lora_dropout=0.3).train()
    other, x = fused_copy(net), torch.randn(64, IN)
    torch.manual_seed(3)
    expected = outcome(net, x)
    torch.manual_seed(3)
    found = outcome(other, x)
    assert max(errors(found, expected).values()) < 1e-5
    assert errors(outcome(other, x), expected)["y"] > 1e-3, "another mask gives another output"
    assert_same(net.eval(), other.eval(), x)


def test_gradient_of_the_input_only_where_it_is_asked_for():
    net = fused_copy(wrapped())
    x = torch.randn(3, IN)
    net(x).sum().backward()
    assert x.grad is None
    assert sorted(name.split(".")[-3] for name, p in net.named_parameters() if p.grad is not None) == [
        "lora_A",
        "lora_B",
    ]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("kept", "is_short"),
    [([0, 32, 64, 96], True), ([31, 63, 95, 127], True), ([], True), (range(128), False), (range(100, 128), True)],
    ids=["first_tokens", "last_tokens", "nothing", "everything", "response"],
)
def test_tokens_without_a_gradient_are_left_out(kept, is_short, dropout):
    net = wrapped(lora_dropout=dropout).train()
    other, x = fused_copy(net), torch.randn(4, 32, IN)
    grad = torch.zeros(128, OUT)
    grad[list(kept)] = torch.randn(len(kept), OUT)
    rows = _rows_with_gradient(grad)
    assert (None if rows is None else rows.tolist()) == (list(kept) if is_short else None)
    found = []
    for model in (net, other):
        torch.manual_seed(3)
        inputs = x.clone().requires_grad_()
        model(inputs).backward(grad.view(4, 32, OUT))
        found.append([inputs.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_accumulate_and_survive_checkpointing():
    net = wrapped()
    other, x = fused_copy(net), torch.randn(8, IN)
    whole = outcome(net, x)
    other.zero_grad()
    grad = torch.randn(8, OUT, generator=torch.Generator().manual_seed(7)).bfloat16().float()
    for part, grad_part in zip(x.split(4), grad.split(4), strict=True):
        checkpoint(other, part, use_reentrant=False).backward(grad_part)
    found = {name: p.grad.double() for name, p in other.named_parameters() if p.grad is not None}
    assert len(found) == 2
    assert max(errors(found, {name: whole[name] for name in found}).values()) < 1e-5


def test_without_gradients_the_output_is_the_same():
    net = fused_copy(wrapped())
    x = torch.randn(3, IN)
    expected = net(x).detach()
    with torch.no_grad():
        assert torch.equal(net(x), expected)
    with torch.inference_mode():
        assert torch.equal(net(x), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.merge_adapter(),
        lambda net: (net.merge_adapter(), net.unmerge_adapter()),
        lambda net: net.base_model.disable_adapter_layers(),
        lambda net: fill_b(net).add_adapter("second", LoraConfig(r=2, target_modules=["0"])),
        lambda net: (net.add_adapter("second", LoraConfig(r=2, target_modules=["0"])), net.set_adapter("second")),
        lambda net: (
            net.add_adapter("second", LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)),
            net.base_model.set_adapter(["default", "second"]),
        ),
        lambda net: net.base_model.model[0].base_layer.bias.requires_grad_(),
        lambda net: net.base_model.model[0].lora_A["default"].register_forward_hook(lambda m, i, out: 2 * out),
    ],
    ids=["merged", "unmerged", "disabled", "added", "switched", "two_active", "trained_bias", "hook_on_a_part"],
)
def test_follows_every_change_that_peft_allows(change):
    net = wrapped()
    other = fused_copy(net)
    for changed in (net, other):
        torch.manual_seed(5)
        change(changed)
    x = torch.randn(6, IN)
    found, expected = outcome(other, x), outcome(net, x)
    assert max(errors(found, expected).values()) < 1e-5


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}], ids=["dora", "bias_in_b"])
def test_variants_are_left_to_peft(options: dict[str, bool]):
    net = wrapped(**options)
    x = torch.randn(6, IN)
    assert errors(outcome(fused_copy(net), x), outcome(net, x)) == dict.fromkeys(outcome(net, x), 0.0)


def test_autocast_is_left_to_peft():
    net = wrapped()
    x = torch.randn(6, IN)
    found, expected = outcome(fused_copy(net), x, autocast=True), outcome(net, x, autocast=True)
    assert set(errors(found, expected).values()) == {0.0}


def tiny_bert(seed: int = 0) -> PeftModel:
    """Two layers with adapters of two ranks on every matrix, dropout as BERT has it, a trained head."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    net = BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=3, **shape))
    config = LoraConfig(
        r=4, target_modules=["query", "key", "value", "dense"], rank_pattern={"query": 2}, task_type="SEQ_CLS",
        exclude_modules=["pooler.dense"],
    )  # fmt: skip
    return get_peft_model(net, config)


def train(net: PeftModel, steps: int) -> dict[str, Tensor]:
    """The trained tensors after some steps of AdamW."""
    torch.manual_seed(11)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        ids, labels = torch.randint(0, 50, (4, 7)), torch.randint(0, 3, (4,))
        net(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: p.detach().clone() for name, p in net.named_parameters() if p.requires_grad}


def test_a_step_is_the_step_of_peft():
    net = tiny_bert()
    other = tiny_bert()
    assert fuse(other) == 12
    # From the second step on B is not zero; Adam divides by gradients, so differences grow with steps.
    expected, found = train(net, 3), train(other, 3)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
    start = dict(tiny_bert().named_parameters())
    assert all((found[name] - start[name]).abs().max() > 5e-3 for name in found), "everything was trained"


def test_same_seed_same_bits():
    nets = [tiny_bert(), tiny_bert()]
    for net in nets:
        fuse(net)
    first, second = (train(net, 4) for net in nets)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_adapters_beside_fused_matrices_of_gpt2():
    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=16))
    config = LoraConfig(r=4, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    net = fill_b(get_peft_model(base, config)).eval()
    other = fused_copy(net)
    ids = torch.randint(0, 50, (2, 9))
    for model in (net, other):
        model(input_ids=ids, labels=ids).loss.backward()
    expected = {name: p.grad.double() for name, p in net.named_parameters() if p.grad is not None}
    found = {name: p.grad.double() for name, p in other.named_parameters() if p.grad is not None}
    assert len(found) == 16
    assert max(errors(found, expected).values()) < 1e-4  # Through two layers of softmax and normalisation.


def test_saves_loads_and_merges_as_peft_does(tmp_path):
    net = fill_b(tiny_bert()).eval()
    other = fused_copy(net)
    assert list(other.state_dict()) == list(net.state_dict())
    ids = torch.randint(0, 50, (2, 9))
    expected = net(input_ids=ids).logits
    other.save_pretrained(tmp_path)
    fresh = tiny_bert()
    fuse(fresh)
    fresh.load_adapter(tmp_path, "default")
    assert all(
        torch.equal(tensor, get_peft_model_state_dict(net)[name])
        for name, tensor in get_peft_model_state_dict(fresh).items()
    )
    merged = other.merge_and_unload()
    assert not any(isinstance(module, lora.Linear) for module in merged.modules())
    torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_unfuse_gives_pefts_class_back():
    net = tiny_bert()
    assert fuse(net) == 12
    assert fuse(net) == 0, "fused already"
    assert sum(type(module) is FusedLinear for module in net.modules()) == 12
    assert unfuse(net) == 12
    assert sum(type(module) is lora.Linear for module in net.modules()) == 12


def test_other_layers_keep_their_class():
    class Own(nn.Linear):
        pass

    net = get_peft_model(nn.Sequential(Own(4, 4), nn.Embedding(3, 4)), LoraConfig(r=2, target_modules=["0", "1"]))
    assert fuse(net) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equals_peft_on_a_gpu_in_bf16():
    net = wrapped(nn.Linear(IN, OUT).bfloat16()).cuda()
    x = torch.randn(64, IN, device="cuda", dtype=torch.bfloat16)
    grad = torch.randn(64, OUT, device="cuda", dtype=torch.bfloat16)
    found = {}
    for name, model in (("peft", net), ("fused", fused_copy(net))):
        model(x).backward(grad)
        found[name] = {key: p.grad.double() for key, p in model.named_parameters() if p.grad is not None}
    assert max(errors(found["fused"], found["peft"]).values()) < 0.01
