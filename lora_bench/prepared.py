"""What a run needs before its first step: texts as tokens, the network with what its method adds, and their counts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lora_bench.config.rates import rate_note
from lora_bench.config.schema import Dtype, RunConfig, TaskKind
from lora_bench.errors import ModelError
from lora_bench.measure import flops, machine, memory
from lora_bench.measure.memory import num_values
from lora_bench.methods import Method, Placed, build_method
from lora_bench.models import decoder_start, max_tokens, read_architecture, reads_segments
from lora_bench.models.budget import budget_note
from lora_bench.models.fast_attention import use_fast_attention
from lora_bench.models.fast_dropout import use_fast_dropout
from lora_bench.models.load import TORCH_DTYPES, checkpoint_activations, load_model, load_tokenizer
from lora_bench.placing import place
from lora_bench.preflight import cache_folder
from lora_bench.records import Sizes
from lora_bench.tasks import TaskData, load_task
from lora_bench.tasks.collate import collate
from lora_bench.tasks.encode import EncodedSplit, encode
from lora_bench.training.batches import BatchPlan

OF_PROMPT = ("encoder", "EncDecAttention.k", "EncDecAttention.v")
"""Modules of T5 that the tokens of a prompt go through; those of a response go through the others."""
FEW_TOKENS = 4
"""Of a text, where a pass is to show what is connected with what."""
ORIGINAL_HEAD = "original_module"
"""Where PEFT keeps an unused copy of the head; it is no parameter of the adapted model."""


@dataclass(frozen=True)
class Prepared:
    """What loading gives: everything that training, evaluation and the record work on."""

    net: nn.Module
    method: Method
    placed: Placed
    data: TaskData
    train: EncodedSplit
    validation: EncodedSplit
    test: EncodedSplit
    tokenizer: Any
    load_s: float
    data_s: float
    rss_bytes: int | None
    notes: list[str]
    sizes: Sizes
    """Counted before weights may be split among processes; bytes are None until something was written."""
    flops_per_token: float
    """Of forward and backward pass."""


def prepare(config: RunConfig, *, device: torch.device, tell: Callable[[str], None]) -> Prepared:
    """Loads what the configuration names, the same in every process; `tell` hears at once what was found of modules."""
    start = time.perf_counter()
    if device.type == "cpu" and config.training.dtype is Dtype.bf16 and (slow := machine.slow_bf16_note()):
        tell(slow)
    cache, data = cache_folder(config), load_task(config.task)
    tokenizer = load_tokenizer(config.model, cache=cache)
    train, validation, test = _encoded(config, data, tokenizer)
    data_s = time.perf_counter() - start
    net = _load_net(config, data, pad_id=tokenizer.pad_token_id, on_cpu=device.type == "cpu")
    check_token_ids(net, (train, validation, test), pad_id=tokenizer.pad_token_id)
    method, placed = build_method(config), place(config, net)
    for note in placed.notes:
        tell(note)
    torch.manual_seed(config.seed)
    net = method.apply(net, placed).to(device)
    if method.needs_data:
        method.see_data(net, _first_batches(config, train, pad_id=tokenizer.pad_token_id, device=device))
    return Prepared(
        net=net,
        method=method,
        placed=placed,
        data=data,
        train=train,
        validation=validation,
        test=test,
        tokenizer=tokenizer,
        load_s=time.perf_counter() - start,
        data_s=data_s,
        rss_bytes=memory.current_rss_bytes(),
        sizes=count_parameters(net, method, placed),
        flops_per_token=count_flops(
            net, placed, train, pad_id=tokenizer.pad_token_id, num_added=config.method.num_added_tokens
        ),
        notes=[
            *data.notes,
            *_positions_note(config, longest_item(config)),
            *budget_note(config, read_architecture(config.model)),
            *rate_note(config),
            *method.notes,
            *split_notes({"train": train, "validation": validation, "test": test}),
        ],
    )


def split_notes(splits: Mapping[str, EncodedSplit]) -> Iterator[str]:
    """Yield what a reader must know of the texts as tokens: what was cut, and what the tokenizer does not know."""
    for name, split in splits.items():
        yield from filter(None, (split.cut_note(name), split.unknown_note(name)))


def longest_item(config: RunConfig) -> int:
    """Return the tokens of an item at most: `task.max_length`, or what the model has positions for beside the method's
    own."""
    longest = config.task.max_length
    positions = max_tokens(read_architecture(config.model))
    return longest if positions is None else min(longest, positions - config.method.num_added_tokens)


def count_parameters(net: nn.Module, method: Method, placed: Placed) -> Sizes:
    """The counts; bytes are None until something was written."""
    trained = sum(parameter.numel() for parameter in method.trained(net).values())
    head = method.num_head(net, placed)
    return Sizes(
        total_parameters=sum(
            num_values(parameter) for name, parameter in net.named_parameters() if ORIGINAL_HEAD not in name.split(".")
        ),
        trainable_parameters=trained,
        adapter_parameters=trained - head,
        head_parameters=head,
        weights_bytes=None,
        resume_bytes=None,
    )


def count_flops(net: nn.Module, placed: Placed, train: EncodedSplit, *, pad_id: int, num_added: int = 0) -> float:
    """Of a token of the training texts; where encoder and decoder share them, the mean of what each goes through.

    Tokens that the method adds to each text (`num_added`) go through the same, and are shared out over those of the
    text. A pass over a few tokens shows where gradients flow.
    """
    once = [*placed.head_modules, "pooler"]
    needs_gradient = flops.inputs_with_gradient(net, lambda: _look_through(net, train, pad_id=pad_id))
    total = flops.matrix_numbers(net, needs_gradient, per_sequence=once, active_experts=placed.active_experts)
    if not placed.has_encoder:
        return flops.flops_per_token(total) * (1 + num_added * len(train) / train.num_tokens)
    of_response = flops.matrix_numbers(net, needs_gradient, per_sequence=[*once, *OF_PROMPT])
    num_prompt, num_response = (int(lengths.sum()) for lengths in train.padded_apart)
    of_prompt = num_prompt * flops.flops_per_token(total - of_response)
    return (of_prompt + num_response * flops.flops_per_token(of_response)) / (num_prompt + num_response)


def _look_through(net: nn.Module, train: EncodedSplit, *, pad_id: int) -> None:
    """A forward pass over the first tokens of the first text, in evaluation mode, which draws nothing."""
    batch = collate(train, np.zeros(1, dtype=np.int64), pad_id=pad_id)
    device = next(net.parameters()).device
    texts = {name: tensor[:, :FEW_TOKENS].to(device) for name, tensor in batch.items() if name != "labels"}
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    net(**texts)
    for module, mode in modes:
        module.training = mode


def check_token_ids(net: nn.Module, splits: Sequence[EncodedSplit], *, pad_id: int) -> None:
    """Look whether the embedding has a row for every token of the texts, before a step asks for it.

    Raises:
        ModelError: If the tokenizer gives numbers that the network has no row for.
    """
    table = net.get_input_embeddings()  # type: ignore[operator]  # every network of transformers has it
    highest = max(pad_id, *(split.highest_id for split in splits))
    if highest >= table.num_embeddings:
        raise ModelError(
            f"the tokenizer gives token number {highest}, and the embedding of the model has rows 0 to "
            f"{table.num_embeddings - 1}: they do not belong together; give the tokenizer that the weights were "
            "trained with, or save the model again after resize_token_embeddings"
        )


def _positions_note(config: RunConfig, max_length: int) -> list[str]:
    if max_length == config.task.max_length:
        return []
    own = f", {config.method.num_added_tokens} of them for the tokens of the method" * bool(
        config.method.num_added_tokens
    )
    positions = max_length + config.method.num_added_tokens
    return [
        f"task.max_length={config.task.max_length}, and {config.model.name} has {positions} positions{own}: texts are "
        f"cut at {max_length} tokens"
    ]


def _encoded(config: RunConfig, data: TaskData, tokenizer: Any) -> tuple[EncodedSplit, EncodedSplit, EncodedSplit]:
    """Return training, validation and test, each text as long as the model has positions for."""
    architecture = read_architecture(config.model)
    train, validation, test = (
        encode(
            examples,
            tokenizer,
            kind=data.kind,
            max_length=longest_item(config),
            cache=cache_folder(config),
            start_id=decoder_start(architecture),
            reads_segments=reads_segments(architecture),
        )
        for examples in (data.train, data.validation, data.test)
    )
    return train, validation, test


def _load_net(config: RunConfig, data: TaskData, *, pad_id: int, on_cpu: bool) -> Any:
    net = load_model(
        config.model,
        kind=data.kind,
        num_labels=len(data.labels) if data.kind is TaskKind.classification else None,
        cache=cache_folder(config),
        dtype=TORCH_DTYPES[config.training.dtype],
        seed=config.seed,
        dropout=config.training.dropout,
        pad_token_id=pad_id,
    )
    if on_cpu:
        # Elsewhere sdpa is fast itself, and with its own mask.
        use_fast_attention(net)
        use_fast_dropout(net)
    if config.training.activation_checkpointing:
        checkpoint_activations(net)
    return net


def _first_batches(
    config: RunConfig, split: EncodedSplit, *, pad_id: int, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """The batches of the run's own plan, as training will see them."""
    plan = BatchPlan(split.lengths, batch_size=config.training.batch_size, seed=config.seed)
    for step in itertools.count():
        batch = collate(split, plan.batch(step), pad_id=pad_id, side="right")
        yield {name: tensor.to(device) for name, tensor in batch.items()}
