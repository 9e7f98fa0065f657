"""Where the learning rate of a trial lies in the space that its study asked: inside, or at an edge of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from lora_bench.config.overrides import parse
from lora_bench.report.candidates import EDGES, INSIDE, edge_among
from lora_bench.search.space import Dimension, Value, dimension_from
from lora_bench.search.studydir import StudyDir, TrialLine

RATES = ("training.lr_scale", "training.lr")
"""What a learning rate is varied by."""
EDGE_SHARE = 0.1
"""Part of an interval, on its own scale, that counts as its edge: a search whose optimum lies beyond a bound crowds
near that bound, and seldom draws the bound itself. assumption: a tenth, a factor of 1.6 in two decades."""

Arms = Mapping[str, Mapping[str, Dimension]]
"""Arm -> bare key -> what it is varied over."""


def read_arms(question: Mapping[str, object]) -> Arms:
    """Return the rates of each arm of a question on record."""
    arms = question.get("arms")
    if not isinstance(arms, Mapping):
        return {}
    return {name: dict(_rates_of(arm.get("space") or {})) for name, arm in arms.items()}


def rate_edge(line: TrialLine, arms: Arms) -> str | None:
    """Return where a trial's rate lies in the space of its arm; None where its rate is not varied."""
    point = {key.lstrip("+"): value for key, value in line.point.items()}
    dimensions = arms.get(line.arm, {})
    return next((edge_of(point[key], dimensions[key]) for key in RATES if key in point and key in dimensions), None)


def edge_of(value: Value, dimension: Dimension) -> str | None:
    """Return where a number lies among a dimension's values or between its bounds; None if there is but one."""
    if dimension.values:
        return edge_among(float(value), [float(text) for text in dimension.values])
    assert dimension.low is not None, "an interval has bounds"
    assert dimension.high is not None, "an interval has bounds"
    scale = math.log if dimension.is_log else float
    low, high, own = (scale(float(number)) for number in (dimension.low, dimension.high, value))
    share = (own - low) / (high - low)
    return EDGES[0] if share <= EDGE_SHARE else EDGES[1] if share >= 1 - EDGE_SHARE else INSIDE


def rate_edges(directories: Iterable[StudyDir]) -> dict[str, str]:
    """Return, of the runs of these studies, where their rates lie. A run of several is inside if it is so in one."""
    edges: dict[str, str] = {}
    for directory in directories:
        arms = read_arms(directory.read_question()["question"])
        for line in directory.read_trials():
            edge = rate_edge(line, arms)
            for name in line.runs if edge else ():
                edges[name] = INSIDE if INSIDE in (edge, edges.get(name)) else str(edge)
    return edges


def _rates_of(space: Mapping[str, object]) -> Iterable[tuple[str, Dimension]]:
    for key, given in space.items():
        bare = key.lstrip("+")
        text = given["values"] if isinstance(given, Mapping) else given
        if bare in RATES:
            yield bare, dimension_from(parse([f"{bare}={text}"])[0])
