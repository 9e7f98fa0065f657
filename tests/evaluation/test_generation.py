"""Oracle: the largest logit, again and again, one prompt at a time, without cache and without padding."""

from __future__ import annotations

import copy
import logging
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.tiny_nets import decoder
from support.tiny_tokenizer import decoder_tokenizer
from transformers import GenerationConfig
from transformers.utils.logging import get_logger

from lora_bench.config.schema import TaskKind
from lora_bench.evaluation.generation import generate
from lora_bench.tasks import Example
from lora_bench.tasks.encode import encode

PROMPTS = ["the cat", "a dog sat on", "x", "Headline: prices rise again and again", "12 + 34 =", "zz top"]
MAX_NEW_TOKENS = 12


@pytest.fixture(scope="module")
def split():
    examples = [Example(str(index), prompt, response=" yes") for index, prompt in enumerate(PROMPTS)]
    return encode(examples, decoder_tokenizer(), kind=TaskKind.generation, max_length=64, cache=None)


def answer(net, split, *, indices=(0, 1, 2, 3, 4, 5), batch_size=4, pad_id=0, tokenizer=None):
    with torch.no_grad():
        return generate(
            net,
            split,
            np.array(indices),
            tokenizer=tokenizer or decoder_tokenizer(),
            pad_id=pad_id,
            max_new_tokens=MAX_NEW_TOKENS,
            batch_size=batch_size,
            device="cpu",
        )


@torch.no_grad()
def largest_logits(net, split, tokenizer=None):
    """The same by hand, as text."""
    tokenizer = tokenizer or decoder_tokenizer()
    answers = []
    for start, length in zip(split.offsets, split.prompt_lengths, strict=False):
        ids = split.tokens[start : start + length].tolist()
        for _ in range(MAX_NEW_TOKENS):
            token = int(net(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            ids.append(token)
        answers.append(tokenizer.decode(ids[length:], skip_special_tokens=True))
    return answers


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_answers_are_greedy(split, family):
    net = decoder(decoder_tokenizer(), family=family).eval()
    wanted = largest_logits(net, split)
    assert answer(net, split) == wanted
    assert answer(net, split, indices=[4, 1], batch_size=1) == [wanted[4], wanted[1]]
    assert len(set(wanted)) > 2


@pytest.mark.parametrize("pad_id", [0, 40])
def test_ends_at_the_end_token_whatever_pads(split, pad_id):
    net = decoder(decoder_tokenizer()).eval()
    endless = answer(net, split)
    # What the first answer says fourth becomes the end token: that answer has three tokens, others end elsewhere.
    tokenizer = copy.deepcopy(decoder_tokenizer())
    with torch.no_grad():
        ids = net.generate(torch.tensor([split.tokens[:2].tolist()]), max_new_tokens=4, do_sample=False)[0, 2:]
    assert len(set(ids.tolist())) == 4
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(int(ids[3]))
    found = answer(net, split, tokenizer=tokenizer, pad_id=pad_id)
    assert found == largest_logits(net, split, tokenizer)
    assert found[0] == tokenizer.decode(ids[:3])
    assert endless[0].startswith(found[0])


# PEFT 0.21 reads a property that transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_model_answers_with_its_adapter(split):
    net = decoder(decoder_tokenizer()).eval()
    plain = answer(net, split)
    wrapped = get_peft_model(
        net, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    ).eval()
    adapted = answer(wrapped, split)
    assert adapted == largest_logits(wrapped, split)
    assert adapted != plain


def test_draws_no_random_number(split):
    net = decoder(decoder_tokenizer(), family="gpt2").eval()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    answer(net, split)
    assert torch.equal(before, torch.get_rng_state())


def test_the_model_s_own_generation_file_changes_nothing_and_nothing_is_said(split, caplog):
    net = decoder(decoder_tokenizer()).eval()
    plain = answer(net, split)
    net.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
        top_k=20,
        repetition_penalty=1.7,
        no_repeat_ngram_size=2,
        num_beams=3,
        max_length=20,
        eos_token_id=[7, 9],
        bos_token_id=1,
    )
    get_logger("transformers").addHandler(caplog.handler)
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            assert answer(net, split) == plain
        assert net.generation_config.temperature == 0.6
    finally:
        get_logger("transformers").removeHandler(caplog.handler)
    assert [record.message for record in caplog.records] == []
