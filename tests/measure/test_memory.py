"""Oracle: sizes that can be computed by hand, and the kernel's own count of a known allocation."""

from __future__ import annotations

import pytest
import torch

from lora_bench.measure import memory


def test_storage_bytes_counts_views_once():
    base = torch.zeros(10, 10)
    assert memory.storage_bytes([base, base[0], base.view(-1)]) == 400


def test_live_bytes_of_a_known_forward_and_backward():
    weight = torch.ones(256, 256, requires_grad=True)
    x = torch.ones(64, 256)
    with memory.LiveBytes([weight, x]) as live:
        before = live.current_bytes
        assert before == 4 * (256 * 256 + 64 * 256)
        hidden = x @ weight
        assert live.current_bytes == before + 4 * 64 * 256
        loss = hidden.square().sum()
        loss.backward()
        assert weight.grad is not None
        # Inputs, hidden and gradient stay; what backward needed in between is gone.
        assert live.current_bytes <= before + 4 * (64 * 256 + 256 * 256) + 64
    assert live.peak_bytes >= before + 4 * (64 * 256 + 256 * 256)


def test_live_bytes_forgets_what_is_freed():
    with memory.LiveBytes([]) as live:
        for _ in range(5):
            temporary = torch.zeros(1000) + 1
            del temporary
        assert live.current_bytes == 0
        assert 4000 <= live.peak_bytes <= 8000


def test_counting_changes_no_number():
    torch.manual_seed(0)
    x = torch.randn(32, 32)
    plain = torch.nn.functional.dropout(x @ x, 0.5)
    torch.manual_seed(0)
    x = torch.randn(32, 32)
    with memory.LiveBytes([x]):
        counted = torch.nn.functional.dropout(x @ x, 0.5)
    assert torch.equal(plain, counted)


def test_peak_rss_sees_a_spike_and_is_reset():
    if not memory.reset_peak_rss():
        pytest.skip("this kernel does not permit clear_refs")
    before = memory.peak_rss_bytes()
    spike = torch.ones(50 * 2**20)
    del spike
    after = memory.peak_rss_bytes()
    assert before is not None
    assert after is not None
    assert 180 * 2**20 < after - before < 260 * 2**20
    memory.reset_peak_rss()
    reset = memory.peak_rss_bytes()
    assert reset is not None
    assert reset < after - 150 * 2**20


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_faults(error, expected):
    assert memory.is_out_of_memory(error) is expected
