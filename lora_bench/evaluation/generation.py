"""Greedy answers, generated in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from lora_bench.evaluation.lengths import length_batches
from lora_bench.evaluation.sharing import ALONE, Sharing
from lora_bench.tasks.collate import collate_prompts
from lora_bench.tasks.encode import EncodedSplit


def generate(
    net: Any,
    split: EncodedSplit,
    indices: NDArray[np.int64],
    *,
    tokenizer: Any,
    pad_id: int,
    max_new_tokens: int,
    batch_size: int,
    device: torch.device | str,
    sharing: Sharing = ALONE,
) -> list[str]:
    """The greedy continuation of each prompt up to the end-of-text token, without special tokens.

    Draws no random number, so that a run that evaluates more often trains the same. The caller has put `net` in
    evaluation mode and gradients off.

    Args:
        net: A causal language model of transformers, or a PEFT model around one.
        split: Where the prompts are.
        indices: Items to answer; the answers come in this order.
        tokenizer: Turns the answers back into text, and names the end-of-text token.
        pad_id: Token that fills up prompts on the left.
        max_new_tokens: Longest answer.
        batch_size: Prompts at a time.
        device: Where `net` is.
        sharing: Which of them this process answers; it gets the answers of all.
    """
    assert split.prompt_lengths is not None, "only generation has prompts"
    eos = tokenizer.eos_token_id
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        eos_token_id=eos,
        pad_token_id=pad_id,
        decoder_start_token_id=split.start_id,
    )
    rows: dict[int, NDArray[np.int64]] = {}
    for batch in sharing.own(length_batches(split.prompt_lengths[indices], batch_size)):
        inputs = {
            name: tensor.to(device) for name, tensor in collate_prompts(split, indices[batch], pad_id=pad_id).items()
        }
        with _without_own_settings(net):
            # In step, those whose answers have ended go on for the others.
            output_BT = net.generate(**inputs, generation_config=greedy, synced_gpus=sharing.in_step)
        # Before the answer stands its prompt, or the one token that a decoder with an encoder starts with.
        new_BT = output_BT[:, inputs["input_ids"].shape[1] if split.start_id is None else 1 :].cpu().numpy()
        padding = ((0, 0), (0, max_new_tokens - new_BT.shape[1]))
        rows.update(zip(batch.tolist(), np.pad(new_BT, padding, constant_values=eos), strict=True))
    tokens_IT = sharing.joined(rows, num_items=len(indices)).tolist()
    # What follows the end is padding, which may be any token.
    ended = [row[: row.index(eos)] if eos in row else row for row in tokens_IT]
    return list(tokenizer.batch_decode(ended, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@contextlib.contextmanager
def _without_own_settings(net: Any) -> Iterator[None]:
    """Hides the settings of the model's own file (sampling, penalties, lengths), which would fill what is left open."""
    model = net.get_base_model() if hasattr(net, "get_base_model") else net
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
