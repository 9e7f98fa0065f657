"""LoRA-FA (arXiv:2308.03303, algorithm 1): A stays as it was drawn, B alone is trained.

Then nothing of the width of the input has to be kept for the backward pass, only its product with A. PEFT's
`create_lorafa_optimizer` also corrects B's gradient for A; this is the plain form, under AdamW like the rest.
"""

from __future__ import annotations

from torch import Tensor, nn

from lora_bench.methods.base import Placed
from lora_bench.methods.lora import LoraMethod


class LoraFaMethod(LoraMethod):
    """LoRA with frozen A; both factors are saved, so that the adapter is an ordinary one."""

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """As LoRA, then freezes A."""
        wrapped = super().apply(net, placed)
        for name, parameter in wrapped.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad_(False)
        return wrapped

    def saved(self, net: nn.Module) -> dict[str, Tensor]:
        """A as well."""
        return {name: p for name, p in net.named_parameters() if p.requires_grad or "lora_A" in name}
