"""What keeps an architecture from carrying a method, and what would work; needs no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping

from lora_bench.config import methods
from lora_bench.config.methods import Bias, MethodConfig
from lora_bench.config.placement import PlacementConfig
from lora_bench.config.processes import GroupConfig, ZeroConfig
from lora_bench.config.schema import RunConfig, TaskKind
from lora_bench.errors import ConfigError, Fault
from lora_bench.models.counts import bias_parameters, low_rank_parameters, role_biases
from lora_bench.models.roles import EMBED, FAMILIES, OUTSIDE, UNEMBED, family_name, role_faults
from lora_bench.models.sizes import (
    Architecture,
    active_experts,
    decoder_start,
    max_tokens,
    model_type_of,
    num_layers,
    outside_shapes,
    placement_faults,
    rank_split,
    role_shapes,
    split_rank_faults,
)

_NEED_LAYERS = (
    methods.TopLayersMethodConfig,
    methods.AdapterMethodConfig,
    methods.PrefixMethodConfig,
    methods.QloraMethodConfig,
)
"""Methods for architectures whose layers are known; full fine-tuning and biases need to know nothing."""
_NEED_ONE_TEXT: Mapping[type[MethodConfig], str] = {
    methods.AdapterMethodConfig: "stands after the attention of each layer, of which its decoder has two kinds",
    methods.PrefixMethodConfig: "puts its tokens before one text, and here encoder and decoder read one each",
    methods.EvaMethodConfig: "looks at what matrices read at the tokens of one text, and here they read two",
    methods.QloraMethodConfig: "needs activations that keep their dtype, and T5 gives them that of its weights, bytes",
}
"""What keeps methods from a decoder that has an encoder."""
_ROUNDED = "takes its start from the base, and in bf16 what that rounds off sends tokens to other experts"
_WITHOUT_EXPERTS: Mapping[type[MethodConfig], str] = {
    methods.EvaMethodConfig: "looks at what each matrix reads, and an expert that no token goes to reads nothing",
    methods.PissaMethodConfig: _ROUNDED,
    methods.OloraMethodConfig: _ROUNDED,
    methods.AdaLoraMethodConfig: "moves ranks between matrices, and that of the experts is split evenly",
    methods.QloraMethodConfig: "rounds matrices, and the experts of a layer lie in one block",
    methods.VeraMethodConfig: "has one pair of matrices for all and no rank to split over experts",
    methods.Ia3MethodConfig: "scales the one input of the down projection, and here each expert has its own",
    methods.AdapterMethodConfig: "stands after the one down projection, and here each expert has its own",
}
"""What keeps methods from layers with experts."""
SHORTEST_TEXT = 4
"""Tokens that have to be left for a text."""


def method_faults(config: RunConfig, architecture: Architecture) -> list[Fault]:
    """What is wrong with this method and its placement on this architecture."""
    try:
        return list(_faults(config, architecture))
    except ConfigError as err:
        return list(err.faults)


def is_known(architecture: Architecture) -> bool:
    """Whether its roles stand in the table."""
    return family_name(architecture) in FAMILIES


def _faults(config: RunConfig, architecture: Architecture) -> Iterator[Fault]:
    method = config.method
    if config.placement is not None:
        yield from _placement_faults(config, config.placement, architecture)
    if method.needs_bitsandbytes and importlib.util.find_spec("bitsandbytes") is None:
        instead = "run: pip install -e '.[quantised]', or use method=lora"
        yield Fault("method", f"{method.name} needs bitsandbytes, which is not installed; {instead}")
    if isinstance(config.processes, GroupConfig):
        yield from _group_faults(method, config.processes)
    if config.training.activation_checkpointing and isinstance(method, methods.PrefixMethodConfig):
        problem = f"does not go with method={method.name}, whose tokens come from a cache of activations"
        yield Fault("training.activation_checkpointing", f"{problem}; leave it out")
    if method.own_roles:
        yield from role_faults(model_type_of(architecture), method.own_roles)
    yield from _encoder_faults(config, architecture)
    yield from _expert_faults(config, architecture)
    if isinstance(method, methods.BitFitMethodConfig) and is_known(architecture) and not _biases(config, architecture):
        yield Fault("method", _no_biases(architecture, "bitfit would train nothing", "method=lora or method=ia3"))
    if isinstance(method, _NEED_LAYERS):
        yield from _layer_faults(method, num_layers(architecture))
    positions = max_tokens(architecture)
    if positions is not None and method.num_added_tokens > positions - SHORTEST_TEXT:
        yield Fault(
            "method.num_tokens",
            f"{method.num_added_tokens} leave no room for a text in the {positions} positions of the model",
        )
    if config.lora is not None and config.lora.bias is not Bias.none:
        yield from _bias_faults(config, architecture)


def _group_faults(method: MethodConfig, group: GroupConfig) -> Iterator[Fault]:
    if isinstance(group, ZeroConfig) and importlib.util.find_spec("deepspeed") is None:
        instead = "run: pip install -e '.[deepspeed]', or use processes=fsdp"
        yield Fault("processes", f"{group.name} needs deepspeed, which is not installed; {instead}")
    if isinstance(method, methods.AdaLoraMethodConfig) and group.splits_state:
        problem = f"adalora looks at all gradients after each step, which {group.name} splits; use processes=ddp"
        yield Fault("processes", problem)


def _encoder_faults(config: RunConfig, architecture: Architecture) -> Iterator[Fault]:
    """What a decoder with an encoder cannot carry."""
    if decoder_start(architecture) is None:
        return
    method = config.method
    why = next((why for kind, why in _NEED_ONE_TEXT.items() if isinstance(method, kind)), None)
    if why is not None:
        works = "full, top_layers, ia3, vera, or one of LoRA without a prefix (lora, dora, pissa, adalora, ...)"
        yield Fault("method", f"{method.name} {why}; on {model_type_of(architecture)} use {works}")
    ends = [role for role in OUTSIDE if config.placement is not None and role in config.placement.roles]
    if ends:
        problem = "one table serves its encoder, its decoder and the logits; leave it out"
        yield Fault("placement.roles", f"'{ends[0]}' is no role in {model_type_of(architecture)}: {problem}")


def _expert_faults(config: RunConfig, architecture: Architecture) -> Iterator[Fault]:
    """What layers with experts cannot carry."""
    family = FAMILIES.get(family_name(architecture))
    if family is None or family.experts is None:
        return
    active, available = active_experts(architecture)
    if active > available:
        problem = f"{active} is above the {available} experts of a layer; use 1 to {available}"
        yield Fault("model.architecture.num_experts_per_tok", problem)
    if architecture.get("mlp_only_layers") or architecture.get("decoder_sparse_step", 1) != 1:
        problem = "some layers have no experts; only networks with experts in every layer are known"
        yield Fault("model.architecture", f"{problem} (mlp_only_layers=[], decoder_sparse_step=1)")
    method, placement = config.method, config.placement
    for why in (why for kind, why in _WITHOUT_EXPERTS.items() if isinstance(method, kind)):
        works = "full, top_layers, lora, rslora, lora_plus, lora_fa, dora or a prefix"
        yield Fault("method", f"{method.name} {why}; on {model_type_of(architecture)} use {works}")
    roles = [role for role in family.expert_roles if placement is not None and role in placement.roles]
    if placement is not None and placement.budget is not None and roles:
        problem = f"the rank of '{roles[0]}' goes in steps of the {active} experts of a token"
        yield Fault("placement.budget", f"{problem}, so no rank is chosen for it; give lora.r instead")


def _placement_faults(config: RunConfig, placement: PlacementConfig, architecture: Architecture) -> Iterator[Fault]:
    method = config.method
    if "model_type" in architecture and not is_known(architecture):
        yield from _unknown_faults(config, placement, architecture)
        return
    depth = num_layers(architecture)
    roles = [role for role in placement.roles if role not in placement.rank.given()]
    # A rank above the smaller side of a matrix adds parameters and no freedom: B A has no higher rank.
    faults = placement_faults(architecture, roles=placement.roles, r=None)
    if not faults and roles and config.lora is not None:
        faults = placement_faults(architecture, roles=roles, r=start_rank(method, config.lora.r))
    is_settled = placement.budget is not None and not any(fault.key.startswith("placement") for fault in faults)
    yield from (_of_budget(fault, placement) for fault in faults) if is_settled else faults
    if placement.highest_layer() > depth:
        yield Fault("placement.layers", f"'{placement.layers}' goes beyond the {depth} layers, 0 to {depth - 1}")
    yield from _one_rank_faults(config, placement)
    if not faults:
        yield from _outside_faults(config, placement)
    shapes = {**role_shapes(architecture), **outside_shapes(architecture, placement.roles)}
    for role, r in placement.rank.given().items():
        yield from split_rank_faults(architecture, role, r, key=f"placement.rank.{role}")
        side = min(shapes.get(role, (r, r))) * rank_split(architecture, role)
        if r > side:
            yield Fault(f"placement.rank.{role}", f"{r} is larger than the smaller side, {side}; use 1 to {side}")
    if placement.budget is not None and not faults:
        yield from _budget_faults(config, placement.budget, roles, architecture)


def _unknown_faults(config: RunConfig, placement: PlacementConfig, architecture: Architecture) -> Iterator[Fault]:
    """Of an architecture whose modules are found by their names, once it is loaded."""
    unknown = f"the shapes of model_type '{architecture['model_type']}' are not known before it is loaded"
    yield from _one_rank_faults(config, placement)
    yield from _outside_faults(config, placement)
    if placement.budget is not None:
        yield Fault("placement.budget", f"{unknown}, so no rank can be chosen for it; give lora.r instead")


def _one_rank_faults(config: RunConfig, placement: PlacementConfig) -> Iterator[Fault]:
    method = config.method
    if placement.rank.given() and (config.lora is None or isinstance(method, methods.AdaLoraMethodConfig)):
        yield Fault("placement.rank", f"method={method.name} has one rank for all roles; leave placement.rank out")


def _outside_faults(config: RunConfig, placement: PlacementConfig) -> Iterator[Fault]:
    method = config.method
    if UNEMBED in placement.roles and config.task.kind is not TaskKind.generation:
        yield Fault(
            "placement.roles", "'unembed' turns activations into words, and this task asks for classes; leave it out"
        )
    elif UNEMBED in placement.roles and isinstance(method, methods.LoftqMethodConfig):
        problem = "'unembed' stays whole, and method=loftq starts with what rounding lost; use method=qlora"
        yield Fault("placement.roles", problem)
    if EMBED in placement.roles and not method.adapts_embeddings:
        problem = f"'embed' is a table that is looked up, and method={method.name} is made for matrices that multiply"
        yield Fault("placement.roles", f"{problem}; use method=lora, rslora, dora or qlora, or leave it out")


def _budget_faults(config: RunConfig, budget: int, roles: list[str], architecture: Architecture) -> Iterator[Fault]:
    if config.lora is None or not roles:
        why = f"method={config.method.name} has no lora.r" if config.lora is None else "every placed role has a rank"
        yield Fault("placement.budget", f"{why}, so no rank can meet a budget; leave it out")
    elif budget < (least := low_rank_parameters(config, architecture, r=1)):
        yield Fault(
            "placement.budget",
            f"{budget:,} is below the {least:,} parameters of rank 1; give as many, or fewer roles or layers",
        )


def _of_budget(fault: Fault, placement: PlacementConfig) -> Fault:
    return Fault("placement.budget", f"{placement.budget:,} asks for too high a rank: {fault.problem}")


def start_rank(method: MethodConfig, r: int) -> int:
    """The rank that a matrix starts with where `r` is asked for."""
    return method.init_rank(r) if isinstance(method, methods.AdaLoraMethodConfig) else r


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
    if not is_known(architecture):
        unknown = f"the biases of model_type '{architecture.get('model_type')}' are not known before it is loaded"
        yield Fault("lora.bias", f"{unknown}; use none, or method=bitfit")
        return
    if not _biases(config, architecture):
        yield Fault("lora.bias", _no_biases(architecture, f"{config.lora.bias.value} would train none", "none"))
    elif config.lora.bias is Bias.lora_only and not role_biases(architecture, roles := config.placement.roles):
        yield Fault("lora.bias", f"none of the matrices {', '.join(roles)} has a bias; use all, or none")


def _biases(config: RunConfig, architecture: Architecture) -> int:
    return bias_parameters(architecture, config.task.kind, head_has_pooler=config.training.head_has_pooler)


def _no_biases(architecture: Architecture, what: str, instead: str) -> str:
    return (
        f"{model_type_of(architecture)} has no biases, so {what}; use {instead}, or a model that has some "
        f"(bert, roberta, gpt2, opt, phi, qwen2)"
    )
