"""Adapters of Pfeiffer et al. (arXiv:2005.00247): one at the end of each layer, over the residual stream; ReLU.

Where norms come after the parts (BERT) the adapter reads the normed sum and adds to the sum before the norm; where they
come before (GPT-2, Llama) it reads and adds to the sum that ends the layer.
"""

from __future__ import annotations

from torch import nn

from lora_bench.methods.adapters import AdapterMethod, Bottleneck, after_layer, attach, before_last_norm
from lora_bench.methods.base import Layer


class AdapterPMethod(AdapterMethod):
    """One adapter in each layer."""

    def attach(self, net: nn.Module, layer: Layer, width: int) -> None:
        """On the norm that ends the layer, or on the layer."""
        adapter = Bottleneck(width, self.bottleneck, activation=nn.ReLU())
        if layer.last_norm is not None:
            attach(net.get_submodule(layer.last_norm), adapter, before_last_norm)
        else:
            attach(net.get_submodule(layer.name), adapter, after_layer)
