"""LoRA+ (arXiv:2402.12354): B learns faster than A."""

from __future__ import annotations

from lora_bench.config.methods import LoraPlusMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.lora import LoraMethod


class LoraPlusMethod(LoraMethod):
    """LoRA with the rate of B a fixed multiple of that of A."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, LoraPlusMethodConfig), "registered under its own config"
        self.lr_ratio = config.method.lr_ratio

    def lr_factor(self, name: str) -> float:
        """The ratio for B; A, the head and biases have the run's rate."""
        return self.lr_ratio if "lora_B" in name else 1.0
