"""From what a configuration says of places to modules of the loaded network."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from lora_bench.config.schema import RunConfig
from lora_bench.methods import Layer, Placed
from lora_bench.models import target_modules
from lora_bench.models.heads import head_modules
from lora_bench.models.roles import OUTSIDE, find_layers, roles_of
from lora_bench.models.split import split_fused


def place(config: RunConfig, net: PreTrainedModel) -> Placed:
    """Finds where the method goes; fused matrices are split where a role asks for a part of one.

    Called once, on the network as it was loaded.
    """
    placement = config.placement
    roles = list(placement.roles if placement is not None else config.method.own_roles)
    layers = find_layers(net)
    chosen = placement.chosen_layers(len(layers)) if placement is not None else None
    present = [*roles_of(str(net.config.model_type)), *OUTSIDE]
    split_fused(net, roles, chosen)
    if needs_untied(config):
        untie(net)
    by_role = {role: tuple(target_modules(net, [role], chosen)) for role in roles if role in present}
    own_ranks = placement.rank.given() if placement is not None else {}
    return Placed(
        target_modules=tuple(target_modules(net, roles, chosen)) if roles else (),
        head_modules=tuple(head_modules(net)),
        layers=tuple(Layer(*names) for names in layers),
        by_role=by_role,
        ranks={name: r for role, r in own_ranks.items() for name in by_role.get(role, ())},
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
