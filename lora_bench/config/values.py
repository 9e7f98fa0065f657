"""Why a value does not fit its key, in words, and the nearest value that does."""

from __future__ import annotations

import re
import sys
from enum import Enum
from typing import Any

from omegaconf import (
    AnyNode,
    BooleanNode,
    DictConfig,
    EnumNode,
    FloatNode,
    IntegerNode,
    ListConfig,
    OmegaConf,
    StringNode,
)
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from lora_bench.errors import cut_numbers, suggest

_KINDS = {IntegerNode: "a whole number", FloatNode: "a number", BooleanNode: "true or false"}
_TOO_LONG = re.compile(rf"\d{{{sys.int_info.default_max_str_digits + 1},}}")
MOST_SHOWN = 60
"""Characters of a value that are repeated in a message."""


def value_problem(tree: DictConfig, key: str, value: Any, text: str) -> str | None:
    """Return what keeps this value from this key, or None.

    Args:
        tree: The composed configuration, which has the key.
        key: Dotted.
        value: As Hydra's grammar read it.
        text: As the user wrote it.
    """
    trial = tree.copy()
    try:
        OmegaConf.update(trial, key, value, merge=True)
        OmegaConf.select(trial, key)
    except InterpolationResolutionError as err:
        return f"{_first_line(err)} (given: {shown(text)})"
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError, AttributeError) as err:
        return _explain(_node(tree, key), value, text) or f"{_first_line(err)} (given: {shown(text)})"
    node = _node(tree, key)
    is_nested = isinstance(value, list) and any(isinstance(entry, list | dict) for entry in value)
    if (isinstance(value, dict) and isinstance(node, AnyNode | ListConfig)) or (is_nested and _is_typed(node)):
        return _explain(node, value, text)
    return None


def shown(text: str) -> str:
    """Return a value as it is repeated in a message: in one line, without quotes, its end left out where it is long."""
    line = " ".join(text.split()) if "\n" in text else text
    if len(line) > 1 and line[0] in "'\"" and line[0] == line[-1] and line[0] not in line[1:-1]:
        line = line[1:-1]
    line = cut_numbers(line)
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]}..."


def digits_problem(text: str) -> str | None:
    """Return what is wrong with a value that holds a number of more digits than Python converts, or None."""
    found = _TOO_LONG.search(text)
    return f"a number of {len(found[0])} digits is no value of any key; give a shorter one" if found else None


def _explain(node: Any, value: Any, text: str) -> str | None:
    optional = node is not None and node._metadata.optional
    or_null = "; null is accepted too" if optional else ""
    if not text:
        return f"has no value{_expected(node)}{or_null}"
    given = f"'{shown(text)}'"
    if value is None and not optional:
        return f"null is not accepted here{_expected(node)}"
    if isinstance(node, EnumNode):
        members: list[Enum] = list(node.enum_type)
        names = [member.name for member in members]
        return f"no choice {given}{suggest(text.lower(), names)}; accepted: {', '.join(names)}{or_null}"
    kind = next((words for cls, words in _KINDS.items() if isinstance(node, cls)), None)
    if kind is not None:
        return f"{given} is not {kind}{or_null}"
    if isinstance(node, ListConfig):
        return f"{given} is not a list{_entries(node)}"
    if isinstance(node, DictConfig):
        return f"{given} is not a group of keys; set one of them: {', '.join(map(str, node))}"
    if isinstance(node, StringNode):
        return f"{given} is not text{or_null}"
    if isinstance(node, AnyNode):
        return f"{given} is not a single value"
    return None


def _expected(node: Any) -> str:
    kind = next((words for cls, words in _KINDS.items() if isinstance(node, cls)), None)
    if isinstance(node, EnumNode):
        return f"; accepted: {', '.join(member.name for member in node.enum_type)}"
    return f"; give {kind}" if kind else ""


def _entries(node: ListConfig) -> str:
    kinds = {int: " of whole numbers: [0,1,2]", str: " of words: [a,b]"}
    return kinds.get(node._metadata.element_type, "")


def _is_typed(node: Any) -> bool:
    """Whether a list has entries of one plain type."""
    return isinstance(node, ListConfig) and node._metadata.element_type in (int, str)


def _node(tree: DictConfig, key: str) -> Any:
    """The node of a key, whatever it holds."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none():
            return None
        node = node._get_node(part)
    return node


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
