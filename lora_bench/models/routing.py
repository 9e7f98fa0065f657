"""Holds the choice of experts fixed while two networks are compared.

Two networks that are equal but for rounding (merged and unmerged, split and joined, AVX2 and AMX) send a token to
another expert where the router is near a tie. What comes out is then another function, and no tolerance tells that
from a fault. So the experts that the first network chose are replayed in the second, each weighted as the second's own
router weighs it, and where the second would have chosen otherwise is counted: how often, and how near a tie it was.

Axes: `N` tokens of all sequences, `E` experts, `K` experts that a token goes to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lora_bench.errors import ModelError

ROUTER_SUFFIX = "TopKRouter"
"""How transformers 5 calls the class of a module that gives (logits, weights, indices) for a layer's experts."""


@dataclass
class Routing:
    """The experts of each pass through a router, in the order of the passes."""

    choices: list[Tensor] = field(default_factory=list)
    """Shape (tokens, experts per token) each."""
    num_tokens: int = 0
    """Tokens that were routed in the replay, summed over routers."""
    num_agreeing: int = 0
    """Those of them that the replaying network would have sent to the same experts."""
    largest_gap: float = 0.0
    """Largest probability by which a replaying router prefers an expert of its own to one that was replayed."""

    @property
    def share_agreeing(self) -> float:
        """In [0, 1]; 1 where nothing was routed."""
        return self.num_agreeing / self.num_tokens if self.num_tokens else 1.0


def routers(net: nn.Module) -> list[nn.Module]:
    """Every module that chooses experts; empty for a network without."""
    return [module for module in net.modules() if type(module).__name__.endswith(ROUTER_SUFFIX)]


@contextlib.contextmanager
def recorded_routing(net: nn.Module) -> Iterator[Routing]:
    """Notes which experts are chosen while the block runs."""
    routing = Routing()

    def note(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        routing.choices.append(output[2].detach().clone())

    with _hooked(net, note):
        yield routing


@contextlib.contextmanager
def replayed_routing(net: nn.Module, routing: Routing) -> Iterator[None]:
    """Sends tokens to the experts of `routing` while the block runs, and counts in it where the router agrees.

    Raises:
        ModelError: If there are more passes, fewer, or ones of another shape than were recorded.
    """
    left = list(routing.choices)

    def replay(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        logits_NE, weights_NK, own_NK = output
        if not left or left[0].shape != own_NK.shape:
            expected = "none" if not left else str(tuple(left[0].shape))
            raise ModelError(
                f"a router chose {tuple(own_NK.shape)} where {expected} was recorded; replay the same batch"
            )
        chosen_NK = left.pop(0).to(own_NK.device)
        probability_NE = torch.softmax(logits_NE.float(), dim=-1)
        replayed_NK = probability_NE.gather(1, chosen_NK)
        is_same_N = (own_NK.sort(dim=1).values == chosen_NK.sort(dim=1).values).all(dim=1)
        gap_N = probability_NE.gather(1, own_NK).amin(dim=1) - replayed_NK.amin(dim=1)
        routing.num_tokens += len(is_same_N)
        routing.num_agreeing += int(is_same_N.sum())
        routing.largest_gap = max(routing.largest_gap, float(gap_N.max()))
        # Mixtral always makes them sum up to 1, Qwen by its configuration.
        if getattr(module, "norm_topk_prob", True):
            replayed_NK = replayed_NK / replayed_NK.sum(dim=-1, keepdim=True)
        return logits_NE, replayed_NK.to(weights_NK.dtype), chosen_NK

    with _hooked(net, replay):
        yield
    if left:
        raise ModelError(f"{len(left)} of {len(routing.choices)} recorded choices of experts were not replayed")


@contextlib.contextmanager
def _hooked(net: nn.Module, hook: Any) -> Iterator[None]:
    handles = [router.register_forward_hook(hook) for router in routers(net)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
