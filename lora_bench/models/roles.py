"""Which modules hold which role, per architecture; needs no torch.

A role says what a matrix does in a layer: `q k v o` (attention), `up gate down` (feed-forward). Paths are
relative to a layer and are matched against whole module names, because suffixes are not enough: in BERT
`attention.output.dense` is `o`, `output.dense` is `down`, and a pooler or a classifier is neither.

Where a layer has experts, `*` stands for the number of each of them. Their paths name the children that
`experts.SplitExperts` makes of the block that they lie in.

Some architectures keep several roles in one matrix. Their paths name the children that
`split.split_fused` makes of it: `attn.c_attn` of GPT-2 becomes `attn.c_attn.q`, `.k` and `.v`.

Where an encoder has a decoder (T5), layers are numbered through, the encoder's first, and a role in a layer of the
decoder is both that of its own attention and that of its attention to the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_bench.errors import ConfigError, Fault, ModelError, suggest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROLES = ("q", "k", "v", "o", "up", "gate", "down")
ATTENTION = ROLES[:4]
EMBED, UNEMBED = "embed", "unembed"
OUTSIDE = (EMBED, UNEMBED)
"""The roles outside of layers: the table of token embeddings, and the matrix that turns the last activation of a
language model into logits."""
SETS = ("qv", "attention", "mlp", "all")


@dataclass(frozen=True)
class Fused:
    """How one matrix holds several roles along its output features."""

    roles: tuple[str, ...]
    """In the order in which they lie in the matrix."""
    is_per_head: bool = False
    """Whether they alternate head by head (GPT-NeoX); otherwise each role is one contiguous block."""


@dataclass(frozen=True)
class Family:
    """The layers of one `model_type` of transformers."""

    layers: str
    """Name of the list of layers."""
    paths: Mapping[str, str]
    """Role to module, relative to a layer."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Role to a second module that has it, in layers of a decoder that has an encoder."""
    fused: Mapping[str, Fused] = field(default_factory=dict)
    """Modules that hold several roles, relative to a layer."""
    experts: str | None = None
    """The module that holds the experts of a layer, relative to it; None where a layer has one feed-forward part."""
    last_norm: str | None = None
    """The norm that ends a layer, relative to it, where norms come after the parts; else None."""
    is_encoder: bool = False
    """Encoders classify and cannot generate."""
    has_sdpa: bool = True
    """Whether transformers offers `attention: sdpa` for it."""

    @property
    def has_encoder(self) -> bool:
        """Whether it is a decoder with an encoder: one reads the prompt, the other the response."""
        return bool(self.more)

    @property
    def expert_roles(self) -> tuple[str, ...]:
        """The roles that every expert of a layer has."""
        return tuple(role for role, path in self.paths.items() if self.experts and path.startswith(f"{self.experts}."))

    def paths_of(self, role: str) -> tuple[str, ...]:
        """Every path with this role; none where the family lacks it."""
        return tuple(paths[role] for paths in (self.paths, self.more) if role in paths)

    def find(
        self, names: Iterable[str], paths: Iterable[str], layers: Iterable[int] | None = None
    ) -> list[tuple[str, str]]:
        """Every module name that ends in a layer and one of these paths, with that path, in order.

        `layers` are the numbers of those that count; None counts all.
        """
        wanted = set(paths)
        pattern = re.compile(rf"((?:.*\.)?{re.escape(self.layers)}\.\d+)\.(.+)")
        matches = [(name, match) for name in names if (match := pattern.fullmatch(name))]
        every = dict.fromkeys(match[1] for _, match in matches)
        chosen = every if layers is None else {layer for number, layer in enumerate(every) if number in set(layers)}
        paths_of = [(name, self._any_expert(match[2])) for name, match in matches if match[1] in chosen]
        return [(name, path) for name, path in paths_of if path in wanted]

    def _any_expert(self, path: str) -> str:
        return re.sub(rf"(?<={re.escape(self.experts)}\.)\d+", "*", path) if self.experts else path


_LLAMA = Family(
    "layers",
    {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "up": "mlp.up_proj",
        "gate": "mlp.gate_proj",
        "down": "mlp.down_proj",
    },
)
_BERT = Family(
    "encoder.layer",
    {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    },
    last_norm="output.LayerNorm",
    is_encoder=True,
)

