"""From items of an encoded split to the tensors of one forward pass.

Axes: B batch, T tokens, R tokens of a response.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lora_bench.tasks.encode import EncodedSplit

IGNORED = -100
"""Label of tokens that count for no loss: prompt and padding (`ignore_index` of torch's cross entropy)."""


def collate(
    split: EncodedSplit, indices: NDArray[np.int64], *, pad_id: int, side: Literal["left", "right"] = "right"
) -> dict[str, torch.Tensor]:
    """The items as tensors, padded to the longest of them.

    Args:
        split: Where the items are.
        indices: Which, in order, shape (B,).
        pad_id: Token that fills up; the attention mask alone says what is padding.
        side: Where padding goes. Training needs it on the right; with it on the left all responses end together.

    Returns:
        `input_ids` and `attention_mask`, int64, shape (B, T), with `token_type_ids` where the split has segments;
        `labels`, int64, shape (B,) for classification, and
        (B, T) with -100 on prompt and padding for generation. Where an encoder reads the prompt, these hold the prompt
        alone, and `decoder_input_ids` and `labels`, shape (B, R), the response: a position and what it predicts.
    """
    if split.start_id is not None:
        return _collate_pairs(split, indices, pad_id=pad_id, start_id=split.start_id)
    starts, lengths = split.offsets[indices], split.lengths[indices]
    ids_BT, position_BT = _gather(split.tokens, starts, lengths, pad_id=pad_id, side=side)
    is_token_BT = position_BT >= 0
    if split.prompt_lengths is None:
        assert split.labels is not None, "a split has classes or prompts"
        labels = split.labels[indices]
        if split.segments is not None:
            segments_BT, _ = _gather(split.segments, starts, lengths, pad_id=0, side=side)
            return _tensors(input_ids=ids_BT, attention_mask=is_token_BT, token_type_ids=segments_BT, labels=labels)
    else:
        labels = np.where(position_BT >= split.prompt_lengths[indices][:, None], ids_BT, IGNORED)
    return _tensors(input_ids=ids_BT, attention_mask=is_token_BT, labels=labels)


def collate_prompts(split: EncodedSplit, indices: NDArray[np.int64], *, pad_id: int) -> dict[str, torch.Tensor]:
    """The prompts alone, padded on the left, so that what is generated follows each of them directly.

    An encoder's are padded on the right, as in training.

    Returns:
        `input_ids` and `attention_mask`, int64, shape (B, T).
    """
    assert split.prompt_lengths is not None, "only generation has prompts"
    lengths = split.prompt_lengths[indices]
    side = "left" if split.start_id is None else "right"
    ids_BT, position_BT = _gather(split.tokens, split.offsets[indices], lengths, pad_id=pad_id, side=side)
    return _tensors(input_ids=ids_BT, attention_mask=position_BT >= 0)


def _collate_pairs(
    split: EncodedSplit, indices: NDArray[np.int64], *, pad_id: int, start_id: int
) -> dict[str, torch.Tensor]:
    assert split.prompt_lengths is not None, "a response has a prompt"
    starts, prompts = split.offsets[indices], split.prompt_lengths[indices]
    ids_BT, position_BT = _gather(split.tokens, starts, prompts, pad_id=pad_id, side="right")
    responses = split.lengths[indices] - prompts
    response_BR, place_BR = _gather(split.tokens, starts + prompts, responses, pad_id=pad_id, side="right")
    before_BR = np.concatenate([np.full((len(indices), 1), start_id), response_BR[:, :-1]], axis=1)
    return _tensors(
        input_ids=ids_BT,
        attention_mask=position_BT >= 0,
        decoder_input_ids=before_BR,
        labels=np.where(place_BR >= 0, response_BR, IGNORED),
    )


def _gather(
    tokens: NDArray[np.signedinteger[Any]],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    pad_id: int,
    side: str,
) -> tuple[NDArray[np.signedinteger[Any]], NDArray[np.int64]]:
    """Padded ids, and each token's position in its item, -1 on padding; both of shape (B, T)."""
    width = int(lengths.max())
    position_BT = np.broadcast_to(np.arange(width), (len(lengths), width))
    if side == "left":
        position_BT = position_BT - (width - lengths)[:, None]
    position_BT = np.where((position_BT >= 0) & (position_BT < lengths[:, None]), position_BT, -1)
    # Padding reads the item's first token, which is there, and is then overwritten.
    ids_BT = tokens[starts[:, None] + np.maximum(position_BT, 0)]
    return np.where(position_BT >= 0, ids_BT, np.int32(pad_id)), position_BT


def _tensors(**arrays: NDArray[np.generic]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}
