"""Takes fused matrices apart, so that adapters reach one role alone, and puts them together again.

GPT-2 keeps q, k and v in one matrix `c_attn`. One adapter on it would adapt k as well, with twice the
parameters of the LoRA paper's q and v. So the module is replaced by one with a linear layer per role, whose
weights are exact slices and whose outputs are put side by side again. Joining gives the first matrix back
bit for bit, or the merged one after adapters were merged into the slices.

Axes: `I`/`O` in and out features, `B` batch, `T` tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_bench.errors import ModelError
from lora_bench.models.experts import SplitExperts, build_linear
from lora_bench.models.roles import FAMILIES, family_of
from lora_bench.models.sizes import role_shapes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SplitLinear(nn.Module):
    """One linear layer per role in place of a fused one; the same function of its input.

    Attributes:
        roles: Names of the children, in the order of the fused matrix.
        sizes: Out features of each of them.
        head_dim: Out features of one head where roles alternate head by head, else None.
        is_conv1d: Whether the fused matrix was a `Conv1D`, which stores its weight as (in, out).
    """

    def __init__(
        self, fused: nn.Linear | Conv1D, roles: Sequence[str], *, sizes: Sequence[int], head_dim: int | None
    ) -> None:
        super().__init__()
        self.roles = tuple(roles)
        self.sizes = tuple(sizes)
        self.head_dim = head_dim
        self.is_conv1d = isinstance(fused, Conv1D)
        weight_OI = fused.weight.detach()
        weights = self.take_apart(weight_OI.T if self.is_conv1d else weight_OI)
        biases = None if fused.bias is None else self.take_apart(fused.bias.detach())
        for index, role in enumerate(self.roles):
            bias = None if biases is None else biases[index]
            self.add_module(role, build_linear(weights[index], bias, requires_grad=fused.weight.requires_grad))

    def forward(self, x_BTI: torch.Tensor) -> torch.Tensor:
        """The fused layer's output, shape (batch, tokens, sum of out features)."""
        outputs = [self.get_submodule(role)(x_BTI) for role in self.roles]
        if self.head_dim is None:
            return torch.cat(outputs, dim=-1)
        return torch.stack([torch.unflatten(output, -1, (-1, self.head_dim)) for output in outputs], dim=-2).flatten(-3)

    def join(self) -> nn.Module:
        """The fused layer again, with the values that the parts have now.

        Raises:
            ModelError: If a part still carries an adapter.
        """
        parts = [part for role in self.roles if type(part := self.get_submodule(role)) is nn.Linear]
        if len(parts) < len(self.roles):
            raise ModelError("a split matrix still carries adapters; merge or remove them before join_fused")
        weight_OI = self.put_together([part.weight.detach() for part in parts])
        biases = [part.bias.detach() for part in parts if part.bias is not None]
        bias = self.put_together(biases) if biases else None
        requires_grad = parts[0].weight.requires_grad
        if self.is_conv1d:
            return _build_conv1d(weight_OI, bias, requires_grad=requires_grad)
        return build_linear(weight_OI, bias, requires_grad=requires_grad)

    def take_apart(self, rows: torch.Tensor) -> Sequence[torch.Tensor]:
        """Rows of the fused matrix, one per out feature, as those of each role."""
        if self.head_dim is None:
            return torch.split(rows, list(self.sizes))
        heads = torch.unflatten(rows, 0, (-1, len(self.roles), self.head_dim))
        return [part.flatten(0, 1) for part in heads.unbind(1)]

    def put_together(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The inverse of `take_apart`."""
        if self.head_dim is None:
            return torch.cat(list(parts))
        return torch.stack([torch.unflatten(part, 0, (-1, self.head_dim)) for part in parts], dim=1).flatten(0, 2)


def split_fused(net: PreTrainedModel, roles: Sequence[str], layers: Sequence[int] | None = None) -> list[str]:
    """Splits every matrix of these layers (None: all) that holds one of these roles beside others; returns their names.

    Called before adapters are put on. Matrices that hold none of the roles stay as they are, and so does a
    network without fused matrices. The number of parameters does not change. Experts are split as `SplitExperts`.
    """
    family = FAMILIES.get(family_of(net))
    if family is None:
        return []
    needed = {path: fused for path, fused in family.fused.items() if set(fused.roles) & set(roles)}
    names = [name for name, module in net.named_modules() if not isinstance(module, SplitLinear | SplitExperts)]
    found = family.find(names, needed, layers)
    shapes = role_shapes(net.config.to_dict())
    for name, path in found:
        fused = needed[path]
        sizes = [shapes[role][1] for role in fused.roles]
        head_dim = sizes[0] // net.config.num_attention_heads if fused.is_per_head else None
        part = SplitLinear(net.get_submodule(name), fused.roles, sizes=sizes, head_dim=head_dim)
        net.set_submodule(name, part)
    holders = [family.experts] if family.experts and set(family.expert_roles) & set(roles) else []
    experts = family.find(names, holders, layers)
    for name, _ in experts:
        net.set_submodule(name, SplitExperts(net.get_submodule(name)))
    return [name for name, _ in (*found, *experts)]


def join_fused(net: nn.Module) -> list[str]:
    """Undoes `split_fused`, after adapters were merged or removed; returns the names of the joined modules."""
    names = [name for name, module in net.named_modules() if isinstance(module, SplitLinear | SplitExperts)]
    for name in names:
        module = net.get_submodule(name)
        assert isinstance(module, SplitLinear | SplitExperts)
        net.set_submodule(name, module.join())
    return names


def _build_conv1d(weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, requires_grad: bool) -> nn.Module:
    with torch.device("meta"):
        conv: nn.Module = Conv1D(nf=weight_OI.shape[0], nx=weight_OI.shape[1])
    conv.weight = nn.Parameter(weight_OI.T.contiguous(), requires_grad=requires_grad)
    assert bias_O is not None, "a Conv1D always has a bias"
    conv.bias = nn.Parameter(bias_O, requires_grad=requires_grad)
    return conv
