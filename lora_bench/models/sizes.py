"""Shapes and counts from an architecture's numbers alone; needs no torch and no weights.

An `architecture` is the content of a `config.json` of transformers, or the same numbers from
`conf/model/*.yaml`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.errors import ConfigError, Fault
from lora_bench.models.roles import ATTENTION, EMBED, FAMILIES, OUTSIDE, UNEMBED, family_name, role_faults, roles_of

Architecture = Mapping[str, Any]


@dataclass(frozen=True)
class _Keys:
    """What an architecture calls its numbers."""

    hidden: str = "hidden_size"
    heads: str = "num_attention_heads"
    layers: str = "num_hidden_layers"
    inner: str = "intermediate_size"
    kv_heads: str = "num_key_value_heads"
    head_dim: str = "head_dim"
    positions: str = "max_position_embeddings"
    embedding: str = "embedding_size"


_KEYS: Mapping[str, _Keys] = {
    "gpt2": _Keys(hidden="n_embd", heads="n_head", layers="n_layer", inner="n_inner", positions="n_positions"),
    **dict.fromkeys(
        ("t5", "t5_gated"), _Keys("d_model", heads="num_heads", layers="num_layers", inner="d_ff", head_dim="d_kv")
    ),
    "opt": _Keys(inner="ffn_dim", embedding="word_embed_proj_dim"),
    "deberta-v2": _Keys(head_dim="attention_head_size"),
    "qwen3_moe": _Keys(inner="moe_intermediate_size"),
}
_HEAD_DIMS = {"t5": 64, "t5_gated": 64, "qwen3": 128, "gemma": 256, "gemma2": 256, "gemma3_text": 256}
"""Defaults of the configuration classes in transformers 5 where these are not hidden size / heads."""
_RESERVED_POSITIONS = {"roberta": 2}
"""RoBERTa counts positions from pad_token_id + 1, so that 514 embeddings serve 512 tokens."""


def role_shapes(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """In and out features of each role in one layer; k and v are narrower with grouped queries.

    Raises:
        ConfigError: If the model type is unknown or one of its numbers is missing.
    """
    model_type = model_type_of(architecture)
    keys = _KEYS.get(model_type, _Keys())
    hidden = _number(architecture, keys.hidden)
    heads = _number(architecture, keys.heads)
    head_dim = _number(architecture, keys.head_dim, default=_HEAD_DIMS.get(model_type, hidden // heads))
    # GPT-2's `n_inner` is null in its own configuration.
    inner = _number(architecture, keys.inner, default=4 * hidden if model_type == "gpt2" else None)
    attention = heads * head_dim
    key_value = _number(architecture, keys.kv_heads, default=heads) * head_dim
    shapes = {
        "q": (hidden, attention),
        "k": (hidden, key_value),
        "v": (hidden, key_value),
        "o": (attention, hidden),
        "up": (hidden, inner),
        "gate": (hidden, inner),
        "down": (inner, hidden),
    }
    return {role: shapes[role] for role in roles_of(model_type)}


def outside_shapes(architecture: Architecture, roles: Collection[str]) -> dict[str, tuple[int, int]]:
    """In and out features of those roles that are outside of layers; embeddings have `vocab_size` inputs.

    Their width is the hidden size, less in some sizes of OPT and DeBERTa, which project it.
    """
    if not set(roles) & set(OUTSIDE):
        return {}
    keys = _KEYS.get(model_type_of(architecture), _Keys())
    vocabulary = _number(architecture, "vocab_size")
    width = _number(architecture, keys.embedding, default=hidden_size(architecture))
    shapes = {EMBED: (vocabulary, width), UNEMBED: (width, vocabulary)}
    return {role: shape for role, shape in shapes.items() if role in roles}


def num_layers(architecture: Architecture) -> int:
    """Number of layers that carry roles, those of encoder and decoder together."""
    return _num_first_layers(architecture) + len(cross_layers(architecture))


def cross_layers(architecture: Architecture) -> range:
    """Numbers of the layers that attend to an encoder too: those of its decoder, after its own; empty without one."""
    if not FAMILIES[model_type_of(architecture)].has_encoder:
        return range(0)
    start = _num_first_layers(architecture)
    return range(start, start + _number(architecture, "num_decoder_layers", default=start))


def num_matrices(architecture: Architecture, role: str, layers: Collection[int]) -> int:
    """How many matrices these layers have with this role: one, or one of each expert.

    Two of attention where they attend to an encoder as well.
    """
    if role in FAMILIES[model_type_of(architecture)].expert_roles:
        return len(layers) * active_experts(architecture)[1]
    twice = set(layers) & set(cross_layers(architecture)) if role in ATTENTION else ()
    return len(layers) + len(twice)


def rank_split(architecture: Architecture, role: str) -> int:
    """Over how many matrices with this role a token spreads in one layer: the experts that it goes to, else 1.

    A rank is split over them, so that adapters have the same part of the parameters that act on a token in every layer
    ("LoRA Without Regret", Schulman et al., 2025: the rank of each expert is the rank over the active experts).
    """
    return active_experts(architecture)[0] if role in FAMILIES[model_type_of(architecture)].expert_roles else 1


def active_experts(architecture: Architecture) -> tuple[int, int]:
    """Experts that a token goes to, and all that a layer has; one of one without a choice.

    Raises:
        ConfigError: If the numbers are missing.
    """
    family = FAMILIES.get(family_name(architecture))
    if family is None or family.experts is None:
        return 1, 1
    # What transformers 5 saves calls them local, what is published does not.
    available = _number(architecture, "num_experts", default=architecture.get("num_local_experts"))
    return _number(architecture, "num_experts_per_tok"), available


def split_rank_faults(architecture: Architecture, role: str, r: int, *, key: str) -> list[Fault]:
    """What is wrong with splitting the rank `r` of this role; `key` is where it was given."""
    parts = rank_split(architecture, role)
    if r % parts == 0:
        return []
    near = sorted({max(1, r // parts) * parts, (r // parts + 1) * parts})
    use = " or ".join(map(str, near))
    return [
        Fault(key, f"{r} cannot be split over the {parts} experts that a token of role '{role}' goes to; use {use}")
    ]


def decoder_start(architecture: Architecture) -> int | None:
    """The token that a decoder with an encoder starts a response with; None where one network reads all."""
    family = FAMILIES.get(family_name(architecture))
    if family is None or not family.has_encoder:
        return None
    start = architecture.get("decoder_start_token_id")
    # As transformers 5 does for T5 configurations that do not say it.
    return int(architecture.get("pad_token_id") or 0) if start is None else int(start)


def _num_first_layers(architecture: Architecture) -> int:
    return _number(architecture, _KEYS.get(model_type_of(architecture), _Keys()).layers)


def hidden_size(architecture: Architecture) -> int:
    """Width of the residual stream."""
    return _number(architecture, _KEYS.get(model_type_of(architecture), _Keys()).hidden)


def reads_segments(architecture: Architecture) -> bool:
    """Return whether the network tells two texts apart by `token_type_ids`: BERT does, RoBERTa and decoders do not."""
    default = 2 if architecture.get("model_type") in ("bert", "electra", "albert") else 1
    # DeBERTa says 0.
    return int(architecture.get("type_vocab_size", default) or 0) > 1


def max_tokens(architecture: Architecture) -> int | None:
    """Longest sequence that the architecture has positions for, in tokens; None where it does not say."""
    model_type = architecture.get("model_type", "")
    positions = architecture.get(_KEYS.get(model_type, _Keys()).positions)
    return positions - _RESERVED_POSITIONS.get(model_type, 0) if positions else None


def adapter_parameters(architecture: Architecture, roles: Sequence[str], r: int) -> int:
    """Parameters of low-rank adapters of rank `r` on these roles: in every layer, and once for roles outside of layers.

    Each adapted matrix gets A (r, in) and B (out, r): r * (in + out) parameters (LoRA, arXiv:2106.09685, 4.2).
    """
    shapes, layers = role_shapes(architecture), range(num_layers(architecture))
    inside = sum(
        r * sum(shapes[role]) * num_matrices(architecture, role, layers) // rank_split(architecture, role)
        for role in set(roles) & set(shapes)
    )
    outside = sum(r * sum(shape) for shape in outside_shapes(architecture, roles).values())
    return inside + outside


def placement_faults(architecture: Architecture, *, roles: Sequence[str], r: int | None) -> list[Fault]:
    """What is wrong with adapters of rank `r` on these roles; `r=None` looks at the roles alone."""
    try:
        shapes = role_shapes(architecture)
    except ConfigError as err:
        return list(err.faults)
    faults = role_faults(model_type_of(architecture), roles)
    if faults or r is None:
        return faults
    shapes |= outside_shapes(architecture, roles)
    placed = [role for role in roles if role in shapes]
    undivided = (fault for role in placed for fault in split_rank_faults(architecture, role, r, key="lora.r"))
    if (fault := next(undivided, None)) is not None:
        return [fault]
    side, role = min((min(shapes[role]) * rank_split(architecture, role), role) for role in placed)
    if r > side:
        return [
            Fault("lora.r", f"{r} is larger than the smallest adapted side, {side} of role '{role}'; use 1 to {side}")
        ]
    return []


def model_type_of(architecture: Architecture) -> str:
    """The name in the table of roles, which is the `model_type` but for T5 with gates.

    Raises:
        ConfigError: If it is missing or unknown.
    """
    model_type = architecture.get("model_type")
    if family_name(architecture) not in FAMILIES:
        given = "missing" if model_type is None else f"'{model_type}' is not known"
        raise ConfigError([Fault("model.architecture.model_type", f"{given}; known: {', '.join(sorted(FAMILIES))}")])
    return family_name(architecture)


def _number(architecture: Architecture, key: str, *, default: int | None = None) -> int:
    value = architecture.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or value < 1:
        raise ConfigError([Fault(f"model.architecture.{key}", f"{value!r} is not a positive whole number")])
    return value
