"""(IA)^3 (arXiv:2205.05638) through PEFT: trained vectors scale keys, values and what the down projection reads."""

from __future__ import annotations

from peft import IA3Config

from lora_bench.methods.adapted import AdaptedMethod, task_words
from lora_bench.methods.base import Placed


class Ia3Method(AdaptedMethod):
    """Ones at the start, so that the outputs start as the base's."""

    def peft_config(self, placed: Placed) -> IA3Config:
        """PEFT calls matrices whose input is scaled feed-forward modules."""
        return IA3Config(
            target_modules=list(placed.target_modules),
            feedforward_modules=list(placed.by_role["down"]),
            **task_words(placed),
        )
