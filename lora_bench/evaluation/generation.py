"""Greedy answers, generated in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from lora_bench.evaluation.lengths import length_batches
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
    """
    assert split.prompt_lengths is not None, "only generation has prompts"
    eos = tokenizer.eos_token_id
    greedy = _greedy_config(max_new_tokens=max_new_tokens, pad_id=pad_id, eos=eos)
    answers = [""] * len(indices)
    for batch in length_batches(split.prompt_lengths[indices], batch_size):
        inputs = {
            name: tensor.to(device) for name, tensor in collate_prompts(split, indices[batch], pad_id=pad_id).items()
        }
        output_BT = net.generate(**inputs, generation_config=greedy)
        new_BT = output_BT[:, inputs["input_ids"].shape[1] :].tolist()
        # What follows the end is padding, which may be any token.
        ended = [row[: row.index(eos)] if eos in row else row for row in new_BT]
        texts = tokenizer.batch_decode(ended, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for index, text in zip(batch, texts, strict=True):
            answers[index] = text
    return answers


def _greedy_config(*, max_new_tokens: int, pad_id: int, eos: int) -> GenerationConfig:
    """Every switch that would change greedy decoding, set: those left open are filled from the model's own file."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=eos,
        do_sample=False,
        num_beams=1,
        num_return_sequences=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        use_cache=True,
        return_dict_in_generate=False,
    )
