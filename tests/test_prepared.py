"""Oracle: positions and rows of the embedding, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from transformers import BertConfig, BertModel

from lora_bench.errors import ModelError
from lora_bench.prepared import _positions_note, check_token_ids, longest_item
from lora_bench.tasks.encode import EncodedSplit

SPLIT = EncodedSplit(
    item_ids=("a", "b"),
    tokens=np.array([1, 2, 49], dtype=np.int32),
    offsets=np.array([0, 2, 3]),
    labels=np.array([0, 1]),
    prompt_lengths=None,
    max_length=8,
    num_cut=0,
    num_cut_responses=0,
)


def test_tokens_without_a_row_are_found_before_a_step():
    net = BertModel(
        BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
    check_token_ids(net, [SPLIT], pad_id=0)
    with pytest.raises(ModelError, match="gives token number 50, and the embedding of the model has rows 0 to 49"):
        check_token_ids(net, [SPLIT], pad_id=50)
    with pytest.raises(ModelError, match="token number 60"):
        check_token_ids(net, [SPLIT, replace(SPLIT, start_id=60)], pad_id=0)


def test_texts_are_cut_at_the_positions_of_the_model(tiny):
    assert longest_item(tiny()) == 16
    assert _positions_note(tiny(), 16) == []
    config = tiny("task.max_length=4000")
    assert longest_item(config) == 512
    assert _positions_note(config, 512) == [
        "task.max_length=4000, and tiny has 512 positions: texts are cut at 512 tokens"
    ]
    prefix = tiny("task.max_length=4000", "method=prefix_embed", "method.num_tokens=12")
    assert longest_item(prefix) == 500
    assert "512 positions, 12 of them for the tokens of the method" in _positions_note(prefix, 500)[0]
