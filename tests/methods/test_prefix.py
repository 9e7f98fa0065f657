"""Oracles: the network itself on a text with those words before it, and a text that is alone in its batch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.method_cases import batch, build_case, configured
from transformers import GenerationConfig

from lora_bench.config.schema import TaskKind
from lora_bench.evaluation.likelihood import response_nll
from lora_bench.methods.prefix import PrefixNet
from lora_bench.models.load import load_model
from lora_bench.models.roles import find_layers
from lora_bench.tasks.encode import EncodedSplit

DECODERS = ["gpt2", "llama", "qwen2", "opt", "gpt_neox"]


@pytest.fixture
def decoder(tmp_path):
    """A language model, the same behind a prefix, and the words that the prefix starts as."""

    def make(architecture, *, in_every_layer=False):
        config = configured("prefix_embed", architecture)
        net = load_model(
            config.model, kind=TaskKind.generation, num_labels=None, cache=tmp_path, dtype=torch.float32, seed=0,
            dropout=0.0, pad_token_id=0,
        )  # fmt: skip
        plain = copy.deepcopy(net)
        torch.manual_seed(1)
        words = torch.randint(net.config.vocab_size, (1, 3))
        torch.manual_seed(1)
        layers = [names[0] for names in find_layers(net)] if in_every_layer else []
        return plain, PrefixNet(net, num_tokens=3, is_after_first=False, layers=layers).eval(), words

    return make


@pytest.mark.parametrize("in_every_layer", [False, True])
@pytest.mark.parametrize("architecture", DECODERS)
def test_a_prefix_starts_as_words_before_the_text(architecture, in_every_layer, decoder):
    plain, prefixed, words = decoder(architecture, in_every_layer=in_every_layer)
    text = torch.arange(5, 13).reshape(2, 4)
    mask = torch.ones_like(text)
    with torch.no_grad():
        longer = plain(torch.cat([words.expand(2, -1), text], dim=1)).logits[:, 3:]
        actual = prefixed(input_ids=text, attention_mask=mask).logits
    assert actual.shape == (2, 4, 40)
    torch.testing.assert_close(actual, longer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("in_every_layer", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_greedy_answers_are_those_of_whole_passes(architecture, in_every_layer, decoder):
    _, prefixed, _ = decoder(architecture, in_every_layer=in_every_layer)
    with torch.no_grad():
        for parameter in prefixed.parameters():
            parameter.mul_(3.0)  # answers that differ from token to token
    text = torch.tensor([[0, 7, 9, 4], [5, 6, 8, 3]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    greedy = GenerationConfig(max_new_tokens=5, do_sample=False, use_cache=True, pad_token_id=0)
    with torch.no_grad():
        actual = prefixed.generate(input_ids=text, attention_mask=mask, generation_config=greedy)
        for _ in range(5):
            # That positions are asked for is all that counts: the wrapper counts the prefix in.
            logits = prefixed(input_ids=text, attention_mask=mask, position_ids=mask).logits
            text = torch.cat([text, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            mask = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], dim=1)
    assert torch.equal(actual, text)


@pytest.mark.parametrize("method", ["prefix_embed", "prefix_layer", "lora_prefix_layer"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2", "llama"])
def test_padding_changes_no_class(method, architecture, tmp_path):
    case = build_case(method, architecture, folder=tmp_path)
    ids = torch.tensor([[5, 6, 7, 8, 9, 0, 0], [5, 6, 7, 8, 9, 10, 11]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1] * 7])
    case.net.eval()
    with torch.no_grad():
        together = case.net(input_ids=ids, attention_mask=mask).logits[0]
        alone = case.net(input_ids=ids[:1, :5], attention_mask=mask[:1, :5]).logits[0]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_an_encoder_reads_its_class_at_the_first_token_of_the_text(tmp_path):
    case = build_case("prefix_embed", "bert", folder=tmp_path)
    seen = []
    case.net.get_base_model().bert.embeddings.register_forward_hook(lambda *given: seen.append(given[2]))
    case.logits()
    with torch.no_grad():
        first_BD = case.net.get_base_model().bert.embeddings(batch()["input_ids"][:, :1])[:, 0]
    assert seen[0].shape == (4, 15, 32)
    torch.testing.assert_close(seen[0][:, 0], first_BD)


def test_likelihoods_behind_a_prefix_do_not_depend_on_the_padding(decoder):
    _, prefixed, _ = decoder("gpt2")
    texts = [[5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15]]

    def score(chosen):
        split = EncodedSplit(
            item_ids=tuple(str(index) for index in range(len(chosen))),
            tokens=np.concatenate([np.array(text, dtype=np.int32) for text in chosen]),
            offsets=np.cumsum([0, *map(len, chosen)]),
            labels=None,
            prompt_lengths=np.array([2] * len(chosen)),
            max_length=32,
            num_cut=0,
            num_cut_responses=0,
        )
        with torch.no_grad():
            return response_nll(prefixed, split, pad_id=0, batch_size=8, device="cpu")[0]

    together = score(texts)
    assert together == pytest.approx([score(texts[:1])[0], score(texts[1:])[0]], rel=1e-5)
