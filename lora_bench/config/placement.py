"""Which matrices a method is put on: roles, layers, and ranks by role or by a budget."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from lora_bench.errors import Fault

ADDED_LATER = {"added_later": True}
"""Metadata of a field that older records lack: at its default it is left out of record and digest, so theirs stand."""
ALL_LAYERS = "all"
_RANGE = re.compile(r"(first|last):(\d+)")
_LIST = re.compile(r"\d+(,\d+)*")


@dataclass(kw_only=True)
class RankConfig:
    """Ranks of roles that differ from `lora.r`; null is `lora.r`."""

    q: int | None = None
    k: int | None = None
    v: int | None = None
    o: int | None = None
    up: int | None = None
    gate: int | None = None
    down: int | None = None
    unembed: int | None = None
    embed: int | None = field(default=None, metadata=ADDED_LATER)

    def given(self) -> dict[str, int]:
        """Role to rank, for those that are set."""
        return {role: r for role, r in vars(self).items() if r is not None}


@dataclass(kw_only=True)
class PlacementConfig:
    """Which matrices get an adapter, by role."""

    name: str = MISSING
    roles: list[str] = MISSING
    """Any of q, k, v, o, up, gate, down, and embed and unembed, which are in no layer; roles that the architecture
    lacks are left out of a named set."""
    layers: Any = field(default=ALL_LAYERS, metadata=ADDED_LATER)
    """`all`, `first:4`, `last:4`, or numbers of layers from 0 on: `0,2,5`."""
    rank: RankConfig = field(default_factory=RankConfig, metadata=ADDED_LATER)
    budget: int | None = field(default=None, metadata=ADDED_LATER)
    """Parameters to train beside the task head: `lora.r` becomes the rank that comes closest. Null takes `lora.r`."""

    def normalise(self) -> None:
        """Layers as text, each number once and in order, so that equal choices are one."""
        numbers = self.layers if isinstance(self.layers, list) else [self.layers]
        text = ",".join(str(number).replace(" ", "") for number in numbers)
        self.layers = ",".join(map(str, sorted(set(map(int, text.split(",")))))) if _LIST.fullmatch(text) else text

    def chosen_layers(self, depth: int) -> list[int]:
        """Numbers of the layers, of a model with so many; those that it lacks are left out."""
        if self.layers == ALL_LAYERS:
            return list(range(depth))
        if (span := _RANGE.fullmatch(self.layers)) is not None:
            number = int(span[2])
            return list(range(depth))[:number] if span[1] == "first" else list(range(max(0, depth - number), depth))
        return [number for number in map(int, self.layers.split(",")) if number < depth]

    def highest_layer(self) -> int:
        """The least number of layers that a model needs for this choice."""
        if self.layers == ALL_LAYERS:
            return 1
        span = _RANGE.fullmatch(self.layers)
        return int(span[2]) if span is not None else max(map(int, self.layers.split(","))) + 1

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone; after `normalise`."""
        span = _RANGE.fullmatch(self.layers)
        is_empty = span is not None and int(span[2]) < 1
        if is_empty or (span is None and self.layers != ALL_LAYERS and not _LIST.fullmatch(self.layers)):
            yield Fault("placement.layers", f"'{self.layers}' is not all, first:N, last:N or numbers as in 0,2,5")
        for role, r in self.rank.given().items():
            if r < 1:
                yield Fault(f"placement.rank.{role}", f"{r} is below 1; leave the role out of placement.roles instead")
            elif role not in self.roles:
                placed = ", ".join(self.roles)
                yield Fault(f"placement.rank.{role}", f"nothing is placed on '{role}'; placed are {placed}")
        if self.budget is not None and self.budget < 1:
            yield Fault("placement.budget", f"{self.budget} is below 1; null takes lora.r")

    def differs(self) -> str:
        """For people, what roles alone do not say: ` last:4 q=8`; empty where they say all."""
        parts = [] if self.layers == ALL_LAYERS else [str(self.layers)]
        parts += [f"{role}={r}" for role, r in self.rank.given().items()]
        return "".join(f" {part}" for part in parts)


def is_recorded(entry: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field goes into record and digest."""
    if entry.metadata != ADDED_LATER:
        return True
    factory = entry.default_factory
    return bool(value != (entry.default if factory is dataclasses.MISSING else factory()))
