"""Alpha, the size of A at the start and the rates of A and B have two degrees of freedom. Oracle: the run itself.

The claim is that of "LoRA Without Regret" (Schulman et al., 2025).

alpha / (p q), A times p, its rate times p and B's rate times q give the same run under Adam, whose epsilon is scaled as
the gradients are (A's by 1 / p, B's by 1 / q), without decay and clipping. With powers of two every number is scaled
without rounding, so the runs agree to the last bit in fp32.
"""

from __future__ import annotations

import pytest
import torch
from support.method_cases import build_case

from lora_bench.methods.lora import lora_layers

EPSILON, RATE = 1e-8, 1e-3
STEPS = 6


def run(folder, architecture, *, fused, p=1.0, q=1.0):
    """The losses and the final updates of a run with these factors."""
    words = (f"lora.alpha={33 / (p * q)}", f"method.fused={str(fused).lower()}", "placement=all")
    case = build_case("lora", architecture, *words, folder=folder)
    a, b = ([value for name, value in case.net.named_parameters() if part in name] for part in ("lora_A", "lora_B"))
    head = [value for name, value in case.method.trained(case.net).items() if "lora_" not in name]
    with torch.no_grad():
        for value in a:
            value.mul_(p)
    groups = [
        {"params": a, "lr": RATE * p, "eps": EPSILON / p},
        {"params": b, "lr": RATE * q, "eps": EPSILON / q},
        {"params": head, "lr": RATE, "eps": EPSILON},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    losses = []
    case.net.train()
    for _ in range(STEPS):
        losses.append(case.backward())
        optimizer.step()
        optimizer.zero_grad()
    return losses, {name: layer.get_delta_weight("default") for name, layer in lora_layers(case.net).items()}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("p", "q"), [(4.0, 1.0), (1.0, 8.0), (2.0, 0.25), (0.5, 16.0)])
def test_two_degrees_of_freedom_to_the_last_bit(architecture, fused, p, q, tmp_path):
    losses, updates = run(tmp_path, architecture, fused=fused)
    assert losses[-1] < losses[0]
    other_losses, other_updates = run(tmp_path, architecture, fused=fused, p=p, q=q)
    assert other_losses == losses
    assert [name for name in updates if not torch.equal(updates[name], other_updates[name])] == []


def test_alpha_alone_is_no_invariance(tmp_path):
    losses, _ = run(tmp_path, "bert", fused=True)
    case_losses, _ = run(tmp_path, "bert", fused=True, p=2.0, q=1.0)
    assert case_losses == losses
    halved = build_case("lora", "bert", "lora.alpha=16.5", "placement=all", folder=tmp_path)
    assert halved.train(steps=STEPS) != losses


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_pissa_at_four_times_its_scale_is_pissa_at_half_the_rate(architecture, tmp_path):
    """The paper (arXiv:2404.02948) has alpha = r. The factors share the singular values divided by the scale, so at

    alpha = 4 r each starts at half the size, and a rate of half moves it as far in relation: the same run, to the bit.
    """
    paper, paper_updates = run_pissa(tmp_path, architecture, alpha=4, rate=RATE)
    ours, updates = run_pissa(tmp_path, architecture, alpha=16, rate=RATE / 2)
    assert paper[-1] < paper[0]
    assert ours == paper
    assert [name for name in updates if not torch.equal(updates[name], paper_updates[name])] == []


def run_pissa(folder, architecture, *, alpha, rate):
    """The losses and the final updates; Adam's epsilon is scaled as the gradients are."""
    case = build_case("pissa", architecture, "lora.r=4", f"lora.alpha={alpha}", folder=folder)
    factors = [value for name, value in case.net.named_parameters() if "lora_" in name]
    head = [value for name, value in case.method.trained(case.net).items() if "lora_" not in name]
    groups = [
        {"params": factors, "lr": rate, "eps": EPSILON * RATE / rate},
        {"params": head, "lr": RATE, "eps": EPSILON},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    losses = []
    case.net.train()
    for _ in range(STEPS):
        losses.append(case.backward())
        optimizer.step()
        optimizer.zero_grad()
    return losses, {name: layer.get_delta_weight("default") for name, layer in lora_layers(case.net).items()}
