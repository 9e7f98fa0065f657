"""How many parameters each method trains beside the task head, from an architecture's numbers; needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lora_bench.config import methods
from lora_bench.config.methods import Bias
from lora_bench.config.schema import RunConfig, TaskKind
from lora_bench.errors import ConfigError, Fault
from lora_bench.models.roles import ATTENTION, UNEMBED, roles_of
from lora_bench.models.sizes import (
    Architecture,
    active_experts,
    cross_layers,
    hidden_size,
    model_type_of,
    num_layers,
    num_matrices,
    outside_shapes,
    rank_split,
    role_shapes,
)

_MLP = ("up", "gate", "down")


@dataclass(frozen=True)
class _Smaller:
    """What a layer has beside the matrices of its roles, and the biases outside of layers."""

    biased: Callable[[Architecture], tuple[str, ...]]
    """Roles whose matrices have a bias."""
    norms: int = 2
    """Norms of a layer over the hidden size."""
    head_norms: int = 0
    """Norms of a layer over the features of one head."""
    has_norm_bias: bool = False
    extra: Callable[[Architecture], int] = lambda architecture: 0
    """Square matrices of a layer that have a bias and no role."""
    first: Callable[[Architecture], int] = lambda architecture: 0
    """Numbers that the first layer of encoder and decoder has more than the others."""
    outside: Callable[[Architecture, TaskKind], int] = lambda architecture, kind: 0
    """Biases outside of layers, without those of the task head and of a pooler."""
    has_pooler: bool = False
    """Whether the base has BERT's pooler."""


def _always(architecture: Architecture) -> tuple[str, ...]:
    return ATTENTION + _MLP


def _by_flags(architecture: Architecture) -> tuple[str, ...]:
    """As Llama's configuration says; both are off unless given."""
    attention = ATTENTION if architecture.get("attention_bias") else ()
    return attention + (_MLP if architecture.get("mlp_bias") else ())


def _of_deberta(architecture: Architecture, kind: TaskKind) -> int:
    norms = 1 + (architecture.get("norm_rel_ebd", "none") == "layer_norm")
    # Its convolution beside the first layer has a bias and a norm.
    in_convolution = 2 if architecture.get("conv_kernel_size", 0) else 0
    return int(norms + in_convolution) * hidden_size(architecture)


def _positions_of_deberta(architecture: Architecture) -> int:
    """Projections of relative positions, where the ones of keys and queries do not serve them too."""
    if not architecture.get("relative_attention") or architecture.get("share_att_key"):
        return 0
    return sum(kind in ("c2p", "p2c") for kind in architecture.get("pos_att_type") or ())


def _one_norm(architecture: Architecture, kind: TaskKind) -> int:
    return hidden_size(architecture)


def _of_phi(architecture: Architecture, kind: TaskKind) -> int:
    # Its unembedding has a bias.
    return hidden_size(architecture) + (int(architecture["vocab_size"]) if kind is TaskKind.generation else 0)


def _position_buckets(architecture: Architecture) -> int:
    """T5's biases of relative positions, which no layer after the first has; its embeddings of them are no biases."""
    return int(architecture.get("relative_attention_num_buckets", 32) * architecture["num_heads"])


_SMALLER: Mapping[str, _Smaller] = {
    "bert": _Smaller(_always, has_norm_bias=True, outside=_one_norm, has_pooler=True),
    "roberta": _Smaller(_always, has_norm_bias=True, outside=_one_norm),
    "deberta-v2": _Smaller(_always, has_norm_bias=True, extra=_positions_of_deberta, outside=_of_deberta),
    "gpt2": _Smaller(_always, has_norm_bias=True, outside=_one_norm),
    "gpt_neox": _Smaller(
        lambda a: _always(a) if a.get("attention_bias", True) else _MLP, has_norm_bias=True, outside=_one_norm
    ),
    "opt": _Smaller(lambda a: _always(a) if a.get("enable_bias", True) else (), has_norm_bias=True, outside=_one_norm),
    "phi": _Smaller(_always, norms=1, has_norm_bias=True, outside=_of_phi),
    "phi3": _Smaller(lambda a: ()),
    **dict.fromkeys(("t5", "t5_gated"), _Smaller(lambda a: (), first=_position_buckets)),
    "llama": _Smaller(_by_flags),
    **dict.fromkeys(("mistral", "mixtral"), _Smaller(lambda a: ())),
    "qwen2": _Smaller(lambda a: ("q", "k", "v")),
    "qwen3": _Smaller(_by_flags, head_norms=2),
    "qwen3_moe": _Smaller(lambda a: ATTENTION if a.get("attention_bias") else (), head_norms=2),
    "gemma": _Smaller(_by_flags),
    "gemma2": _Smaller(_by_flags, norms=4),
    "gemma3_text": _Smaller(_by_flags, norms=4, head_norms=2),
}