_T5_PATHS = {
    **{role: f"layer.0.SelfAttention.{role}" for role in ("q", "k", "v", "o")},
    "up": "layer.1.DenseReluDense.wi",
    "down": "layer.1.DenseReluDense.wo",
}
_T5_MORE = {
    **{role: f"layer.1.EncDecAttention.{role}" for role in ("q", "k", "v", "o")},
    "up": "layer.2.DenseReluDense.wi",
    "down": "layer.2.DenseReluDense.wo",
}

FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "deberta-v2": Family(
        "encoder.layer",
        {
            **_BERT.paths,
            "q": "attention.self.query_proj",
            "k": "attention.self.key_proj",
            "v": "attention.self.value_proj",
        },
        last_norm="output.LayerNorm",
        is_encoder=True,
        has_sdpa=False,
    ),
    "gpt2": Family(
        "h",
        {
            "q": "attn.c_attn.q",
            "k": "attn.c_attn.k",
            "v": "attn.c_attn.v",
            "o": "attn.c_proj",
            "up": "mlp.c_fc",
            "down": "mlp.c_proj",
        },
        fused={"attn.c_attn": Fused(("q", "k", "v"))},
    ),
    "gpt_neox": Family(
        "layers",
        {
            "q": "attention.query_key_value.q",
            "k": "attention.query_key_value.k",
            "v": "attention.query_key_value.v",
            "o": "attention.dense",
            "up": "mlp.dense_h_to_4h",
            "down": "mlp.dense_4h_to_h",
        },
        fused={"attention.query_key_value": Fused(("q", "k", "v"), is_per_head=True)},
    ),
    "phi3": Family(
        "layers",
        {
            "q": "self_attn.qkv_proj.q",
            "k": "self_attn.qkv_proj.k",
            "v": "self_attn.qkv_proj.v",
            "o": "self_attn.o_proj",
            "up": "mlp.gate_up_proj.up",
            "gate": "mlp.gate_up_proj.gate",
            "down": "mlp.down_proj",
        },
        fused={"self_attn.qkv_proj": Fused(("q", "k", "v")), "mlp.gate_up_proj": Fused(("gate", "up"))},
    ),
    "phi": Family(
        "layers",
        {
            "q": "self_attn.q_proj",
            "k": "self_attn.k_proj",
            "v": "self_attn.v_proj",
            "o": "self_attn.dense",
            "up": "mlp.fc1",
            "down": "mlp.fc2",
        },
    ),
    "opt": Family(
        "layers",
        {
            "q": "self_attn.q_proj",
            "k": "self_attn.k_proj",
            "v": "self_attn.v_proj",
            "o": "self_attn.out_proj",
            "up": "fc1",
            "down": "fc2",
        },
    ),
    "t5": Family("block", _T5_PATHS, more=_T5_MORE),
    "t5_gated": Family(
        "block",
        {**_T5_PATHS, "gate": "layer.1.DenseReluDense.wi_0", "up": "layer.1.DenseReluDense.wi_1"},
        more={**_T5_MORE, "gate": "layer.2.DenseReluDense.wi_0", "up": "layer.2.DenseReluDense.wi_1"},
    ),
    **dict.fromkeys(
        ("mixtral", "qwen3_moe"),
        Family(
            "layers",
            {
                **{role: _LLAMA.paths[role] for role in ATTENTION},
                **{role: f"mlp.experts.*.w_{role}" for role in ("up", "gate", "down")},
            },
            experts="mlp.experts",
        ),
    ),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"), _LLAMA),
}
"""By `family_name`; the module names of transformers 5."""


def family_name(architecture: Mapping[str, Any]) -> str:
    """What an architecture is called in the table: its `model_type`, or `t5_gated` for T5 1.1 and what it became."""
    model_type = str(architecture.get("model_type"))
    is_gated = model_type == "t5" and str(architecture.get("feed_forward_proj")).startswith("gated")
    return "t5_gated" if is_gated else model_type


def family_of(net: PreTrainedModel) -> str:
    """The same of a network."""
    return family_name(net.config.to_dict())


def roles_of(model_type: str) -> tuple[str, ...]:
    """The roles that a family has, in the order of `ROLES`; none for an unknown one."""
    family = FAMILIES.get(model_type)
    return tuple(role for role in ROLES if family and role in family.paths)


