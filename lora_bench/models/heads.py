"""The task head of a network: what is new, trained beside an adapter, and counted apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


POOLERS = ("pooler",)
"""Modules of a base that only a classifier reads: pretrained with another task's head, or by nobody."""


def new_modules(net: PreTrainedModel) -> list[str]:
    """Return the names of the modules that a checkpoint of the base lacks, and that are drawn anew.

    Everything outside the base network: `score`, `classifier`, and DeBERTa's `pooler`; not BERT's pooler, which is
    pretrained. A language-model head belongs to the base.
    """
    if not type(net).__name__.endswith("ForSequenceClassification"):
        return []
    return [
        name
        for name, child in net.named_children()
        if name != net.base_model_prefix and next(child.parameters(), None) is not None
    ]


def head_modules(net: PreTrainedModel, *, with_pooler: bool) -> list[str]:
    """Return the names of the modules that make up the task head: what is trained and saved beside an adapter.

    Args:
        net: As it was loaded.
        with_pooler: Whether BERT's pooler belongs to it, see `TrainingConfig.head_has_pooler`.
    """
    new = new_modules(net)
    if not new or not with_pooler:
        return new
    prefix = net.base_model_prefix
    poolers = [f"{prefix}.{name}" for name, child in net.base_model.named_children() if name in POOLERS]
    return [*poolers, *new]


def new_parameter_names(net: PreTrainedModel) -> list[str]:
    """Return the full names of the parameters of `new_modules`, in the order of the network."""
    return parameter_names(net, new_modules(net))


def parameter_names(net: PreTrainedModel, modules: Sequence[str]) -> list[str]:
    """Return the full names of the parameters of these modules, in the order of the network."""
    below = tuple(f"{name}." for name in modules)
    return [name for name, _ in net.named_parameters() if below and name.startswith(below)]


def draw_head(net: PreTrainedModel, seed: int) -> None:
    """Draw what is new of the head as the architectures do: normal weights, zero biases.

    In fp32 and from a generator of its own: the values follow from the seed and the shapes alone, for every
    method and dtype.
    """
    names = new_parameter_names(net)
    if not names:
        return
    std = float(getattr(net.config, "initializer_range", None) or net.config.init_std)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        parameter = net.get_parameter(name)
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
