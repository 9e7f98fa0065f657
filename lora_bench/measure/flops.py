"""Floating-point operations of a step, and the rate that this machine reaches on matrix products."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lora_bench.errors import MeasurementError
from lora_bench.measure.memory import num_values

LOOKUP = ".lora_embedding_A."
"""What PEFT calls the adapter's table beside one of embeddings."""

BARE_B = (".lora_B.", ".lora_embedding_B.")
"""Where PEFT keeps the B of an adapter as a parameter and not as a layer."""

NO_MATRIX = re.compile(r"\.prefix_\w+$|\.ia3_l\.|\.lora_E\.")
"""Trained tokens, and vectors that are kept as a row or a column."""

SMALL_SIZE = 384
"""Rows of the matrices that a first, quick look at the rate takes."""
MAX_PRODUCT_S = 2.0
"""Longest time of one product that is worth waiting for."""

EXPERTS = ".experts."
"""What transformers calls the module that holds those of a layer."""


@dataclass(frozen=True)
class MatrixNumbers:
    """Numbers in weights that take part in a product for every token, by the passes that they take part in."""

    forward: int
    input_gradient: int
    """Those whose input needs a gradient, since something that is trained lies before them."""
    weight_gradient: int
    """Those that are trained."""

    def __sub__(self, other: MatrixNumbers) -> MatrixNumbers:
        return MatrixNumbers(
            self.forward - other.forward,
            self.input_gradient - other.input_gradient,
            self.weight_gradient - other.weight_gradient,
        )


def inputs_with_gradient(net: nn.Module, forward: Callable[[], object]) -> dict[nn.Module, bool]:
    """Of every module that `forward` calls, whether one of its inputs needs a gradient.

    Where it does not, autograd leaves the product with the transposed weight out: below the first layer of which
    something is trained, there is no backward pass at all.
    """
    found: dict[nn.Module, bool] = {}

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        needed = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves((args, kwargs)))
        found[module] = found.get(module, False) or needed

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in net.modules()]
    try:
        with torch.enable_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return found


def matrix_numbers(
    net: nn.Module,
    needs_gradient: Mapping[nn.Module, bool],
    *,
    per_sequence: Sequence[str] = (),
    active_experts: tuple[int, int] = (1, 1),
) -> MatrixNumbers:
    """Counts the numbers of a network's matrices.

    Look-ups in embeddings and in the A of their adapters are left out, and so are trained tokens, and what stands below
    a module named in `per_sequence` (poolers, task heads), which acts once on a sequence. Of the experts of a layer
    only those count that a token goes to: `active_experts` says how many of how many. The random factors that VeRA's
    layers share count at each layer. A matrix that was not called is taken for one whose input needs a gradient.
    """
    once = [f".{name}." for name in per_sequence]
    lookups = {id(module.weight) for module in net.modules() if isinstance(module, nn.Embedding)}
    forward = input_gradient = weight_gradient = 0
    seen: set[int] = set()
    for path, module in net.named_modules():
        if isinstance(module, nn.Embedding) or any(part in f".{path}." for part in once):
            continue
        for factor, needs in _shared_factors(module, is_input_needed=needs_gradient.get(module, True)):
            forward += factor
            input_gradient += factor if needs else 0
        # Of its own: PEFT's layers show the weight of what they wrap.
        for own, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f".{path}.{own}"
            if parameter.dim() < 2 or id(parameter) in seen or LOOKUP in name or NO_MATRIX.search(name):
                continue
            # A tied unembedding is a product as well as a look-up.
            if id(parameter) in lookups and own != "weight":
                continue
            seen.add(id(parameter))
            active, available = active_experts if EXPERTS in name else (1, 1)
            count = num_values(parameter) * active // available
            forward += count
            input_gradient += count if _is_needed(net, path, own, needs_gradient) else 0
            weight_gradient += count if parameter.requires_grad else 0
    return MatrixNumbers(forward, input_gradient, weight_gradient)


def _shared_factors(module: nn.Module, *, is_input_needed: bool) -> Iterator[tuple[int, bool]]:
    """The numbers of a VeRA layer's two random factors, and whether the input of each needs a gradient."""
    ranks: Mapping[str, Tensor] = getattr(module, "vera_lambda_d", {})
    for adapter, scale_R in ranks.items():
        yield len(scale_R) * int(getattr(module, "in_features", 0)), is_input_needed
        yield len(scale_R) * len(module.get_submodule("vera_lambda_b").get_parameter(adapter)), True


def _is_needed(net: nn.Module, path: str, own: str, needs_gradient: Mapping[nn.Module, bool]) -> bool:
    """Whether what this weight is multiplied with needs a gradient: of the module that has it, or of the next around.

    Where a layer of PEFT multiplies with a B that is no module, what comes in was made by a trained A.
    """
    module = net.get_submodule(path)
    if module not in needs_gradient and any(part in f".{path}." for part in BARE_B):
        return True
    while path and module not in needs_gradient:
        path = path.rpartition(".")[0]
        module = net.get_submodule(path)
    return needs_gradient.get(module, True)


def flops_per_token(numbers: MatrixNumbers) -> float:
    """Forward and backward FLOPs per token: 2 N forward, 2 N for gradients of inputs, 2 N for those of weights.

    Each N is that of the weights that take part. Full fine-tuning has the familiar 6 N but for the first layer, whose
    input needs no gradient; LoRA on every layer 4 N + 6 N_adapter, almost ("LoRA Without Regret", Schulman et al.,
    2025, appendix, counts per multiply-add and gets the same ratio of slightly over 2/3); what trains the last layers
    alone 2 N and more for these. Attention scores, element-wise operations, padding and what happens once per step
    (DoRA's norms, AdaLoRA's penalty) are not counted.
    """
    if numbers.forward <= 0:
        raise MeasurementError(f"matrix numbers: {numbers.forward} is not positive")
    return 2.0 * (numbers.forward + numbers.input_gradient + numbers.weight_gradient)


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
