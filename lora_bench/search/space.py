"""What a study varies: dimensions in Hydra's sweep syntax, from the command line or from a study file.

A *dimension* is one key with the values it may take. A *point* gives every dimension a value, less those whose
condition does not hold there; its *words* are the overrides that a run is composed from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from lora_bench.config.overrides import parse, split_values
from lora_bench.errors import ConfigError, Fault, suggest

Value = str | int | float
"""A choice is the text of its override; a number of a range or an interval is a number."""
Point = dict[str, Value]
Condition = Mapping[str, tuple[str, ...]]
"""Key -> texts of the values with which a dimension exists; all keys must agree."""


@dataclass(frozen=True)
class Dimension:
    """One key that is varied: over listed values, or between two bounds."""

    key: str
    """As on the command line; with its `+` where the key is added."""
    text: str
    """What the user wrote, to show and to compare."""
    values: tuple[str, ...] = ()
    """Every value as override text; empty for an interval."""
    low: float | int | None = None
    """Smallest number of a range or an interval; None for a choice."""
    high: float | int | None = None
    """Largest number, itself included."""
    step: float | int | None = None
    is_log: bool = False
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_int(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Value, ...]:
        """Its values, or its two bounds."""
        if self.low is None or self.high is None or self.values:
            return self.values
        return self.low, self.high

    def exists_at(self, point: Mapping[str, Value]) -> bool:
        """Whether its condition holds where the dimensions before it have these values."""
        return all(key in point and as_text(point[key]) in accepted for key, accepted in self.when)

    def as_data(self) -> Any:
        """For the study's question: the values, however they were written, with their condition if they have one."""
        values = ", ".join(self.values) or self.text
        return {"values": values, "when": {key: list(texts) for key, texts in self.when}} if self.when else values


@dataclass(frozen=True)
class Space:
    """Dimensions in their order; one may depend on those before it."""

    dimensions: tuple[Dimension, ...] = ()

    @property
    def is_discrete(self) -> bool:
        """Whether every value is listed, so that the space is a grid."""
        return all(dimension.values for dimension in self.dimensions)

    @property
    def is_conditional(self) -> bool:
        """Whether some dimension exists only with some values of another."""
        return any(dimension.when for dimension in self.dimensions)

    def draw(self, choose: Callable[[Dimension], Value]) -> Point:
        """A point, each of its values chosen in turn."""
        point: Point = {}
        for dimension in self.dimensions:
            if dimension.exists_at(point):
                point[dimension.key] = choose(dimension)
        return point

    def points(self) -> Iterator[Point]:
        """Every point of a discrete space, each once; the last dimension varies fastest."""
        assert self.is_discrete, "an interval has no list of points"
        yield from self._points({}, self.dimensions)

    def _points(self, begun: Point, left: Sequence[Dimension]) -> Iterator[Point]:
        if not left:
            yield begun
            return
        if not left[0].exists_at(begun):
            yield from self._points(begun, left[1:])
            return
        for value in left[0].values:
            yield from self._points({**begun, left[0].key: value}, left[1:])

    def corners(self) -> Iterator[Point]:
        """Points that show each value of each choice and both ends of each interval at least once."""
        for index in range(max((len(dimension.ends) for dimension in self.dimensions), default=1)):
            yield self.draw(functools.partial(_end, index))

    def without(self, drop: Callable[[str], bool]) -> Space:
        """The space less the keys that are to be dropped, and less what depended on them."""
        kept = tuple(d for d in self.dimensions if not drop(d.key) and not any(drop(key) for key, _ in d.when))
        return Space(kept)


def _end(index: int, dimension: Dimension) -> Value:
    return dimension.ends[min(index, len(dimension.ends) - 1)]


def words_of(point: Mapping[str, Value]) -> list[str]:
    """The overrides that a point stands for."""
    return [f"{key}={as_text(value)}" for key, value in point.items()]