def role_faults(model_type: str, roles: Sequence[str]) -> list[Fault]:
    """What is wrong with placing adapters on these roles.

    A role that the architecture lacks is left out as long as another one is there, so that the set `mlp`
    serves architectures with and without a gate.
    """
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        return [
            Fault("placement.roles", f"nothing is known about the roles of model_type '{model_type}'; known: {known}")
        ]
    unknown = [role for role in roles if role not in (*ROLES, *OUTSIDE)]
    if unknown:
        return [Fault("placement.roles", _explain_unknown(role)) for role in unknown]
    present = roles_of(model_type)
    if UNEMBED in roles and FAMILIES[model_type].is_encoder:
        return [
            Fault("placement.roles", f"{model_type} is an encoder and has no unembedding; it has {', '.join(present)}")
        ]
    if not set(roles) & {*present, *OUTSIDE}:
        given = f"[{', '.join(roles)}]"
        return [Fault("placement.roles", f"{given} matches nothing in {model_type}; it has {', '.join(present)}")]
    return []


def target_modules(net: PreTrainedModel, roles: Sequence[str], layers: Sequence[int] | None = None) -> list[str]:
    """Full names of the modules that hold these roles in these layers (None: all), in the order of the network.

    The embeddings are in no layer and come first, the unembedding last.

    Called after `split.split_fused` and before adapters are put on.

    Raises:
        ConfigError: If a role is unknown or nothing matches; lists what exists.
        ModelError: If a role lies in a matrix that was not split.
    """
    model_type = family_of(net)
    faults = role_faults(model_type, roles)
    if faults:
        raise ConfigError(faults)
    family = FAMILIES[model_type]
    names = [name for name, _ in net.named_modules()]
    wanted = {role: family.paths_of(role) for role in roles if role in family.paths}
    found = family.find(names, {path for paths in wanted.values() for path in paths}, layers)
    present = {path for _, path in found}
    absent = sorted(paths[0] for paths in wanted.values() if not present.intersection(paths))
    if absent:
        raise ModelError(
            f"{type(net).__name__}: no module of its layers is called {', '.join(absent)}; "
            f"split_fused(net, roles) comes before target_modules, and adapters come after it"
        )
    first, last = ([name] if (name := outside_modules(net, roles).get(role)) else [] for role in OUTSIDE)
    return [*first, *(name for name, _ in found), *last]


def outside_modules(net: PreTrainedModel, roles: Sequence[str]) -> dict[str, str]:
    """Full names of those roles that are outside of layers, where the network has them."""
    ends = {EMBED: net.get_input_embeddings(), UNEMBED: net.get_output_embeddings()}
    return {
        role: name for role in OUTSIDE if role in roles for name, module in net.named_modules() if module is ends[role]
    }


def find_layers(net: PreTrainedModel) -> list[tuple[str, str, str, str | None]]:
    """Every layer: its name, those of the matrices o and down, and of the norm that ends it, if one does.

    Empty for an architecture whose layers are not known.
    """
    family = FAMILIES.get(family_of(net))
    if family is None:
        return []
    pattern = re.compile(rf"(?:.*\.)?{re.escape(family.layers)}\.\d+")
    modules = [name for name, _ in net.named_modules()]
    last_norm = f".{family.last_norm}" if family.last_norm else None
    return [
        (
            name,
            *(_last_in(name, family.paths_of(role), modules) for role in ("o", "down")),
            last_norm and name + last_norm,
        )
        for name in modules
        if pattern.fullmatch(name)
    ]


def _last_in(layer: str, paths: Sequence[str], modules: Collection[str]) -> str:
    """Of the modules with a role in a layer, the one that comes last; of experts, the module that holds them all."""
    found = [f"{layer}.{path.partition('.*')[0]}" for path in paths]
    return [name for name in found if name in modules][-1]


def _explain_unknown(role: str) -> str:
    if role in SETS:
        return f"'{role}' is a set, not a role; write placement={role}"
    # Module names such as q_proj, query or value are too far from one letter for `suggest`.
    near = suggest(role, (*ROLES, *OUTSIDE)) or (
        f" (did you mean '{role[0]}'?)" if role[:1] in ("q", "k", "v", "o") else ""
    )
    return (
        f"'{role}' is not a role{near}; roles are {', '.join((*ROLES, *OUTSIDE))}, sets are placement={'|'.join(SETS)}"
    )
