"""VeRA (arXiv:2310.11454) through PEFT: W + diag(b) B diag(d) A, where A and B are random, frozen and shared.

Of A and B the seed is saved, not the numbers.
"""

from __future__ import annotations

from peft import VeraConfig as PeftVeraConfig

from lora_bench.config.methods import VeraMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.adapted import AdaptedMethod, task_words
from lora_bench.methods.base import Placed


class VeraMethod(AdaptedMethod):
    """Two vectors per placed matrix; b starts at 0, so the outputs start as the base's. PEFT keeps both in fp32."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, VeraMethodConfig), "registered under its own config"
        self.vera = config.method

    def peft_config(self, placed: Placed) -> PeftVeraConfig:
        """PEFT's words for ours; the shared factors are drawn from the run's seed."""
        return PeftVeraConfig(
            r=self.vera.r,
            d_initial=self.vera.d_initial,
            vera_dropout=self.vera.dropout,
            projection_prng_key=self.config.seed,
            save_projection=False,
            target_modules=list(placed.target_modules),
            **task_words(placed),
        )