def bias_parameters(architecture: Architecture, kind: TaskKind, *, head_has_pooler: bool) -> int:
    """Count the biases of the whole network without its task head, to which the pooler may belong."""
    smaller = _SMALLER[model_type_of(architecture)]
    wide = smaller.extra(architecture) + (smaller.norms if smaller.has_norm_bias else 0)
    in_layer = role_biases(architecture, roles_of(model_type_of(architecture))) + wide * hidden_size(architecture)
    pooler = hidden_size(architecture) if smaller.has_pooler and not head_has_pooler else 0
    return num_layers(architecture) * in_layer + smaller.outside(architecture, kind) + pooler


def role_biases(architecture: Architecture, roles: tuple[str, ...] | list[str]) -> int:
    """Biases of the matrices with these roles in one layer."""
    biased, shapes = _SMALLER[model_type_of(architecture)].biased(architecture), role_shapes(architecture)
    return sum(shapes[role][1] for role in set(roles) & set(shapes) if role in biased)


def layer_parameters(architecture: Architecture, layer: int) -> int:
    """All weights of the layer with this number: 12 d^2 + 13 d in GPT-2."""
    smaller, shapes = _SMALLER[model_type_of(architecture)], role_shapes(architecture)
    hidden, cross = hidden_size(architecture), cross_layers(architecture)
    matrices = sum(i * o * num_matrices(architecture, role, [layer]) for role, (i, o) in shapes.items())
    matrices += smaller.extra(architecture) * (hidden + 1) * hidden
    num_experts = active_experts(architecture)[1]
    matrices += num_experts * hidden if num_experts > 1 else 0  # What chooses among them.
    # A layer that attends to an encoder has a norm before that.
    norms = (smaller.norms + (layer in cross)) * hidden * (2 if smaller.has_norm_bias else 1)
    norms += smaller.first(architecture) if layer in (0, *cross[:1]) else 0
    head_dim = shapes["q"][1] // int(architecture.get("num_attention_heads", 1))
    return matrices + role_biases(architecture, list(shapes)) + norms + smaller.head_norms * head_dim


def layer_norms(architecture: Architecture) -> int:
    """Numbers in the norms over the hidden size of one layer: 4 d in BERT and GPT-2."""
    smaller = _SMALLER[model_type_of(architecture)]
    return smaller.norms * hidden_size(architecture) * (2 if smaller.has_norm_bias else 1)


def adapters(method: methods.AdapterMethodConfig, *, width: int, depth: int) -> int:
    """Bottleneck adapters: 2 d m + m + d each, and 2 d for a norm of its own (LoRA, arXiv:2106.09685, 5.1)."""
    each = 2 * width * method.bottleneck + method.bottleneck + width
    if isinstance(method, methods.HoulsbyMethodConfig):
        return depth * 2 * each
    if isinstance(method, methods.LinMethodConfig):
        return depth * (each + 2 * width)
    if isinstance(method, methods.AdapterDropMethodConfig):
        depth -= method.num_dropped
    return depth * each


