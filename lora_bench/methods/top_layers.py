"""The last layers alone: the FT-Top2 of the LoRA paper, after arXiv:2101.00190."""

from __future__ import annotations

from lora_bench.config.methods import TopLayersMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.base import Placed, is_below
from lora_bench.methods.subset import SubsetMethod


class TopLayersMethod(SubsetMethod):
    """Whole layers, from the last one back; a norm after them stays as it is, as in the paper's count (25.19 M)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, TopLayersMethodConfig), "registered under its own config"
        self.num_layers = config.method.num_layers

    def chooses(self, name: str, placed: Placed) -> bool:
        """Whether it belongs to one of the last layers."""
        return is_below(name, [layer.name for layer in placed.layers[-self.num_layers :]])
