"""Random networks of a few thousand parameters, built with transformers alone."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
)

_SHARED = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.5,  # far from the usual 0.02, so that answers differ from text to text
}
_DECODER = {**_SHARED, "num_key_value_heads": 1, "head_dim": 8}


def classifier(tokenizer: Any, *, num_labels: int, family: str = "bert") -> Any:
    """A sequence classifier with dropout, in training mode."""
    torch.manual_seed(0)
    special = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": num_labels}
    if family == "bert":
        return BertForSequenceClassification(BertConfig(**_SHARED, **special)).train()
    return LlamaForSequenceClassification(LlamaConfig(**_DECODER, **special)).train()


def decoder(tokenizer: Any, *, family: str = "llama") -> Any:
    """A causal language model, in training mode; GPT-2 has learnt positions and dropout."""
    torch.manual_seed(0)
    special = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if family == "gpt2":
        config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=256, initializer_range=0.5, **special)
        return GPT2LMHeadModel(config).train()
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**_DECODER, **special)).train()
    return LlamaForCausalLM(LlamaConfig(**_DECODER, **special)).train()
