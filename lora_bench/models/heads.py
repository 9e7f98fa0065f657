"""The task head of a network: what is new, trained beside an adapter, and counted apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def head_modules(net: PreTrainedModel) -> list[str]:
    """Names of the modules that make up the task head: what is trained and saved beside an adapter.

    Everything outside the base network: `score`, `classifier`, and DeBERTa's `pooler`, which its checkpoints
    lack; not BERT's pooler, which is pretrained. A language-model head belongs to the base.
    """
    if not type(net).__name__.endswith("ForSequenceClassification"):
        return []
    return [
        name
        for name, child in net.named_children()
        if name != net.base_model_prefix and next(child.parameters(), None) is not None
    ]


def head_parameter_names(net: PreTrainedModel) -> list[str]:
    """Full names of the task head's parameters, in the order of the network."""
    heads = tuple(f"{name}." for name in head_modules(net))
    return [name for name, _ in net.named_parameters() if heads and name.startswith(heads)]


def draw_head(net: PreTrainedModel, seed: int) -> None:
    """Draws the head as the architectures do: normal weights, zero biases.

    In fp32 and from a generator of its own: the values follow from the seed and the shapes alone, for every
    method and dtype.
    """
    names = head_parameter_names(net)
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
