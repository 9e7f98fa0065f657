"""What keeps an architecture from carrying a method, and what would work; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator

from lora_bench.config import methods
from lora_bench.config.methods import Bias, MethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.errors import ConfigError, Fault
from lora_bench.models.counts import bias_parameters, role_biases
from lora_bench.models.roles import role_faults
from lora_bench.models.sizes import Architecture, max_tokens, model_type_of, num_layers, placement_faults

SHORTEST_TEXT = 4
"""Tokens that have to be left for a text."""


def method_faults(config: RunConfig, architecture: Architecture) -> list[Fault]:
    """What is wrong with this method and its placement on this architecture."""
    try:
        return list(_faults(config, architecture))
    except ConfigError as err:
        return list(err.faults)


def _faults(config: RunConfig, architecture: Architecture) -> Iterator[Fault]:
    method = config.method
    if config.placement is not None:
        # A rank above the smaller side of a matrix adds parameters and no freedom: B A has no higher rank.
        rank = config.lora.r if config.lora is not None else None
        if rank is not None and isinstance(method, methods.AdaLoraMethodConfig):
            rank = method.init_rank(rank)
        yield from placement_faults(architecture, roles=config.placement.roles, r=rank)
    if method.own_roles:
        yield from role_faults(model_type_of(architecture), method.own_roles)
    if isinstance(method, methods.BitFitMethodConfig) and not bias_parameters(architecture, config.task.kind):
        yield Fault("method", _no_biases(architecture, "bitfit would train nothing", "method=lora or method=ia3"))
    yield from _layer_faults(method, num_layers(architecture))
    positions = max_tokens(architecture)
    if positions is not None and method.num_added_tokens > positions - SHORTEST_TEXT:
        yield Fault(
            "method.num_tokens",
            f"{method.num_added_tokens} leave no room for a text in the {positions} positions of the model",
        )
    if config.lora is not None and config.lora.bias is not Bias.none:
        yield from _bias_faults(config, architecture)


def _layer_faults(method: MethodConfig, available: int) -> Iterator[Fault]:
    if isinstance(method, methods.TopLayersMethodConfig) and method.num_layers > available:
        yield Fault(
            "method.num_layers",
            f"{method.num_layers} is above the {available} layers of the model; use 1 to {available}",
        )
    if isinstance(method, methods.AdapterDropMethodConfig) and method.num_dropped >= available:
        yield Fault(
            "method.num_dropped",
            f"{method.num_dropped} leaves none of the {available} layers an adapter; use 0 to {available - 1}",
        )


def _bias_faults(config: RunConfig, architecture: Architecture) -> Iterator[Fault]:
    assert config.lora is not None, "asked for its biases"
    assert config.placement is not None, "what reads lora is placed"
    if not bias_parameters(architecture, config.task.kind):
        yield Fault("lora.bias", _no_biases(architecture, f"{config.lora.bias.value} would train none", "none"))
    elif config.lora.bias is Bias.lora_only and not role_biases(architecture, roles := config.placement.roles):
        yield Fault("lora.bias", f"none of the matrices {', '.join(roles)} has a bias; use all, or none")


def _no_biases(architecture: Architecture, what: str, instead: str) -> str:
    return (
        f"{model_type_of(architecture)} has no biases, so {what}; use {instead}, or a model that has some "
        f"(bert, roberta, gpt2, opt, phi, qwen2)"
    )
