"""Oracles: transformers' own padding, and a loop over items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny_tokenizer import decoder_tokenizer, encoder_tokenizer

from lora_bench.config.schema import BbcHeadlineConfig, TaskKind, TweetSentimentConfig
from lora_bench.tasks import Example, load_task
from lora_bench.tasks.collate import IGNORED, collate, collate_prompts
from lora_bench.tasks.encode import encode

INDICES = np.array([3, 0, 11, 7, 3])


@pytest.fixture(scope="module")
def tweets():
    examples = load_task(TweetSentimentConfig(num_train=20)).train
    return encode(examples, encoder_tokenizer(), kind=TaskKind.classification, max_length=24, cache=None)


@pytest.fixture(scope="module")
def headlines():
    examples = load_task(BbcHeadlineConfig(num_train=20)).train
    return encode(examples, decoder_tokenizer(), kind=TaskKind.generation, max_length=200, cache=None)


def ids_of(split, index):
    return split.tokens[split.offsets[index] : split.offsets[index + 1]].tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_classification_is_padded_as_transformers_does(tweets, side):
    tokenizer = encoder_tokenizer()
    batch = collate(tweets, INDICES, pad_id=tokenizer.pad_token_id, side=side)
    wanted = tokenizer.pad(
        {"input_ids": [ids_of(tweets, index) for index in INDICES]}, padding_side=side, return_tensors="pt"
    )
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert torch.equal(batch["input_ids"], wanted["input_ids"])
    assert torch.equal(batch["attention_mask"], wanted["attention_mask"])
    assert batch["labels"].tolist() == tweets.labels[INDICES].tolist()
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("side", ["left", "right"])
def test_generation_counts_the_response_and_its_end_alone(headlines, side):
    batch = collate(headlines, INDICES, pad_id=7, side=side)
    width = int(headlines.lengths[INDICES].max())
    for row, index in enumerate(INDICES):
        ids, prompt = ids_of(headlines, index), int(headlines.prompt_lengths[index])
        fill = width - len(ids)
        own = slice(fill, width) if side == "left" else slice(0, len(ids))
        for name, values, padding in (
            ("input_ids", ids, 7),
            ("attention_mask", [1] * len(ids), 0),
            ("labels", [IGNORED] * prompt + ids[prompt:], IGNORED),
        ):
            wanted = [padding] * width
            wanted[own] = values
            assert batch[name][row].tolist() == wanted, name


def test_padding_is_known_by_position_and_not_by_token(headlines):
    # The end token closes every response and pads as well.
    eos = decoder_tokenizer().eos_token_id
    batch = collate(headlines, INDICES, pad_id=eos)
    ends = (batch["labels"] == eos).sum(-1)
    assert ends.tolist() == [1] * len(INDICES)
    assert batch["attention_mask"].sum(-1).tolist() == headlines.lengths[INDICES].tolist()


def test_prompts_end_together(headlines):
    batch = collate_prompts(headlines, INDICES, pad_id=7)
    width = int(headlines.prompt_lengths[INDICES].max())
    for row, index in enumerate(INDICES):
        prompt = ids_of(headlines, index)[: headlines.prompt_lengths[index]]
        assert batch["input_ids"][row].tolist() == [7] * (width - len(prompt)) + prompt
        assert int(batch["attention_mask"][row].sum()) == len(prompt)


def test_one_item_has_no_padding(tweets):
    batch = collate(tweets, np.array([4]), pad_id=0)
    assert batch["input_ids"].tolist() == [ids_of(tweets, 4)]
    assert bool(batch["attention_mask"].all())


def test_segments_of_two_texts_are_padded_with_them():
    tokenizer = encoder_tokenizer()
    texts = [("a cat", "it sat on the mat"), ("so", "what")]
    items = [Example(str(number), one, label=number, text_pair=other) for number, (one, other) in enumerate(texts)]
    how = {"kind": TaskKind.classification, "max_length": 20, "cache": None, "reads_segments": True}
    batch = collate(encode(items, tokenizer, **how), np.array([1, 0]), pad_id=tokenizer.pad_token_id)
    wanted = tokenizer([texts[1][0], texts[0][0]], [texts[1][1], texts[0][1]], padding=True, return_tensors="pt")
    assert list(batch) == ["input_ids", "attention_mask", "token_type_ids", "labels"]
    for name, tensor in wanted.items():
        assert torch.equal(batch[name], tensor), name
