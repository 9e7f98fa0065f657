"""Which rows are judged: settings are chosen on validation items, and the chosen ones are compared on test items.

A *setting* is a row. A *candidate* is what a comparison asks about, at the setting that validation items chose:

- rows that differ in their learning rate alone are settings of one candidate, so that each rank, placement or method
  stands at its best rate;
- the points of a search, each with a rate of its own, are settings of their method;
- every row of the baseline's method is a setting of the baseline.

Only the chosen row of a candidate is compared with the baseline, which was chosen in the same way. A row that lost on
validation items says what a bad rate does, not what a method gives, and has no verdict. Choosing on the items that
judge lifts the side with more settings: in simulation (`benchmarks/verdict_rates.py`), the best of ten equal rates was
called better or worse than a single one in 0.11 to 0.16 of tables. Validation items take off what items add to that,
not what seeds add, since the chosen runs are judged with the seeds that chose them: 0.03 to 0.11. With as many settings
on both sides it is below 0.05, so that tables name the numbers where they differ.

An *edge* is the lowest or the highest rate that was asked. A better one may lie beyond it, so it forbids a verdict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lora_bench.report.rows import Row

INSIDE = "inside"
EDGES = ("lower edge", "upper edge")
VALIDATION, TEST = "validation", "test"
"""The items that a choice was made on; test items where a record has no others."""
FEWEST_POINTS = 4
"""Rows of one method, each with a rate of its own, from which on they are taken for the points of a search."""

Edges = Mapping[str, str]
"""Name of a run directory -> where its rate lies in the space of its study: INSIDE or one of EDGES."""


@dataclass(frozen=True)
class Candidate:
    """Settings of which one is compared."""

    settings: tuple[Row, ...]
    """All that were tried, also those that did not finish."""
    chosen: Row | None
    """The best by validation items; None while none has finished."""
    chosen_on: str
    """VALIDATION or TEST."""
    edge: str | None
    """Where the chosen rate lies: INSIDE, one of EDGES, or None if one rate was tried."""

    @property
    def is_at_edge(self) -> bool:
        """Whether a better rate may lie beyond those that were asked."""
        return self.edge in EDGES


def choose(settings: Sequence[Row], edges: Edges, *, higher_is_better: bool) -> Candidate:
    """Choose the setting with the best mean over validation items, among those that finished on every seed.

    If a setting has no validation items, all of them are chosen by the items that they are judged on.
    """
    finished = [row for row in settings if row.finished and row.quality is not None]
    whole = [row for row in finished if not row.trouble] or finished
    is_validated = all(row.is_validated for row in whole)
    chosen_on = VALIDATION if whole and is_validated else TEST
    if not whole:
        return Candidate(tuple(settings), None, chosen_on, None)
    sign = 1 if higher_is_better else -1
    # Of equal means, one inside: a plateau that reaches an edge has its best inside as well.
    at = {id(row): _edge(row, settings, edges) for row in whole}
    chosen = max(whole, key=lambda row: (sign * _mean(row, chosen_on), at[id(row)] not in EDGES))
    return Candidate(tuple(settings), chosen, chosen_on, at[id(chosen)])


def group_settings(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the settings of each candidate, in the order of their first rows; the baseline's rows are one group."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    groups: list[list[Row]] = []
    for members in by_method.values():
        if members[0].is_baseline_method or _is_search(members):
            groups.append(members)
            continue
        by_rest: dict[str, list[Row]] = {}
        for row in members:
            by_rest.setdefault(_without_rate(row), []).append(row)
        groups.extend(by_rest.values())
    return groups


def edge_among(rate: float, rates: Sequence[float]) -> str | None:
    """Return where a rate lies among listed ones; None if there is but one."""
    ordered = sorted(set(rates))
    if len(ordered) < 2:
        return None
    return dict(zip((ordered[0], ordered[-1]), EDGES, strict=True)).get(rate, INSIDE)


def _is_search(members: Sequence[Row]) -> bool:
    return len(members) >= FEWEST_POINTS and len({row.rate for row in members}) == len(members)


def _mean(row: Row, chosen_on: str) -> float:
    value = row.choosing if chosen_on == VALIDATION else row.quality.value if row.quality else None
    assert value is not None, "only finished rows are chosen among"
    return value


def _edge(chosen: Row, settings: Sequence[Row], edges: Edges) -> str | None:
    """As its study says; without a study, among the rates of the rows that differ in nothing else."""
    of_study = {edges[name] for record in chosen.records if (name := record.run.path.name) in edges}
    among = edge_among(chosen.rate, [row.rate for row in settings if _without_rate(row) == _without_rate(chosen)])
    if INSIDE in (among, *of_study):
        return INSIDE
    return next(iter(sorted(of_study)), among)


def _without_rate(row: Row) -> str:
    compared = {**row.compared, "training": {**row.compared["training"], "lr": None}}
    return json.dumps(compared, sort_keys=True)
