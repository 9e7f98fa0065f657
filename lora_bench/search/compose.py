"""From a point's words to checked run configurations, fast enough for thousands of points.

Hydra takes 0.1 s for a composition. The points of a study share their group choices, so the tree is composed once
for each set of choices, and the plain values are put into a copy of it, as Hydra would.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_bench.config.overrides import compose_config, parse
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import RunConfig
from lora_bench.config.store import group_names
from lora_bench.errors import ConfigError, Fault
from lora_bench.models.budget import settle_rank


def compose_run(words: Sequence[str]) -> RunConfig:
    """The resolved configuration of these overrides.

    Raises:
        ConfigError: With every fault found in it.
    """
    parsed = [_parsed(word) for word in words]
    choices = tuple(word for word, item in zip(words, parsed, strict=True) if not _is_plain(item))
    tree = copy.deepcopy(_tree(choices))
    for item in filter(_is_plain, parsed):
        try:
            OmegaConf.update(tree, item.key_or_group, item.value(), merge=True)
        except OmegaConfBaseException as err:
            raise ConfigError([Fault(item.key_or_group, str(err).splitlines()[0])]) from err
    return settle_rank(resolve(tree))


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The same run with another seed."""
    return dataclasses.replace(config, seed=seed)


def _is_plain(item: Override) -> bool:
    """Whether this sets a value that is in the tree already, which needs no composition."""
    if item.is_add() or item.is_force_add() or item.is_delete() or item.is_hydra_override():
        return False
    return item.key_or_group not in group_names()


@functools.lru_cache(maxsize=4096)
def _parsed(word: str) -> Override:
    return parse([word])[0]


@functools.lru_cache(maxsize=256)
def _tree(choices: tuple[str, ...]) -> DictConfig:
    tree = compose_config(choices)
    # Hydra's own settings are two thirds of it, and no run has any use for them.
    OmegaConf.set_struct(tree, False)
    tree.pop("hydra", None)
    OmegaConf.set_struct(tree, True)
    return tree
