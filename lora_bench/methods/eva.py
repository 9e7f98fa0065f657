"""EVA (arXiv:2410.07170) through PEFT: A starts with the principal directions of what each matrix reads.

Before training the first batches are passed through the base, and ranks go to the matrices whose inputs are best
explained by more directions, at most `rho` times `lora.r` each and `lora.r` on the average. B starts at zero, so
outputs start as the base's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import EvaConfig, initialize_lora_eva_weights
from torch import nn

from lora_bench.config.methods import EvaMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.errors import DataError, ModelError
from lora_bench.methods.adapted import ADAPTER_FILE, PREFIX, peft_model
from lora_bench.methods.base import Batch, Placed
from lora_bench.methods.lora import LoraMethod, lora_layers
from lora_bench.methods.tensors import read_tensors

A_FACTOR = ".lora_A.weight"
"""How the names of A end in PEFT's file."""


class EvaMethod(LoraMethod):
    """LoRA with a start from data; layers that get no rank have no adapter."""

    needs_data: ClassVar[bool] = True

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, EvaMethodConfig), "registered under its own config"
        self.own = config.method

    def peft_words(self, placed: Placed) -> dict[str, Any]:
        """LoRA's, and the start."""
        words = {"init_lora_weights": "eva", "eva_config": EvaConfig(rho=self.own.rho, tau=self.own.tau)}
        return {**super().peft_words(placed), **words}

    def see_data(self, net: nn.Module, batches: Iterator[Batch]) -> None:
        """Decomposes the inputs of the placed matrices, batch after batch until directions hold still.

        Raises:
            DataError: If a batch has fewer tokens than `lora.r`, so that there are no so many directions.
        """
        seen = list(islice(batches, self.own.num_batches))
        wrapped, layers = peft_model(net), lora_layers(net).values()
        fewest = min(int(batch["attention_mask"].sum()) for batch in seen)
        side = min(min(layer.in_features, layer.out_features) for layer in layers)
        if fewest < self.lora.r:
            raise DataError(
                f"method=eva: a batch of {fewest} tokens has fewer than lora.r={self.lora.r} directions; "
                f"raise training.batch_size, or lower lora.r"
            )
        wrapped.peft_config["default"].eva_config.rho = min(self.own.rho, fewest / self.lora.r, side / self.lora.r)
        initialize_lora_eva_weights(
            wrapped,
            seen,
            prepare_model_inputs_fn=lambda batch, config: batch["attention_mask"].bool(),
            prepare_layer_inputs_fn=lambda given, is_token_BT, name: given[0][is_token_BT],
            show_progress_bar=False,
        )
        ranks = [layer.r["default"] for layer in lora_layers(net).values()]
        self.notes.append(f"eva: ranks of {min(ranks)} to {max(ranks)} on {len(ranks)} matrices, by what they read")

    def load(self, net: nn.Module, folder: Path) -> None:
        """The adapter, whose matrices take the ranks that were saved; it needs no data again."""
        names = {f"{PREFIX}{name}" for name in lora_layers(net)}
        saved = read_tensors(folder, ADAPTER_FILE)
        a_of = {key.removesuffix(A_FACTOR): value for key, value in saved.items() if key.endswith(A_FACTOR)}
        if not a_of or not set(a_of) <= names:
            differing = sorted(set(a_of) - names)
            raise ModelError(f"{folder}: belongs to another model or method; {differing[:3]} are on one side only")
        # A matrix that is not in the file had no rank, and loses its adapter.
        starts = {name: a_of.get(name, torch.empty(0, 0)) for name in names}
        initialize_lora_eva_weights(peft_model(net), eva_state_dict=starts)
        super().load(net, folder)
