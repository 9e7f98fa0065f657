"""A tiny architecture of every family: numbers of transformers configurations."""

from __future__ import annotations

from typing import Any

_ENCODER = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
_DECODER = {
    **_ENCODER,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Weights are far from the usual 0.02, so that no rounding sends a token to other experts.
_EXPERTS = {**_DECODER, "num_experts_per_tok": 2, "initializer_range": 0.2}
_NO_GROUPS = {key: value for key, value in _DECODER.items() if key not in ("num_key_value_heads", "head_dim")}

TINY: dict[str, dict[str, Any]] = {
    "bert": _ENCODER,
    "roberta": {**_ENCODER, "max_position_embeddings": 66},
    "deberta-v2": {**_ENCODER, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "gpt2": {"vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": _NO_GROUPS,
    "phi": {**_NO_GROUPS, "num_key_value_heads": 2},
    "phi3": {key: value for key, value in _DECODER.items() if key != "head_dim"},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, **_NO_GROUPS},
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": {key: value for key, value in _DECODER.items() if key != "head_dim"},
    "qwen3": {**_DECODER, "head_dim": 16},
    "mixtral": {**_EXPERTS, "num_local_experts": 4},
    "qwen3_moe": {**_EXPERTS, "head_dim": 16, "moe_intermediate_size": 24, "num_experts": 4},
    "gemma": {**_DECODER, "head_dim": 16},
    "gemma2": {**_DECODER, "head_dim": 16, "query_pre_attn_scalar": 16},
    "gemma3_text": {**_DECODER, "head_dim": 16, "query_pre_attn_scalar": 16},
}

_T5 = {
    "model_type": "t5",
    "vocab_size": 40,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    # Scores are not scaled down, and with the usual 1 one rounding in bf16 moves them far.
    "initializer_factor": 0.3,
}
TINY_PAIRS: dict[str, dict[str, Any]] = {"t5": _T5, "t5_gated": {**_T5, "feed_forward_proj": "gated-gelu"}}
"""Families of a decoder with an encoder, by their name in the table of roles."""
