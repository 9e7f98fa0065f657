"""AdapterDrop (arXiv:2010.11918): Pfeiffer's adapters without those of the first layers, a fixed number of them."""

from __future__ import annotations

from lora_bench.config.methods import AdapterDropMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.adapter_p import AdapterPMethod
from lora_bench.methods.base import Layer, Placed


class AdapterDMethod(AdapterPMethod):
    """No backward pass goes below the first adapter, which makes steps cheaper."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, AdapterDropMethodConfig), "registered under its own config"
        self.num_dropped = config.method.num_dropped

    def layers(self, placed: Placed) -> tuple[Layer, ...]:
        """All but the first ones."""
        return placed.layers[self.num_dropped :]
