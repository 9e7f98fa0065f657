"""Oracles: transformers' own loss, and one forward pass per item without any padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny_nets import classifier, decoder
from support.tiny_tokenizer import decoder_tokenizer, encoder_tokenizer

from lora_bench.config.schema import BbcHeadlineConfig, TaskKind, TweetSentimentConfig
from lora_bench.evaluation.likelihood import class_log_probabilities, response_nll
from lora_bench.tasks import Example, load_task
from lora_bench.tasks.collate import collate
from lora_bench.tasks.encode import encode


@pytest.fixture(scope="module")
def headlines():
    examples = load_task(BbcHeadlineConfig(num_eval=13)).test
    split = encode(examples, decoder_tokenizer(), kind=TaskKind.generation, max_length=120, cache=None)
    assert len(set(split.lengths - split.prompt_lengths)) > 3
    return split


@pytest.mark.parametrize("family", ["bert", "llama"])
@torch.no_grad()
def test_classes_of_real_tweets_are_those_of_one_text_at_a_time(family):
    tokenizer = encoder_tokenizer() if family == "bert" else decoder_tokenizer()
    examples = load_task(TweetSentimentConfig(num_eval=30)).test
    split = encode(examples, tokenizer, kind=TaskKind.classification, max_length=64, cache=None)
    net = classifier(tokenizer, num_labels=3, family=family).eval()
    found = class_log_probabilities(net, split, pad_id=tokenizer.pad_token_id, batch_size=8, device="cpu")
    wanted = []
    for start, end in zip(split.offsets, split.offsets[1:], strict=False):
        logits = net(input_ids=torch.tensor([split.tokens[start:end].tolist()])).logits
        wanted.append(torch.log_softmax(logits, -1)[0].numpy())
    # fp32 sums in another order.
    assert found == pytest.approx(np.array(wanted), abs=1e-4)
    assert found.dtype == np.float32
    assert len({tuple(row) for row in found.round(3)}) > 5


@torch.no_grad()
def test_classes_of_two_texts_are_those_that_the_network_gives_the_tokenizer_s_own_pairs():
    tokenizer = encoder_tokenizer()
    texts = [("a cat", "it sat on the mat"), ("so", "what"), ("the dog sat", "no")]
    items = [Example(str(number), one, label=0, text_pair=other) for number, (one, other) in enumerate(texts)]
    how = {"kind": TaskKind.classification, "max_length": 32, "cache": None}
    net = classifier(tokenizer, num_labels=3, family="bert").eval()
    # Segments that say something: their embeddings start near nothing.
    torch.nn.init.normal_(net.bert.embeddings.token_type_embeddings.weight)
    own = {"pad_id": tokenizer.pad_token_id, "batch_size": 2, "device": "cpu"}
    found = class_log_probabilities(net, encode(items, tokenizer, reads_segments=True, **how), **own)
    batch = tokenizer([one for one, _ in texts], [other for _, other in texts], padding=True, return_tensors="pt")
    assert found == pytest.approx(torch.log_softmax(net(**batch).logits, -1).numpy(), abs=1e-5)
    blind = class_log_probabilities(net, encode(items, tokenizer, **how), **own)
    assert abs(blind - found).max() > 1e-2


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
@torch.no_grad()
def test_responses_have_the_loss_that_transformers_gives(headlines, family, batch_size):
    net = decoder(decoder_tokenizer(), family=family).eval()
    nll, num_tokens = response_nll(net, headlines, pad_id=5, batch_size=batch_size, device="cpu")
    for index in range(len(headlines)):
        loss = net(**collate(headlines, np.array([index]), pad_id=5)).loss
        assert nll[index] / num_tokens[index] == pytest.approx(float(loss), rel=1e-4), index
    assert num_tokens.tolist() == (headlines.lengths - headlines.prompt_lengths).tolist()


@torch.no_grad()
def test_logits_in_bf16_are_summed_in_fp32(headlines):
    net = decoder(decoder_tokenizer()).eval()
    exact, _ = response_nll(net, headlines, pad_id=5, batch_size=4, device="cpu")
    rounded, _ = response_nll(net.bfloat16(), headlines, pad_id=5, batch_size=4, device="cpu")
    assert rounded.dtype == np.float64
    # bf16 keeps 8 bits; a softmax in bf16 would leave values on a grid of 1/16.
    assert rounded == pytest.approx(exact, rel=0.1)
    assert not np.array_equal(rounded * 16, np.round(rounded * 16))
