"""Adapters of Lin et al. (arXiv:2004.03829): after the feed-forward part alone, each with a norm of its own; ReLU."""

from __future__ import annotations

from torch import nn

from lora_bench.methods.adapters import AdapterMethod, Bottleneck, after_matrix, attach, norm_of
from lora_bench.methods.base import Layer


class AdapterLMethod(AdapterMethod):
    """One adapter in each layer, which reads its input through a trained norm: 2 d numbers more."""

    def attach(self, net: nn.Module, layer: Layer, width: int) -> None:
        """On the role down."""
        adapter = Bottleneck(width, self.bottleneck, activation=nn.ReLU(), norm=norm_of(net, width))
        attach(net.get_submodule(layer.mlp_out), adapter, after_matrix)
