"""Adapters of Houlsby et al. (arXiv:1902.00751): after attention and after the feed-forward part of each layer.

On the output of the two matrices that write into the residual stream, before it is added to the stream; GELU, as in
the authors' code. The model's own dropout acts on the sum, not between matrix and adapter. With `method.norms=true` the
norms of the layers are trained as well, as in the paper; by default they stay, as in the LoRA paper's count for H.
"""

from __future__ import annotations

from torch import nn

from lora_bench.config.methods import HoulsbyMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.adapters import AdapterMethod, Bottleneck, after_matrix, attach
from lora_bench.methods.base import Layer


class AdapterHMethod(AdapterMethod):
    """Two adapters in each layer."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, HoulsbyMethodConfig), "registered under its own config"
        self.trains_norms = config.method.norms

    def attach(self, net: nn.Module, layer: Layer, width: int) -> None:
        """On the roles o and down."""
        if self.trains_norms:
            for norm in _norms_below(net.get_submodule(layer.name), width):
                norm.requires_grad_(True)
        for name in (layer.attention_out, layer.mlp_out):
            attach(net.get_submodule(name), Bottleneck(width, self.bottleneck, activation=nn.GELU()), after_matrix)


def _norms_below(layer: nn.Module, width: int) -> list[nn.Module]:
    """The norms over the stream; not those over the features of a head."""
    named = [module for module in layer.modules() if type(module).__name__.endswith("Norm")]
    return [module for module in named if module.get_parameter("weight").shape == (width,)]
