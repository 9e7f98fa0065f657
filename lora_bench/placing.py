"""From what a configuration says of places to modules of the loaded network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn
from transformers import PreTrainedModel

from lora_bench.config.placement import PlacementConfig
from lora_bench.config.schema import RunConfig
from lora_bench.errors import ConfigError, Fault
from lora_bench.methods import Layer, Placed
from lora_bench.models import target_modules
from lora_bench.models.carries import start_rank
from lora_bench.models.guess import guess_modules, guess_note, num_numbered_layers
from lora_bench.models.heads import head_modules
from lora_bench.models.roles import FAMILIES, OUTSIDE, family_of, find_layers, roles_of
from lora_bench.models.sizes import active_experts, rank_split
from lora_bench.models.split import split_fused


def place(config: RunConfig, net: PreTrainedModel) -> Placed:
    """Finds where the method goes; fused matrices are split where a role asks for a part of one.

    Called once, on the network as it was loaded.

    Raises:
        ConfigError: If the architecture is unknown and module names do not say where, or a rank is too high there.
    """
    placement = config.placement
    if needs_untied(config):
        untie(net)
    if placement is not None and family_of(net) not in FAMILIES:
        return _place_by_names(config, placement, net)
    roles = list(placement.roles if placement is not None else config.method.own_roles)
    layers = find_layers(net)
    chosen = placement.chosen_layers(len(layers)) if placement is not None else None
    present = [*roles_of(family_of(net)), *OUTSIDE]
    split = split_fused(net, roles, chosen)
    by_role = {role: tuple(target_modules(net, [role], chosen)) for role in roles if role in present}
    return Placed(
        target_modules=tuple(target_modules(net, roles, chosen)) if roles else (),
        head_modules=tuple(head_modules(net, with_pooler=config.training.head_has_pooler)),
        layers=tuple(Layer(*names) for names in layers),
        has_encoder=bool(net.config.is_encoder_decoder),
        active_experts=active_experts(net.config.to_dict()),
        by_role=by_role,
        split_modules=tuple(split),
        ranks=_own_ranks(placement, by_role) | _expert_ranks(config, by_role, net) if placement is not None else {},
    )


def needs_untied(config: RunConfig) -> bool:
    """Whether embeddings or unembedding are changed, which then need weights of their own."""
    return config.placement is not None and bool(set(config.placement.roles) & set(OUTSIDE))


def untie(net: PreTrainedModel) -> None:
    """Gives the unembedding weights of its own, so that a change of one end (merging, PiSSA) leaves the other alone."""
    unembedding = net.get_output_embeddings()
    if unembedding is not None and unembedding.weight is net.get_input_embeddings().weight:
        unembedding.weight = nn.Parameter(unembedding.weight.detach().clone())
        net.config.tie_word_embeddings = False


def _place_by_names(config: RunConfig, placement: PlacementConfig, net: PreTrainedModel) -> Placed:
    """Of an unknown architecture; what preflight finds for the others is found here."""
    depth = num_numbered_layers(net)
    if placement.highest_layer() > depth:
        problem = f"'{placement.layers}' goes beyond the {depth} layers, 0 to {depth - 1}"
        raise ConfigError([Fault("placement.layers", problem)])
    found = guess_modules(net, placement.roles, placement.chosen_layers(depth))
    faults = list(_rank_faults(config, placement, net, found=found))
    if faults:
        raise ConfigError(faults)
    taken = {name for names in found.values() for name in names}
    by_role = {role: tuple(names) for role, names in found.items()}
    return Placed(
        target_modules=tuple(name for name, _ in net.named_modules() if name in taken),
        head_modules=tuple(head_modules(net, with_pooler=config.training.head_has_pooler)),
        by_role=by_role,
        ranks=_own_ranks(placement, by_role),
        notes=(guess_note(net, placement.roles, found),),
    )


def _own_ranks(placement: PlacementConfig, by_role: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {name: r for role, r in placement.rank.given().items() for name in by_role.get(role, ())}


def _expert_ranks(config: RunConfig, by_role: Mapping[str, Sequence[str]], net: PreTrainedModel) -> dict[str, int]:
    """Of the matrices of experts, over which the rank of their role is split."""
    if config.lora is None or config.placement is None:
        return {}
    own, parts = config.placement.rank.given(), {role: rank_split(net.config.to_dict(), role) for role in by_role}
    return {
        name: own.get(role, config.lora.r) // parts[role]
        for role, names in by_role.items()
        if parts[role] > 1
        for name in names
    }


def _rank_faults(
    config: RunConfig, placement: PlacementConfig, net: nn.Module, *, found: Mapping[str, Sequence[str]]
) -> Iterator[Fault]:
    own, lora = placement.rank.given(), config.lora
    if lora is None:
        return
    for role, names in found.items():
        side, name = min((min(net.get_parameter(f"{name}.weight").shape), name) for name in names)
        r = own.get(role) or start_rank(config.method, lora.r)
        if r > side:
            key = f"placement.rank.{role}" if role in own else "lora.r"
            yield Fault(key, f"{r} is larger than the smaller side of {name}, {side}; use 1 to {side}")
