"""DoRA (arXiv:2402.09353) through PEFT: the direction of each row by LoRA, its length by a trained number."""

from __future__ import annotations

from typing import Any

from torch import nn

from lora_bench.errors import ModelError
from lora_bench.methods.adapted import PREFIX
from lora_bench.methods.base import Placed
from lora_bench.methods.lora import LoraMethod

LENGTH = ".lora_magnitude_vector."
"""What PEFT calls the lengths."""


class DoraMethod(LoraMethod):
    """LoRA with magnitudes; PEFT's own forward, since the fused one computes plain products."""

    def peft_words(self, placed: Placed) -> dict[str, Any]:
        """LoRA's, and the variant."""
        return {**super().peft_words(placed), "use_dora": True}

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """As LoRA, with the length that each row has.

        Raises:
            ModelError: If a row is all zeros, as that of a padding token may be: it has no direction to scale.
        """
        wrapped = super().apply(net, placed)
        for name, length_O in wrapped.named_parameters():
            rows = (length_O == 0).nonzero().flatten().tolist() if LENGTH in name else []
            if rows:
                matrix = name.partition(LENGTH)[0].removeprefix(PREFIX)
                raise ModelError(
                    f"method=dora: row {rows[0]} of {matrix} is all zeros and has no direction to scale, so outputs "
                    f"would be no numbers; leave its role out of the placement, or use method=lora"
                )
        return wrapped
