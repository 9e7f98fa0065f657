"""A decoder with an encoder, from roles to answers. Oracles: torch's shapes, PEFT's counts, transformers' own loss."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.method_cases import configured
from support.tiny_architectures import TINY_PAIRS
from support.tiny_tokenizer import decoder_tokenizer
from torch import nn

from lora_bench.benchmark import run_benchmark
from lora_bench.config.schema import Attention, ModelConfig, Source, TaskKind
from lora_bench.evaluation.generation import generate
from lora_bench.evaluation.likelihood import response_nll
from lora_bench.models import decoder_start, method_faults, trained_parameters
from lora_bench.models.catalog import kind_faults
from lora_bench.models.counts import layer_parameters
from lora_bench.models.roles import ROLES, find_layers, role_faults, roles_of, target_modules
from lora_bench.models.sizes import adapter_parameters, num_layers, role_shapes
from lora_bench.naming import run_dir_for
from lora_bench.preflight import root_folder
from lora_bench.tasks import Example
from lora_bench.tasks.collate import collate, collate_prompts
from lora_bench.tasks.encode import encode
from lora_bench.training.batches import BatchPlan
from lora_bench.training.loss import count_targets, summed_loss

START = 3
PAIRS = [("the cat", " sat"), ("12 + 34 =", " 46"), ("Headline: prices", " rise again and again"), ("x", " yes")]

both = pytest.mark.parametrize("family", sorted(TINY_PAIRS))


@pytest.fixture
def net_of(load):
    """A random network of one family."""

    def build(family, **given):
        model = ModelConfig(
            name=family, source=Source.random, attention=Attention.eager, architecture=dict(TINY_PAIRS[family])
        )
        return load(model, TaskKind.generation, **given)

    return build


@pytest.fixture(scope="module")
def split():
    examples = [Example(str(index), prompt, response=response) for index, (prompt, response) in enumerate(PAIRS)]
    return encode(examples, decoder_tokenizer(), kind=TaskKind.generation, max_length=64, cache=None, start_id=START)


@pytest.fixture
def reader(load):
    """A network for the words of `split`, in evaluation mode, whose answers differ from prompt to prompt."""
    numbers = {**TINY_PAIRS["t5"], "vocab_size": 320, "decoder_start_token_id": START}
    model = ModelConfig(name="t5", source=Source.random, attention=Attention.eager, architecture=numbers)
    return load(model, TaskKind.generation).eval()


@both
def test_roles_reach_every_matrix_of_encoder_and_decoder(family, net_of):
    net = net_of(family, device="meta")
    linear = {name for name, module in net.named_modules() if isinstance(module, nn.Linear)} - {"lm_head"}
    targets = target_modules(net, ROLES)
    assert set(targets) == linear
    assert len(targets) == len(linear)
    # Own attention in all four layers, attention to the encoder in two.
    assert [len(target_modules(net, [role])) for role in roles_of(family)] == [6, 6, 6, 6] + [4] * (
        len(roles_of(family)) - 4
    )
    for role, shape in role_shapes(TINY_PAIRS[family]).items():
        weights = [net.get_submodule(name).weight for name in target_modules(net, [role])]
        assert {tuple(weight.shape[::-1]) for weight in weights} == {shape}


def test_layers_are_numbered_through(net_of):
    net = net_of("t5", device="meta")
    assert [name for name, *_ in find_layers(net)] == [
        f"{part}.block.{i}" for part in ("encoder", "decoder") for i in (0, 1)
    ]
    assert target_modules(net, ["v", "down"], [0, 2]) == [
        "encoder.block.0.layer.0.SelfAttention.v",
        "encoder.block.0.layer.1.DenseReluDense.wo",
        "decoder.block.0.layer.0.SelfAttention.v",
        "decoder.block.0.layer.1.EncDecAttention.v",
        "decoder.block.0.layer.2.DenseReluDense.wo",
    ]


@both
def test_counts_are_those_of_torch_and_peft(family, net_of):
    net, architecture = net_of(family, device="meta"), TINY_PAIRS[family]
    layers = find_layers(net)
    assert len(layers) == num_layers(architecture) == 4
    for layer, (name, *_) in enumerate(layers):
        numbers = sum(value.numel() for value in net.get_submodule(name).parameters())
        assert numbers == layer_parameters(architecture, layer), name
    adapted = get_peft_model(net, LoraConfig(r=2, target_modules=target_modules(net, ROLES)))
    counted = sum(value.numel() for name, value in adapted.named_parameters() if "lora_" in name)
    assert counted == adapter_parameters(architecture, ROLES, 2)


@pytest.mark.parametrize("words", [(), ("placement.layers=last:3",), ("placement.layers=first:2", "placement=mlp")])
def test_chosen_layers_count_what_they_hold(words, net_of):
    config = configured("lora", "t5", *words)
    net = net_of("t5", device="meta")
    targets = target_modules(net, config.placement.roles, config.placement.chosen_layers(4))
    shapes = [net.get_submodule(name).weight.shape for name in targets]
    assert trained_parameters(config, config.model.architecture) == sum(2 * sum(shape) for shape in shapes)


def test_a_gate_is_where_there_is_one():
    assert role_faults("t5_gated", ["gate"]) == []
    (fault,) = role_faults("t5", ["gate"])
    assert "[gate] matches nothing in t5; it has q, k, v, o, up, down" in str(fault)


@pytest.mark.parametrize(
    ("method", "words", "told"),
    [
        ("adapter_h", [], "method: adapter_h stands after the attention of each layer, of which its decoder has two"),
        ("prefix_embed", [], "method: prefix_embed puts its tokens before one text, and here encoder and decoder read"),
        ("lora_prefix_layer", [], "on t5 use full, top_layers, ia3, vera, or one of LoRA without a prefix"),
        ("eva", [], "method: eva looks at what matrices read at the tokens of one text, and here they read two"),
        ("qlora", [], "method: qlora needs activations that keep their dtype, and T5 gives them that of its weights"),
        ("bitfit", [], "method: t5 has no biases, so bitfit would train nothing"),
        ("lora", ["placement=embed"], "'embed' is no role in t5: one table serves its encoder, its decoder and the"),
        ("lora", ["placement=unembed"], "'unembed' is no role in t5: one table serves"),
        ("lora", ["placement.layers=first:5"], "'first:5' goes beyond the 4 layers, 0 to 3"),
    ],
)
def test_what_two_texts_cannot_carry_is_refused(method, words, told):
    config = configured(method, "t5", *words)
    (fault,) = method_faults(config, config.model.architecture)
    assert told in str(fault)


def test_classes_are_texts():
    (fault,) = kind_faults(ModelConfig(name="t5-small"), "t5", TaskKind.classification)
    assert "is an encoder with a decoder, whose classes are texts: write them as responses" in str(fault)
    assert decoder_start(TINY_PAIRS["t5"]) == 0
    assert decoder_start({"model_type": "t5", "pad_token_id": 7}) == 7
    assert decoder_start({"model_type": "llama", "pad_token_id": 7}) is None


def test_encoder_and_decoder_are_padded_apart(split):
    batch = collate(split, np.arange(4), pad_id=9)
    for index in range(4):
        item = split.tokens[split.offsets[index] : split.offsets[index + 1]].tolist()
        prompt, response = item[: split.prompt_lengths[index]], item[split.prompt_lengths[index] :]
        for name, values in (
            ("input_ids", prompt),
            ("attention_mask", [1] * len(prompt)),
            ("decoder_input_ids", [START, *response[:-1]]),
            ("labels", response),
        ):
            padding = {"input_ids": 9, "attention_mask": 0, "labels": -100, "decoder_input_ids": None}[name]
            row = batch[name][index].tolist()
            assert row[: len(values)] == values, name
            assert padding is None or set(row[len(values) :]) <= {padding}, name
    prompts = collate_prompts(split, np.arange(4), pad_id=9)
    assert torch.equal(prompts["input_ids"], batch["input_ids"])
    plan = BatchPlan(split.lengths, batch_size=2, seed=0, padded_apart=split.padded_apart)
    for step in range(4):
        drawn = collate(split, plan.batch(step), pad_id=9)
        assert plan.padded_tokens(step) == drawn["input_ids"].numel() + drawn["labels"].numel()


@torch.no_grad()
def test_the_loss_is_the_one_that_transformers_gives(split, reader):
    nll, num_tokens = response_nll(reader, split, pad_id=0, batch_size=3, device="cpu")
    for index in range(4):
        one = collate(split, np.array([index]), pad_id=0)
        loss = reader(input_ids=one["input_ids"], labels=one["labels"]).loss
        assert nll[index] / num_tokens[index] == pytest.approx(float(loss), rel=1e-4)
    batch = collate(split, np.arange(4), pad_id=0)
    assert float(summed_loss(reader, batch, TaskKind.generation)) == pytest.approx(nll.sum(), rel=1e-4)
    assert count_targets(batch, TaskKind.generation) == num_tokens.sum()


@torch.no_grad()
def test_answers_are_the_largest_logits(split, reader):
    tokenizer = decoder_tokenizer()
    shared = {"tokenizer": tokenizer, "pad_id": 0, "max_new_tokens": 6, "batch_size": 3, "device": "cpu"}
    answers = generate(reader, split, np.arange(4), **shared)
    for index in range(4):
        prompt = collate_prompts(split, np.array([index]), pad_id=0)["input_ids"]
        ids = [START]
        while len(ids) <= 6 and ids[-1] != tokenizer.eos_token_id:
            logits = reader(input_ids=prompt, decoder_input_ids=torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
        assert answers[index] == tokenizer.decode(ids[1:], skip_special_tokens=True)


def test_a_run_learns_and_counts(tiny):
    words = ("model=tiny-t5", "task=arithmetic", "task.max_new_tokens=2", "training.lr=1e-2", "training.dtype=fp32")
    config = tiny(*words, "placement=qv")
    run_dir = run_dir_for(config, root_folder(config))
    result = run_benchmark(config, run_dir)
    losses = [float(found) for found in re.findall(r'"train/loss": ([\d.]+)', run_dir.metrics.read_text())]
    assert result.status == "finished"
    assert losses[-1] < losses[0]
    assert result.sizes.adapter_parameters == trained_parameters(config, config.model.architecture)
    # Prompts go through the encoder, responses through the decoder: less than all matrices for every token.
    assert 0 < result.timing.flops_per_token < 4 * result.sizes.total_parameters
    assert 0 <= result.timing.padding_fraction < 1
