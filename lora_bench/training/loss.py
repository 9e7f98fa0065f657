"""The training loss as a sum and a count, so that any split into micro-batches gives the same mean."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lora_bench.config.schema import TaskKind
from lora_bench.tasks.collate import IGNORED


def summed_loss(net: nn.Module, batch: dict[str, Tensor], kind: TaskKind) -> Tensor:
    """Cross-entropy in fp32, summed over items (classification) or over response tokens (generation)."""
    logits = net(**{name: value for name, value in batch.items() if name != "labels"}).logits
    if kind is TaskKind.classification:
        return F.cross_entropy(logits.float(), batch["labels"], reduction="sum")
    # Only positions with a target are cast up: the vocabulary is wide.
    targets = _targets(batch)
    kept = targets != IGNORED
    return F.cross_entropy(logits[:, : targets.shape[1]][kept].float(), targets[kept], reduction="sum")


def count_targets(batch: dict[str, Tensor], kind: TaskKind) -> int:
    """What `summed_loss` sums over."""
    if kind is TaskKind.classification:
        return len(batch["labels"])
    return int((_targets(batch) != IGNORED).sum())


def _targets(batch: dict[str, Tensor]) -> Tensor:
    """What each position predicts: the next token, or what stands at its place where a decoder reads shifted tokens."""
    return batch["labels"] if "decoder_input_ids" in batch else batch["labels"][:, 1:]
