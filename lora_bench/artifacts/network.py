"""Builds the network of a trained run again: the base, the base with what was trained, and the plain model of both.

Everything is built in the dtype that the run trained in, so that the base is the one that the adapter knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora_bench.artifacts.trained import AGAIN, TrainedRun, quantised_text
from lora_bench.errors import ArtifactError
from lora_bench.methods import Method, build_method
from lora_bench.models.load import TORCH_DTYPES, load_model, load_tokenizer
from lora_bench.models.split import join_fused
from lora_bench.placing import place

PROBE_SHAPE = (4, 16)
"""Texts and tokens of the batch that two networks are compared on."""


@dataclass(frozen=True)
class Adapted:
    """A run's network as it was evaluated, with the method that made it."""

    net: nn.Module
    method: Method


def load_run_tokenizer(trained: TrainedRun) -> PreTrainedTokenizerBase:
    """The tokenizer that the run used."""
    return load_tokenizer(trained.config.model, cache=trained.cache)


def load_base(trained: TrainedRun) -> PreTrainedModel:
    """The pretrained network in evaluation mode, with a new head that has the classes' names."""
    config = trained.config
    net = load_model(
        config.model,
        kind=trained.kind,
        num_labels=trained.num_labels,
        cache=trained.cache,
        dtype=TORCH_DTYPES[trained.dtype],
        seed=config.seed,
        dropout=None,
        pad_token_id=load_run_tokenizer(trained).pad_token_id,
    )
    labels = trained.labels
    if labels is not None and len(labels) == trained.num_labels:
        net.config.id2label = dict(enumerate(labels))
        net.config.label2id = {label: index for index, label in enumerate(labels)}
    return net


def load_adapted(trained: TrainedRun) -> Adapted:
    """The network with what was trained; draws what the method draws as the run did, and leaves no trace of it.

    Raises:
        ArtifactError: If the weights do not fit the configuration.
    """
    net: nn.Module = load_base(trained)
    method = build_method(trained.config)
    placed = place(trained.config, net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trained.config.seed)
        net = method.apply(net, placed)
    try:
        method.load(net, trained.weights)
    except (ValueError, RuntimeError, OSError, SafetensorError) as err:
        raise unfit(trained, err) from err
    return Adapted(net.eval(), method)


def unfit(trained: TrainedRun, err: Exception) -> ArtifactError:
    """What is said of weights that a library does not take for this configuration."""
    reason = str(err).partition("\n")[0]
    return ArtifactError(f"{trained.name}: weights/ does not belong to its config.yaml ({reason}); {AGAIN}")


def load_mergeable(trained: TrainedRun) -> Adapted:
    """As `load_adapted`, on a base that can take a sum.

    Raises:
        ArtifactError: If the weights do not fit the configuration, or the base is quantised.
    """
    adapted = load_adapted(trained)
    if is_quantised(adapted.net):
        raise ArtifactError(quantised_text(trained))
    return adapted


def merge_adapted(trained: TrainedRun, adapted: Adapted) -> PreTrainedModel:
    """The plain architecture with the trained weights in it, in fp32: the sum is not rounded yet. Uses `adapted` up.

    Raises:
        ArtifactError: If the method cannot merge.
    """
    merged = try_merge(adapted)
    if merged is None:
        raise ArtifactError(
            f"{trained.name}: method={trained.config.method.name} computes something beside the base's weights, so "
            f"there is nothing to merge it into; it works as it is in the run, and method=lora merges"
        )
    return merged


def try_merge(adapted: Adapted) -> PreTrainedModel | None:
    """As `merge_adapted`, or None where the method cannot merge or the base is quantised. Uses `adapted` up."""
    if is_quantised(adapted.net):
        return None
    merged = adapted.method.merge(cast_parameters(adapted.net, torch.float32))
    if merged is None:
        return None
    join_fused(merged)
    assert isinstance(merged, PreTrainedModel), "a merged network is the base's architecture"
    return merged.eval()


def cast_parameters(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Parameters alone, in place: buffers such as rotary tables stay in the precision that they were made in."""
    for parameter in net.parameters():
        parameter.data = parameter.data.to(dtype)
    return net


def is_quantised(net: nn.Module) -> bool:
    """Whether a weight is kept in integers."""
    return any(not parameter.is_floating_point() for parameter in net.parameters())


def find_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def probe_batch(net: nn.Module, shape: tuple[int, int] = PROBE_SHAPE) -> dict[str, Tensor]:
    """The same random tokens for every network with this vocabulary, shape (texts, tokens); without padding."""
    config: Any = net.config
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, config.get_text_config().vocab_size, shape, generator=generator)
    if config.pad_token_id is not None:
        # A classifier on a decoder looks for the last token before the padding.
        ids[ids == config.pad_token_id] = 0 if config.pad_token_id else 1
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    # A decoder with an encoder reads as many.
    return batch | ({"decoder_input_ids": ids.flip(1)} if config.is_encoder_decoder else {})


@torch.no_grad()
def logits(net: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """What the network says to these tokens, in fp32."""
    output: Tensor = net(**batch).logits
    return output.float()


def relative_difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a part of the largest logit of `other`."""
    return float((one - other).abs().max() / other.abs().max())
