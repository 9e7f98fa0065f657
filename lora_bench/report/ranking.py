"""Ranks methods, each at its best setting; those inside each other's noise share a rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_bench.report.agreement import Fields
from lora_bench.report.items import Items, item_sums, item_weights, read_items
from lora_bench.report.pairs import ALPHA, Pairs, compare_pairs
from lora_bench.report.rows import Row, headline_score
from lora_bench.report.statistics import Estimate

EDGES = ("lower edge", "upper edge")


@dataclass(frozen=True)
class Contender:
    """One method at the best of its settings."""

    row: Row
    num_settings: int
    """Finished settings that this one is the best of."""
    edge: str | None
    """Where its learning rate lies among those of its method: `inside`, or one of EDGES; None if there was but one."""

    @property
    def is_at_edge(self) -> bool:
        """Whether a better rate may lie beyond those that were asked."""
        return self.edge in EDGES


@dataclass(frozen=True)
class Place:
    """A contender in the ranking."""

    rank: int
    """1 + the number of rows above this rank, as in sports: 1, 1, 1, 4."""
    contender: Contender
    difference: Estimate | None
    """To the first row, with its corrected interval; None for that row."""


@dataclass(frozen=True)
class Ranking:
    """Contenders from good to bad."""

    fields: Fields
    """What all of their runs share."""
    headline: str
    higher_is_better: bool
    places: tuple[Place, ...]
    level: float
    """Of a single comparison, after the correction."""
    remarks: tuple[str, ...] = ()
    """Sentences about what is in no place."""

    @property
    def num_comparisons(self) -> int:
        """Pairs of places."""
        return len(self.places) * (len(self.places) - 1) // 2


def build_ranking(fields: Fields, contenders: Sequence[Contender], remarks: Sequence[str] = ()) -> Ranking:
    """Ranks contenders that answered the same items on the same number of seeds; others are named, not ranked.

    A row shares the rank of the row above it if it is inside the noise of the best row of that rank, so if the
    corrected interval of their paired difference holds 0; else it opens a rank of its own.

    Raises:
        ValueError: If there are no contenders.
    """
    if not contenders:
        raise ValueError("a ranking of no methods")
    score = headline_score(contenders[0].row.finished[0])
    assert score is not None, "a finished run has a headline score"
    ordered = sorted(contenders, key=_quality, reverse=score.higher_is_better)
    answers = [[read_items(run, score.name) for run in one.row.finished] for one in ordered]
    order = next((items[0] for items in answers if items[0]), {})
    kept = [index for index, items in enumerate(answers) if _can_be_paired(items, order, len(answers[0]))]
    left_out = ", ".join(one.row.label for index, one in enumerate(ordered) if index not in kept)
    if left_out:
        remarks = [*remarks, f"Not ranked, since their predictions are not of the same items and seeds: {left_out}."]
    if len(kept) < 2 or len(order) < 2:
        return Ranking(fields, score.name, score.higher_is_better, (), ALPHA, tuple(remarks))
    sums_MSN = np.array([item_sums(answers[index], order) for index in kept])
    pairs = compare_pairs(sums_MSN, item_weights(order))
    places = tuple(
        Place(rank, ordered[index], pairs.difference(number, 0) if number else None)
        for number, (index, rank) in enumerate(zip(kept, _ranks(pairs), strict=True))
    )
    return Ranking(fields, score.name, score.higher_is_better, places, pairs.level, tuple(remarks))


def ranking_json(ranking: Ranking) -> dict[str, Any]:
    """The same as plain data, with full digits."""
    return {
        "fields": ranking.fields,
        "headline": ranking.headline,
        "higher_is_better": ranking.higher_is_better,
        "num_comparisons": ranking.num_comparisons,
        "level": ranking.level,
        "places": [_place_json(place) for place in ranking.places],
        "remarks": list(ranking.remarks),
    }


def _place_json(place: Place) -> dict[str, Any]:
    row, difference = place.contender.row, place.difference
    assert row.quality is not None, "only rows with a score are ranked"
    return {
        "rank": place.rank,
        "method": row.records[0].config["method"]["name"],
        "label": row.label,
        "lr": row.records[0].config["training"]["lr"],
        "lr_edge": place.contender.edge,
        "num_settings": place.contender.num_settings,
        "seeds": row.seeds,
        "quality": vars(row.quality),
        "difference_to_first": vars(difference) if difference else None,
        **row.costs,
        "runs": [str(record.run.path) for record in row.records],
    }


def _ranks(pairs: Pairs) -> list[int]:
    """Of rows in their order."""
    ranks, best = [], 0
    for row in range(len(pairs.scores)):
        if not pairs.difference(row, best).is_inside_noise:
            best = row
        ranks.append(best + 1)
    return ranks


def _can_be_paired(runs: Sequence[Items], order: Items, num_seeds: int) -> bool:
    return bool(order) and len(runs) == num_seeds and all(items.keys() == order.keys() for items in runs)


def _quality(contender: Contender) -> float:
    assert contender.row.quality is not None, "only rows with a score are ranked"
    return contender.row.quality.value
