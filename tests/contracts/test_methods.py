"""The contract of a method, run over every registered one and several architectures (tiny, random weights).

Oracles: the base's own weights and outputs, PEFT's and safetensors' readers, and arithmetic on shapes.
"""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from lora_bench.config.schema import TaskKind
from lora_bench.methods import METHODS, Placed, build_method
from lora_bench.models import adapter_parameters, target_modules
from lora_bench.models.load import head_modules, load_model
from lora_bench.models.split import split_fused

ARCHITECTURES = ("tiny", "tiny-gpt2", "tiny-llama")
CASES = [(method, model) for method in METHODS for model in ARCHITECTURES]
ADAPTERS = [case for case in CASES if case[0] != "full"]

pytestmark = pytest.mark.parametrize(("method_name", "model_name"), CASES)


@pytest.fixture
def build(tiny, tmp_path):
    def make(method_name, model_name, *, dtype=torch.float32, words=()):
        words = [f"method={method_name}", f"model={model_name}", "placement=qv", "training.dropout=0", *words]
        config = tiny(*words)
        net = load_model(
            config.model,
            kind=TaskKind.classification,
            num_labels=3,
            cache=tmp_path,
            dtype=dtype,
            seed=0,
            dropout=0.0,
            pad_token_id=0,
        )
        base = {name: value.clone() for name, value in net.state_dict().items()}
        with torch.no_grad():
            before = net(**batch()).logits
        method = build_method(config)
        roles = config.placement.roles if config.placement else []
        split_fused(net, roles)
        placed = Placed(tuple(target_modules(net, roles)) if roles else (), tuple(head_modules(net)))
        torch.manual_seed(0)
        return config, method, placed, method.apply(net, placed), base, before

    return make


def batch():
    ids = torch.arange(1, 25).reshape(2, 12)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def step(net, trained):
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    net.train()
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(net(**batch()).logits.float(), torch.tensor([0, 2]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    net.eval()
    return losses


def test_the_output_at_the_start_is_that_of_the_base(build, method_name, model_name):
    _, _, _, net, _, before = build(method_name, model_name)
    with torch.no_grad():
        assert torch.equal(net(**batch()).logits, before)


def test_only_what_is_named_is_trained_and_the_loss_falls(build, method_name, model_name):
    _, method, _, net, base, _ = build(method_name, model_name)
    losses = step(net, list(method.trained(net).values()))
    assert losses[-1] < losses[0]
    trained = set(method.trained(net))
    for name, parameter in net.named_parameters():
        if name not in trained:
            assert parameter.grad is None, name
    if method_name != "full":
        frozen = {name: value for name, value in net.named_parameters() if name not in trained}
        originals = [value for value in base.values() if value.dim() == 2]
        for name, value in frozen.items():
            if value.dim() == 2 and "layer.0" not in name:
                # Split matrices are slices of an original; whole ones are an original.
                assert any(_contains(original, value) for original in originals), name


def _contains(original, value):
    candidates = [original, original.t()]
    return any(
        torch.equal(candidate[start : start + value.shape[0]], value)
        for candidate in candidates
        if candidate.shape[1] == value.shape[1]
        for start in range(0, candidate.shape[0] - value.shape[0] + 1, max(1, value.shape[0]))
    )


def test_counts_are_their_closed_form(build, method_name, model_name):
    config, method, placed, net, _, _ = build(method_name, model_name)
    head = method.num_head(net, placed)
    counted = sum(parameter.numel() for parameter in method.trained(net).values())
    assert head > 0
    if method_name == "full":
        tied = {value.data_ptr(): value.numel() for value in net.parameters()}
        assert counted == sum(tied.values())
    else:
        assert config.placement is not None
        expected = adapter_parameters(config.model.architecture, config.placement.roles, config.lora.r)
        assert counted - head == expected


def test_save_and_load_give_the_same_outputs_bit_for_bit(build, method_name, model_name, tmp_path):
    _, method, _, net, _, _ = build(method_name, model_name)
    step(net, list(method.trained(net).values()))
    with torch.no_grad():
        expected = net(**batch()).logits
    method.save(net, tmp_path / "weights")
    _, again, _, fresh, _, _ = build(method_name, model_name)
    again.load(fresh, tmp_path / "weights")
    fresh.eval()
    with torch.no_grad():
        assert torch.equal(fresh(**batch()).logits, expected)


def test_what_is_saved_is_the_methods_and_nothing_else(build, method_name, model_name, tmp_path):
    _, method, _, net, _, _ = build(method_name, model_name)
    method.save(net, tmp_path / "weights")
    files = list((tmp_path / "weights").rglob("*.safetensors"))
    assert len(files) == 1
    assert not [path for path in (tmp_path / "weights").rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pickle")]
    with safe_open(files[0], framework="pt") as file:
        names = list(file.keys())
        numbers = sum(file.get_tensor(name).numel() for name in names)
    if method_name == "full":
        assert numbers == sum(parameter.numel() for parameter in net.parameters())
    else:
        assert numbers == sum(parameter.numel() for parameter in method.trained(net).values())
        assert all("lora_" in name or "score" in name or "classifier" in name for name in names)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 4e-2)])
def test_merged_gives_the_same_outputs(build, method_name, model_name, dtype, tolerance):
    # fp32: rounding of one more addition per weight. bf16: W + BA is rounded to 8 bits once more.
    _, method, _, net, _, _ = build(method_name, model_name, dtype=dtype)
    step(net, list(method.trained(net).values()))
    with torch.no_grad():
        expected = net(**batch()).logits.float()
        merged = method.merge(net)
        assert merged is not None
        actual = merged.eval()(**batch()).logits.float()
    assert torch.allclose(actual, expected, atol=tolerance, rtol=tolerance)


def test_the_same_seed_gives_the_same_start(build, method_name, model_name):
    first, second = (build(method_name, model_name)[3] for _ in range(2))
    for (name, left), (_, right) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(left, right), name
