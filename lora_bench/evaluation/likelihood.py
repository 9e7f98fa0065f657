"""Forward passes over a split: class logits, and the likelihood of responses.

Both expect a net in evaluation mode and gradients off. Axes: B batch, T tokens, K last positions that are kept,
C classes, V vocabulary, N response tokens of a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, log_softmax

from lora_bench.evaluation.lengths import length_batches
from lora_bench.evaluation.sharing import ALONE, Sharing
from lora_bench.tasks.collate import IGNORED, collate
from lora_bench.tasks.encode import EncodedSplit


def class_log_probabilities(
    net: Any,
    split: EncodedSplit,
    *,
    pad_id: int,
    batch_size: int,
    device: torch.device | str,
    sharing: Sharing = ALONE,
) -> NDArray[np.float32]:
    """Log-probability in nats of every class, shape (items, C), in the order of the split."""
    rows: dict[int, NDArray[np.float32]] = {}
    for indices in sharing.own(length_batches(split.lengths, batch_size)):
        batch = collate(split, indices, pad_id=pad_id, side="right")
        inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
        log_probabilities_BC = log_softmax(net(**inputs).logits.float(), dim=-1)
        rows.update(zip(indices.tolist(), log_probabilities_BC.cpu().numpy(), strict=True))
    return sharing.joined(rows, num_items=len(split))


def response_nll(
    net: Any,
    split: EncodedSplit,
    *,
    pad_id: int,
    batch_size: int,
    device: torch.device | str,
    sharing: Sharing = ALONE,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Negative log-likelihood of each response, its end-of-text token included, and its number of tokens.

    Only positions that predict a response go through the vocabulary matrix: padded on the left, they stand at the end
    of every row. All logits of 64 prompts of 128 tokens would take 1.6 GB at SmolLM2's vocabulary. A decoder with an
    encoder reads nothing but the response.

    Returns:
        Nats, shape (items,), and counts, shape (items,), both in the order of the split.
    """
    assert split.prompt_lengths is not None, "only generation has responses"
    num_tokens = split.lengths - split.prompt_lengths
    rows: dict[int, NDArray[np.float64]] = {}
    for indices in sharing.own(length_batches(split.lengths, batch_size)):
        batch = {
            name: tensor.to(device) for name, tensor in collate(split, indices, pad_id=pad_id, side="left").items()
        }
        keep = int(num_tokens[indices].max())
        labels_BK = batch.pop("labels")[:, -keep:]
        logits_BKV = _response_logits(net, batch, keep=keep)
        is_scored_BK = labels_BK != IGNORED
        nll_N = cross_entropy(logits_BKV[is_scored_BK].float(), labels_BK[is_scored_BK], reduction="none")
        per_item = torch.zeros(labels_BK.shape, dtype=torch.float64)
        per_item[is_scored_BK.cpu()] = nll_N.cpu().double()
        rows.update(zip(indices.tolist(), per_item.sum(-1).numpy(), strict=True))
    return sharing.joined(rows, num_items=len(split)), num_tokens


def _response_logits(net: Any, batch: dict[str, torch.Tensor], *, keep: int) -> torch.Tensor:
    """Of the positions that predict the last `keep` tokens, shape (B, K, V)."""
    if "decoder_input_ids" in batch:
        logits_BKV: torch.Tensor = net(**batch, use_cache=False).logits
        return logits_BKV
    # Learnt positions (GPT-2) count from the first token, not from the padding before it.
    positions_BT = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    # One more: the position before a response predicts its first token.
    logits_BKV = net(**batch, position_ids=positions_BT, logits_to_keep=keep + 1, use_cache=False).logits[:, :-1]
    return logits_BKV