def as_text(value: Value) -> str:
    """A value as override text; a float keeps every digit that tells it from its neighbours."""
    return value if isinstance(value, str) else repr(value)


def dimension_from(item: Override, when: Condition | None = None) -> Dimension:
    """The dimension of a parsed override; a plain value is a choice of one.

    Raises:
        ConfigError: If its bounds make no range.
    """
    prefix = "++" if item.is_force_add() else "+" if item.is_add() else ""
    key, text, value = item.key_or_group, item.get_value_string(), item._value
    condition = tuple((name, tuple(texts)) for name, texts in (when or {}).items())
    common: dict[str, Any] = {"key": prefix + key, "text": text, "when": condition}
    if isinstance(value, IntervalSweep):
        return Dimension(**common, **_interval_bounds(key, value))
    values = tuple(dict.fromkeys(split_values(item)))
    if isinstance(value, RangeSweep) and len(values) > 1 and not value.shuffle:
        numbers = [_number(text) for text in values]
        return Dimension(
            **common,
            values=values,
            low=min(numbers),
            high=max(numbers),
            # Optuna has no step on a log scale; a range of whole numbers then has step 1, others stay a choice.
            step=abs(value.step) if value.step is not None else 1,
            is_log="log" in value.tags and abs(value.step or 1) == 1,
        )
    return Dimension(**common, values=values)


def space_from_data(data: Mapping[str, Any], *, where: str) -> Space:
    """The space of a study file: key -> sweep syntax, list, plain value, or a mapping of `values` and `when`.

    Raises:
        ConfigError: With every fault found; `where` is the name of the file and section.
    """
    dimensions: list[Dimension] = []
    faults: list[Fault] = []
    for key, given in data.items():
        try:
            dimensions.append(_dimension_from_data(str(key), given))
        except ConfigError as err:
            faults.extend(Fault(f"{where}.{key}", fault.problem) for fault in err.faults)
    known: list[str] = []
    for dimension in dimensions:
        for key, _ in dimension.when:
            if key not in known:
                near = suggest(key, known)
                faults.append(
                    Fault(f"{where}.{dimension.key}.when", f"'{key}' is not a dimension before this one{near}")
                )
        known.append(dimension.key)
    if faults:
        raise ConfigError(faults)
    return Space(tuple(dimensions))


def override_text(value: Any) -> str:
    """A value of a YAML file as the text of an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_text(entry)}" for key, entry in value.items()) + "}"
    return repr(value) if isinstance(value, float) else str(value)


def _dimension_from_data(key: str, given: Any) -> Dimension:
    when: Condition = {}
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - {"values", "when"})
        if unknown or "values" not in given:
            wrong = f"no key '{unknown[0]}' here" if unknown else "`values` is missing"
            raise ConfigError([Fault(key, f"{wrong}; a dimension has `values`, and `when` if it depends on another")])
        when = {
            str(name): tuple(map(override_text, accepted if isinstance(accepted, list) else [accepted]))
            for name, accepted in (given.get("when") or {}).items()
        }
        given = given["values"]
    text = ",".join(map(override_text, given)) if isinstance(given, list) else override_text(given)
    return dimension_from(parse([f"{key}={text}"])[0], when)


def _interval_bounds(key: str, value: IntervalSweep) -> dict[str, Any]:
    low, high = value.start, value.end
    is_log = "log" in value.tags
    if low is None or high is None or not low < high or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError([Fault(key, f"interval({low},{high}) is empty; give interval(low,high) with low < high")])
    if is_log and low <= 0:
        raise ConfigError([Fault(key, f"interval({low},{high}) starts at {low}, and a log scale needs it above 0")])
    if "int" in value.tags or (isinstance(low, int) and isinstance(high, int)):
        return {"low": int(low), "high": int(high), "is_log": is_log}
    return {"low": float(low), "high": float(high), "is_log": is_log}


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and "." not in text and "e" not in text.lower() else value
