"""Takes a layer's fused experts apart, one linear layer per expert and role, and puts them together again.

transformers 5 keeps the experts of a layer in two blocks, `gate_up_proj` (experts, 2 x inner, hidden) and `down_proj`
(experts, hidden, inner). PEFT 0.21 adapts such a block as a whole (`target_parameters`): gate and up share one A,
W + BA is formed for every expert in each forward pass, and neither dropout nor DoRA goes with it. With a matrix per
expert and role, all that is true of adapters on matrices is true here.

Axes: `N` tokens of all sequences, `I` features, `K` experts that a token goes to.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lora_bench.errors import ModelError

_ROLES = ("w_gate", "w_up", "w_down")
"""Names of the children. What ends in `gate_proj` or `gate`, PEFT 0.21 takes for the blocks and the router of the plain
architecture and adapts those, or nothing, without a word (`_convert_peft_config_moe`)."""


class SplitExperts(nn.Module):
    """The experts of a layer as numbered children with three matrices each; the same function of its input.

    Every expert computes in every pass, also without a token: its gradient is then zero, as it is in the fused block,
    and the processes of a run agree on which gradients there are.
    """

    def __init__(self, fused: nn.Module) -> None:
        super().__init__()
        gate_up, down = fused.get_parameter("gate_up_proj"), fused.get_parameter("down_proj")
        for index, (gate_up_OI, down_OI) in enumerate(zip(gate_up.detach(), down.detach(), strict=True)):
            gate_OI, up_OI = gate_up_OI.chunk(2)
            parts = zip(_ROLES, (gate_OI, up_OI, down_OI), strict=True)
            expert = nn.ModuleDict({role: build_linear(part, requires_grad=down.requires_grad) for role, part in parts})
            self.add_module(str(index), expert)
        # In a tuple, so that it is no child: what it computes is known, its weights are not here any more.
        self._emptied = (fused,)
        for name in ("gate_up_proj", "down_proj"):
            fused.register_parameter(name, None)

    def forward(self, x_NI: Tensor, experts_NK: Tensor, weights_NK: Tensor) -> Tensor:
        """The weighted sum over the experts of each token, shape (tokens, hidden)."""
        activate: Any = self._emptied[0].act_fn
        total_NI = torch.zeros_like(x_NI)
        for index, expert in enumerate(self.children()):
            token, place = torch.where(experts_NK == index)
            gate, up, down = (expert.get_submodule(role) for role in _ROLES)
            own_NI = x_NI[token]
            output_NI = down(activate(gate(own_NI)) * up(own_NI)) * weights_NK[token, place, None]
            total_NI.index_add_(0, token, output_NI.to(total_NI.dtype))
        return total_NI

    def join(self) -> nn.Module:
        """The fused experts again, with the values that the parts have now.

        Raises:
            ModelError: If a part still carries an adapter.
        """
        found = [[expert.get_submodule(role) for role in _ROLES] for expert in self.children()]
        if any(type(part) is not nn.Linear for parts in found for part in parts):
            raise ModelError("an expert still carries adapters; merge or remove them before join_fused")
        weights = [[part.get_parameter("weight").detach() for part in parts] for parts in found]
        requires_grad = found[0][0].get_parameter("weight").requires_grad
        (fused,) = self._emptied
        gate_up = torch.stack([torch.cat([gate, up]) for gate, up, _ in weights])
        fused.gate_up_proj = nn.Parameter(gate_up, requires_grad=requires_grad)
        down = torch.stack([down for *_, down in weights])
        fused.down_proj = nn.Parameter(down, requires_grad=requires_grad)
        return fused


def build_linear(weight_OI: Tensor, bias_O: Tensor | None = None, *, requires_grad: bool) -> nn.Linear:
    """A linear layer with copies of these values."""
    linear = nn.Linear(weight_OI.shape[1], weight_OI.shape[0], bias=bias_O is not None, device="meta")
    linear.weight = nn.Parameter(weight_OI.clone(memory_format=torch.contiguous_format), requires_grad=requires_grad)
    if bias_O is not None:
        linear.bias = nn.Parameter(bias_O.clone(), requires_grad=requires_grad)
    return linear
