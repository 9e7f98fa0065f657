"""Oracle: the same training with fp32 weights, and bf16 arithmetic done by hand."""

from __future__ import annotations

import torch
from torch import nn

from lora_bench.training.precision import MasterWeights


def test_fp32_parameters_are_their_own_masters():
    net = nn.Linear(3, 2)
    masters = MasterWeights(net.parameters())
    assert [id(p) for p in masters.parameters] == [id(p) for p in net.parameters()]
    net(torch.ones(1, 3)).sum().backward()
    before = net.weight.grad.clone()
    masters.collect_gradients()
    masters.publish()
    assert torch.equal(net.weight.grad, before)


def test_gradients_are_added_in_fp32_and_leave_the_network():
    net = nn.Linear(1, 1, bias=False).bfloat16()
    masters = MasterWeights(net.parameters())
    (master,) = masters.parameters
    for value in (256.0, 1.0):  # In bf16 256 + 1 is 256.
        net.weight.grad = torch.full_like(net.weight, value)
        masters.collect_gradients()
        assert net.weight.grad is None
    assert master.dtype is torch.float32
    assert master.grad.item() == 257.0
    masters.collect_gradients()
    assert master.grad.item() == 257.0, "nothing new"


def test_steps_below_bf16_resolution_add_up():
    net = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(net.weight)
    masters = MasterWeights(net.parameters())
    optimizer = torch.optim.SGD(masters.parameters, lr=1e-3)  # bf16 has nothing between 1 and 1 - 2^-8.
    for _ in range(10):
        net.weight.grad = torch.ones_like(net.weight)
        masters.collect_gradients()
        optimizer.step()
        optimizer.zero_grad()
        masters.publish()
    assert abs(masters.parameters[0].item() - 0.99) < 1e-6
    assert net.weight.item() == torch.tensor(0.99).bfloat16().item()


def test_learns_what_fp32_learns_where_plain_bf16_does_not():
    def train(dtype, with_masters):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
        x, y = torch.randn(64, 8), torch.randn(64, 1)
        net.to(dtype)
        masters = MasterWeights(net.parameters())
        parameters = masters.parameters if with_masters else list(net.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0)
        for _ in range(300):
            (net(x.to(dtype)).float() - y).square().mean().backward()
            if with_masters:
                masters.collect_gradients()
            optimizer.step()
            optimizer.zero_grad()
            masters.publish() if with_masters else None
        return float((net(x.to(dtype)).float() - y).square().mean().detach())

    expected = train(torch.float32, with_masters=False)
    assert abs(train(torch.bfloat16, with_masters=True) - expected) < 0.01
    assert train(torch.bfloat16, with_masters=False) > expected + 0.05


def test_tied_and_frozen_parameters_keep_their_order():
    net = nn.ModuleList([nn.Linear(2, 2).bfloat16(), nn.Linear(2, 2)])
    trained = [net[0].weight, net[1].weight, net[0].bias]
    masters = MasterWeights(trained)
    assert [p.shape for p in masters.parameters] == [p.shape for p in trained]
    assert masters.parameters[1] is net[1].weight
    with torch.no_grad():
        masters.parameters[2].fill_(0.5)
    masters.publish()
    assert (net[0].bias == 0.5).all()
