"""Which modules hold which role in an architecture that the table of roles lacks, by what they are usually called.

Only matrices inside numbered lists count, so that heads, poolers and projections beside the layers are left alone. The
longest name decides: `attention.output.dense` is `o`, any other `output.dense` is `down`. Names that fit no role can be
given as they are. A guess is a guess: whoever uses one says which modules it took.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lora_bench.errors import ConfigError, Fault, suggest
from lora_bench.models.roles import OUTSIDE, ROLES, outside_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

USUAL: Mapping[str, tuple[str, ...]] = {
    "q": ("q_proj", "query", "query_proj", "q_lin", "wq", "to_q", "q"),
    "k": ("k_proj", "key", "key_proj", "k_lin", "wk", "to_k", "k"),
    "v": ("v_proj", "value", "value_proj", "v_lin", "wv", "to_v", "v"),
    "o": (
        *("o_proj", "out_proj", "out_lin", "attention.output.dense", "attn.c_proj"),
        *("attention.dense", "self_attention.dense", "self_attn.dense"),
    ),
    "up": ("up_proj", "fc1", "fc_in", "lin1", "intermediate.dense", "mlp.c_fc", "dense_h_to_4h"),
    "gate": ("gate_proj",),
    "down": ("down_proj", "fc2", "fc_out", "lin2", "output.dense", "mlp.c_proj", "dense_4h_to_h"),
}
"""Module names by role, or their ends, as the architectures of transformers 5 have them."""
_NUMBERED = re.compile(r"(?:.*?\.)?(\d+)\.(.+)")


def num_numbered_layers(net: PreTrainedModel) -> int:
    """Layers, by the numbers in the names of the matrices."""
    return 1 + max((number for number, _ in _matrices(net).values()), default=-1)


def guess_modules(net: PreTrainedModel, roles: Sequence[str], layers: Collection[int]) -> dict[str, list[str]]:
    """Role, or name as given, to full names of the modules in these layers, in the order of the network.

    Roles that nothing is called like are left out, as long as there is another one.

    Raises:
        ConfigError: If no role is found, or a name that was given; lists the names that there are.
    """
    matrices = {name: path for name, (number, path) in _matrices(net).items() if number in layers}
    found = {role: [name for name, path in matrices.items() if _is_called(path, role)] for role in roles}
    found |= {role: [name] for role, name in outside_modules(net, roles).items()}
    given = [role for role in roles if role not in (*ROLES, *OUTSIDE)]
    missing = [role for role in given if not found[role]] or ([] if any(found.values()) else list(roles))
    if missing:
        raise ConfigError([_nothing_found(net, missing)])
    return {role: names for role, names in found.items() if names}


def guess_note(net: PreTrainedModel, roles: Iterable[str], found: Mapping[str, Sequence[str]]) -> str:
    """Which modules were taken, for the record."""
    taken = [
        f"{role} is {', '.join(dict.fromkeys(map(_in_layer, names)))} ({len(names)})" for role, names in found.items()
    ]
    lacking = [role for role in roles if role not in found]
    also = f"; nothing is called like {', '.join(lacking)}" if lacking else ""
    return f"the roles of model_type '{net.config.model_type}' are guessed by module names: {', '.join(taken)}{also}"


def _matrices(net: PreTrainedModel) -> dict[str, tuple[int, str]]:
    """Name to number of the layer and path in it, for every matrix in a numbered list."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    names = [name for name, module in net.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    matches = {name: _NUMBERED.fullmatch(name) for name in names}
    return {name: (int(match[1]), match[2]) for name, match in matches.items() if match}


def _is_called(path: str, role: str) -> bool:
    if role not in ROLES:
        return _ends_in(path, role)
    ends = [(len(end), owner) for owner, names in USUAL.items() for end in names if _ends_in(path, end)]
    return bool(ends) and max(ends)[1] == role


def _ends_in(path: str, name: str) -> bool:
    return f".{path}".endswith(f".{name}")


def _in_layer(name: str) -> str:
    """What stands behind the number of the layer, further numbers (of experts) as one."""
    match = _NUMBERED.fullmatch(name)
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", match[2] if match else name)


def _nothing_found(net: PreTrainedModel, roles: Sequence[str]) -> Fault:
    names = list(dict.fromkeys(map(_in_layer, _matrices(net))))
    problem = f"[{', '.join(roles)}] matches nothing in {net.config.model_type}, whose roles are not known"
    if not names:
        return Fault("placement.roles", f"{problem} and which has no matrices in numbered layers; use method=full")
    near = suggest(roles[0], names)
    return Fault(
        "placement.roles",
        f"{problem}{near}; the matrices of its layers are called {', '.join(names)}; write such a name or its end, "
        f"placement.roles=[{names[0].rpartition('.')[2]}]",
    )
