"""Oracle: the schema itself: every integer of every choice has bounds, with its default in them and 10**20 outside."""

from __future__ import annotations

import dataclasses
import functools
from typing import get_args

import pytest

from lora_bench.config.aliases import field_type
from lora_bench.config.bounds import BOUNDS, bound_faults
from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import RunConfig
from lora_bench.config.store import SCHEMAS


def integers() -> dict[str, list[object]]:
    """Every integer key -> its defaults."""
    found: dict[str, list[object]] = {}

    def walk(owner: type, prefix: str) -> None:
        for entry in dataclasses.fields(owner):
            kind, key = field_type(owner, entry.name), f"{prefix}{entry.name}"
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                if prefix or entry.name not in SCHEMAS:
                    walk(kind, f"{key}.")
            elif kind is int or get_args(kind) == (int,):
                found.setdefault(key, []).append(entry.default)

    walk(RunConfig, "")
    for group, members in SCHEMAS.items():
        for schema in members.values():
            walk(schema, f"{group}.")
    return found


INTEGERS = integers()


def test_every_integer_of_the_schema_has_bounds_and_no_other_key():
    assert set(INTEGERS) == set(BOUNDS)
    assert len(BOUNDS) >= 55


def test_defaults_lie_in_their_bounds():
    for key, defaults in INTEGERS.items():
        low, high = BOUNDS[key]
        assert low < high
        for default in defaults:
            assert not isinstance(default, int) or low <= default <= high, key


@pytest.mark.parametrize("value", [10**20, -(10**20)])
def test_every_integer_of_every_choice_refuses_what_would_overflow(value):
    config, told = resolve(compose_config([])), set()
    for group, members in SCHEMAS.items():
        for schema in members.values():
            setattr(config, group, schema())
            told |= refused(config, group, value)
    assert told | refused(config, "", value) == set(BOUNDS)


def refused(config: RunConfig, group: str, value: int) -> set[str]:
    """Keys of a group that are refused, each set to the value and back."""
    told = set()
    for key in BOUNDS:
        *groups, name = key.split(".")
        owner = functools.reduce(lambda owner, one: getattr(owner, one, None), groups, config)
        if not key.startswith(group) or not hasattr(owner, name):
            continue
        old = getattr(owner, name)
        setattr(owner, name, [value] if isinstance(old, list) else value)
        found = [fault for fault in bound_faults(config) if fault.key == key]
        setattr(owner, name, old)
        assert [fault.problem for fault in found] == [f"{value} is not in {BOUNDS[key][0]} to {BOUNDS[key][1]}"]
        told.add(key)
    return told
