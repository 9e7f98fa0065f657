"""Floating-point operations of a step, and the rate that this machine reaches on matrix products."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from lora_bench.errors import MeasurementError
from lora_bench.measure.memory import num_values

LOOKUP = ".lora_embedding_A."
"""What PEFT calls the adapter's table beside one of embeddings."""

SMALL_SIZE = 384
"""Rows of the matrices that a first, quick look at the rate takes."""
MAX_PRODUCT_S = 2.0
"""Longest time of one product that is worth waiting for."""

EXPERTS = ".experts."
"""What transformers calls the module that holds those of a layer."""


def matrix_parameters(
    net: nn.Module, *, per_sequence: Sequence[str] = (), active_experts: tuple[int, int] = (1, 1)
) -> tuple[int, int]:
    """Numbers in weights that take part in a product for every token: (all, trained).

    Look-ups in embeddings and in the A of their adapters are left out, and so is what stands below a module named in
    `per_sequence` (poolers, task heads), which acts once on a sequence. Of the experts of a layer only those count that
    a token goes to: `active_experts` says how many of how many.
    """
    once = {f".{name}." for name in per_sequence}
    lookups = {id(module.weight) for module in net.modules() if isinstance(module, nn.Embedding)}
    products = {
        id(parameter)
        for module in net.modules()
        if not isinstance(module, nn.Embedding)
        # Of its own: PEFT's layers show the weight of what they wrap.
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if name == "weight"
    }
    total = trained = 0
    for name, parameter in net.named_parameters():
        if any(part in f".{name}." for part in once) or LOOKUP in name:
            continue
        # A tied unembedding is a product as well as a look-up.
        if parameter.dim() < 2 or (id(parameter) in lookups and id(parameter) not in products):
            continue
        active, available = active_experts if EXPERTS in name else (1, 1)
        total += num_values(parameter) * active // available
        trained += parameter.numel() * active // available if parameter.requires_grad else 0
    return total, trained


def flops_per_token(matrix_numbers: int, trained_numbers: int) -> float:
    """Forward and backward FLOPs per token: 2 N forward, 2 N for the gradient of the inputs, 2 N_trained for weights.

    Full fine-tuning gives the familiar 6 N; LoRA 4 N + 6 N_adapter ("LoRA Without Regret", Schulman et al., 2025,
    appendix, counts per multiply-add and gets the same ratio of slightly over 2/3). Attention scores, element-wise
    operations and padding are not counted.
    """
    if matrix_numbers <= 0:
        raise MeasurementError(f"matrix_numbers: {matrix_numbers} is not positive")
    return 4.0 * matrix_numbers + 2.0 * trained_numbers


def peak_flops_per_s(dtype: torch.dtype, device: torch.device, *, size: int = 1536, repeats: int = 4) -> float:
    """The best of a few square matrix products in this dtype, in FLOP/s: a floor of the machine's rate.

    Where the dtype has no instructions of its own (bf16 under AVX2: 1 GFLOP/s and less, 7 s a product), smaller
    matrices tell as much, and are taken. The generator is not touched, so that measuring changes no result.
    """
    trial = min(size, SMALL_SIZE)
    trial_s = _best_product_s(dtype, device, size=trial, repeats=1)
    if trial_s * (size / trial) ** 3 > MAX_PRODUCT_S:
        size = trial
    return 2 * size**3 / _best_product_s(dtype, device, size=size, repeats=repeats)


def _best_product_s(dtype: torch.dtype, device: torch.device, *, size: int, repeats: int) -> float:
    """The shortest time of a product, after one that is not counted unless it is the shortest."""
    left = torch.full((size, size), 0.5, dtype=dtype, device=device)
    right = torch.full((size, size), 0.25, dtype=dtype, device=device)
    best_s = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best_s = min(best_s, time.perf_counter() - start)
    return best_s
