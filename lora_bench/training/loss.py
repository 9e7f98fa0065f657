"""The training loss as a sum and a count, so that any split into micro-batches gives the same mean."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lora_bench.config.schema import TaskKind
from lora_bench.tasks.collate import IGNORED


def summed_loss(net: nn.Module, batch: dict[str, Tensor], kind: TaskKind) -> Tensor:
    """Cross-entropy in fp32, summed over items (classification) or over response tokens (generation)."""
    logits = net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels = batch["labels"]
    if kind is TaskKind.classification:
        return F.cross_entropy(logits.float(), labels, reduction="sum")
    # Position t predicts token t + 1. Only positions with a target are cast up: the vocabulary is wide.
    targets = labels[:, 1:]
    kept = targets != IGNORED
    return F.cross_entropy(logits[:, :-1][kept].float(), targets[kept], reduction="sum")


def count_targets(batch: dict[str, Tensor], kind: TaskKind) -> int:
    """What `summed_loss` sums over."""
    if kind is TaskKind.classification:
        return len(batch["labels"])
    return int((batch["labels"][:, 1:] != IGNORED).sum())
