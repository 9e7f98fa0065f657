"""DoRA (arXiv:2402.09353) through PEFT: the direction of each row by LoRA, its length by a trained number."""

from __future__ import annotations

from typing import Any

from lora_bench.methods.base import Placed
from lora_bench.methods.lora import LoraMethod


class DoraMethod(LoraMethod):
    """LoRA with magnitudes; PEFT's own forward, since the fused one computes plain products."""

    def peft_words(self, placed: Placed) -> dict[str, Any]:
        """LoRA's, and the variant."""
        return {**super().peft_words(placed), "use_dora": True}