def trained_parameters(config: RunConfig, architecture: Architecture) -> int:
    """What the configured method trains, without the task head; AdaLoRA and EVA at the ranks that they start with.

    Raises:
        ConfigError: If the architecture is unknown, or for full fine-tuning, which trains what the network has.
    """
    method = config.method
    if isinstance(method, methods.BitFitMethodConfig):
        return bias_parameters(architecture, config.task.kind, head_has_pooler=config.training.head_has_pooler)
    if isinstance(method, methods.TopLayersMethodConfig):
        depth = num_layers(architecture)
        return sum(layer_parameters(architecture, layer) for layer in range(depth)[depth - method.num_layers :])
    if isinstance(method, methods.Ia3MethodConfig):
        shapes, layers = role_shapes(architecture), range(num_layers(architecture))
        scaled = {"k": shapes["k"][1], "v": shapes["v"][1], "down": shapes["down"][0]}
        return sum(count * num_matrices(architecture, role, layers) for role, count in scaled.items())
    if isinstance(method, methods.VeraMethodConfig):
        return _over_places(config, architecture, lambda shape, r: r + shape[1], r=method.r)
    if isinstance(method, methods.AdapterMethodConfig):
        width, depth = hidden_size(architecture), num_layers(architecture)
        trains_norms = isinstance(method, methods.HoulsbyMethodConfig) and method.norms
        return adapters(method, width=width, depth=depth) + (depth * layer_norms(architecture) if trains_norms else 0)
    if isinstance(method, methods.PrefixMethodConfig):
        in_every_layer = isinstance(method, methods.PrefixLayerMethodConfig | methods.LoraPrefixLayerMethodConfig)
        count = method.num_tokens * hidden_size(architecture) * (num_layers(architecture) if in_every_layer else 1)
        return count + (_low_rank(config, architecture) if method.uses_lora else 0)
    if method.uses_lora:
        return _low_rank(config, architecture)
    raise ConfigError([Fault("method", f"no closed form for what {method.name} trains")])


def low_rank_parameters(config: RunConfig, architecture: Architecture, *, r: int) -> int:
    """What a method with the group `lora` trains at this rank, where no role has one of its own; no biases."""
    method = config.method

    def count(shape: tuple[int, int], rank: int) -> int:
        inputs, outputs = shape
        if isinstance(method, methods.LoraFaMethodConfig):
            return rank * outputs
        if isinstance(method, methods.AdaLoraMethodConfig):
            start = method.init_rank(rank)
            return start * (inputs + outputs + 1)
        return rank * (inputs + outputs) + (outputs if isinstance(method, methods.DoraMethodConfig) else 0)

    return _over_places(config, architecture, count, r=r)


def _low_rank(config: RunConfig, architecture: Architecture) -> int:
    assert config.lora is not None, "resolve keeps both groups for these methods"
    count = low_rank_parameters(config, architecture, r=config.lora.r)
    if config.lora.bias is Bias.all:
        count += bias_parameters(architecture, config.task.kind, head_has_pooler=config.training.head_has_pooler)
    if config.lora.bias is Bias.lora_only:
        assert config.placement is not None, "resolve keeps both groups for these methods"
        depth = len(config.placement.chosen_layers(num_layers(architecture)))
        count += depth * role_biases(architecture, config.placement.roles)
        # Phi's is the one unembedding with a bias.
        has_bias = UNEMBED in config.placement.roles and model_type_of(architecture) == "phi"
        count += outside_shapes(architecture, [UNEMBED])[UNEMBED][1] if has_bias else 0
    return count


def _over_places(
    config: RunConfig, architecture: Architecture, count: Callable[[tuple[int, int], int], int], *, r: int
) -> int:
    """Sums over the placed matrices what `count` gives for (in, out) features and a rank."""
    placement = config.placement
    assert placement is not None, "only placed methods are counted so"
    shapes, own = role_shapes(architecture), placement.rank.given()
    layers = placement.chosen_layers(num_layers(architecture))
    inside = sum(
        count(shapes[role], own.get(role, r) // rank_split(architecture, role))
        * num_matrices(architecture, role, layers)
        for role in set(placement.roles) & set(shapes)
    )
    ends = outside_shapes(architecture, placement.roles)
    outside = sum(count(shape, own.get(role, r)) for role, shape in ends.items())
    return inside + outside
