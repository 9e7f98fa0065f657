"""LoftQ (arXiv:2310.08659): QLoRA whose adapter starts as the low-rank part of what rounding lost."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lora_bench.config.methods import LoftqMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.base import Placed
from lora_bench.methods.lora import lora_layers, lora_scaling
from lora_bench.methods.qlora import QloraMethod
from lora_bench.methods.quantised import quantise, rounded, weight_of


class LoftqMethod(QloraMethod):
    """Rounds W - scale B A and takes the r largest singular directions of what is missing, in turns (algorithm 1)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, LoftqMethodConfig), "registered under its own config"
        self.num_iterations = config.method.num_iterations
        self._start: dict[str, tuple[Tensor, Tensor]] = {}

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """As QLoRA, then puts the factors in place."""
        wrapped = super().apply(net, placed)
        with torch.no_grad():
            for name, layer in lora_layers(wrapped).items():
                b_OR, a_RI = self._start.pop(name)
                layer.lora_B["default"].weight.copy_(b_OR)
                layer.lora_A["default"].weight.copy_(a_RI)
        return wrapped

    @torch.no_grad()
    def quantise(self, net: nn.Module, placed: Placed) -> list[str]:
        """Rounds the placed matrices without what their adapters hold, the others as they are."""
        residuals = {}
        for name in placed.target_modules:
            r = placed.ranks.get(name, self.lora.r)
            weight_OI = weight_of(net.get_submodule(name))
            residual_OI, b_OR, a_RI = self._decompose(weight_OI.float(), r)
            root = lora_scaling(self.lora, r) ** 0.5
            self._start[name] = (b_OR / root, a_RI / root)
            residuals[name] = residual_OI.to(weight_OI.dtype)
        return quantise(net, placed, residuals)

    def _decompose(self, weight_OI: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
        """What is to be rounded, and B and A, whose product is the r best directions of what rounding it loses."""
        held_OI = torch.zeros_like(weight_OI)
        for _ in range(self.num_iterations):
            residual_OI = weight_OI - held_OI
            u_OK, s_K, vt_KI = torch.linalg.svd(weight_OI - rounded(residual_OI), full_matrices=False)
            root_R = s_K[:r].sqrt()
            b_OR, a_RI = u_OK[:, :r] * root_R, root_R[:, None] * vt_KI[:r]
            held_OI = b_OR @ a_RI
        return residual_OI, b_OR, a_RI
