"""Adapters of Houlsby et al. (arXiv:1902.00751): after attention and after the feed-forward part of each layer.

On the output of the two matrices that write into the residual stream, before it is added to the stream; GELU, as in
the authors' code. The model's own dropout acts on the sum, not between matrix and adapter.
"""

from __future__ import annotations

from torch import nn

from lora_bench.methods.adapters import AdapterMethod, Bottleneck, after_matrix, attach
from lora_bench.methods.base import Layer


class AdapterHMethod(AdapterMethod):
    """Two adapters in each layer."""

    def attach(self, net: nn.Module, layer: Layer, width: int) -> None:
        """On the roles o and down."""
        for name in (layer.attention_out, layer.mlp_out):
            attach(net.get_submodule(name), Bottleneck(width, self.bottleneck, activation=nn.GELU()), after_matrix)
