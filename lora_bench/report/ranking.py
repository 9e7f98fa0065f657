"""Ranks methods, each at the setting that validation items chose; those inside each other's noise share a rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.report.agreement import Fields
from lora_bench.report.candidates import TEST, Candidate
from lora_bench.report.items import answered, item_sums, item_weights, read_items
from lora_bench.report.pairs import ALPHA, Pairs, compare_pairs
from lora_bench.report.rows import Row, headline_score
from lora_bench.report.verdicts import AT_EDGE, ONE_SEED, Difference, Rule, difference_json, judge_pair


@dataclass(frozen=True)
class Place:
    """A candidate in the ranking."""

    rank: int | None
    """1 + the number of rows above this rank, as in sports: 1, 1, 1, 4. None where nothing may be said."""
    candidate: Candidate
    difference: Difference | None
    """To the first row, corrected for all pairs; None for that row."""
    obstacle: str = ""
    """Why it has no rank."""

    @property
    def row(self) -> Row:
        """The setting that was chosen."""
        assert self.candidate.chosen is not None, "only candidates that finished are ranked"
        return self.candidate.chosen


@dataclass(frozen=True)
class Ranking:
    """Candidates from good to bad."""

    fields: Fields
    """What all of their runs share."""
    headline: str
    rule: Rule
    """With its corrections."""
    places: tuple[Place, ...]
    remarks: tuple[str, ...] = ()
    """Sentences about what is in no place."""

    @property
    def num_comparisons(self) -> int:
        """Pairs of places that have a rank."""
        num_ranked = sum(place.rank is not None for place in self.places)
        return num_ranked * (num_ranked - 1) // 2


def build_ranking(
    fields: Fields, candidates: Sequence[Candidate], remarks: Sequence[str] = (), *, margin: float | None = None
) -> Ranking:
    """Rank candidates that answered the same items on two seeds or more; others are named or have no rank.

    A row shares the rank of the row above it if it is inside the noise of the best row of that rank, so if the
    corrected interval of their paired difference holds 0; else it opens a rank of its own. A row of one seed, or with
    its best rate at the edge of its space, stands at its score without a rank.

    Raises:
        ValueError: If no candidate has finished.
    """
    finished = [one for one in candidates if one.chosen is not None]
    if not finished:
        raise ValueError("a ranking of no methods")
    score = headline_score(_chosen(finished[0]).finished[0])
    assert score is not None, "a finished run has a headline score"
    ordered = sorted(finished, key=_quality, reverse=score.higher_is_better)
    answers = [[read_items(run, score.name) for run in _chosen(one).finished] for one in ordered]
    order = next((items[0] for items in answers if items[0]), {})
    kept = [index for index, items in enumerate(answers) if answered(items, order)]
    left_out = ", ".join(_chosen(one).label for index, one in enumerate(ordered) if index not in kept)
    if left_out:
        remarks = [*remarks, f"Not ranked, since their predictions are not of the same items: {left_out}."]
    if len(kept) < 2:
        return Ranking(fields, score.name, Rule(score.higher_is_better, margin), (), tuple(remarks))
    pairs = compare_pairs([item_sums(answers[index], order) for index in kept], item_weights(order))
    places, rule = place_candidates([ordered[index] for index in kept], pairs, score.higher_is_better, margin)
    return Ranking(fields, score.name, rule, places, tuple(remarks))


def place_candidates(
    ordered: Sequence[Candidate], pairs: Pairs, higher_is_better: bool, margin: float | None
) -> tuple[tuple[Place, ...], Rule]:
    """Return the places of candidates in their order, and the rule with its corrected levels."""
    obstacles = [_obstacle(one, seeds) for one, seeds in zip(ordered, pairs.num_seeds, strict=True)]
    ranked = [index for index, obstacle in enumerate(obstacles) if not obstacle]
    rule = Rule(
        higher_is_better,
        margin,
        num_rows=len(ranked),
        equal_level=ALPHA if margin is None else pairs.equal_level(ranked, margin=margin),
    )
    ranks = dict(zip(ranked, rank_rows(pairs, ranked), strict=True))
    first = ranked[0] if ranked else 0
    return tuple(
        Place(
            ranks.get(index),
            one,
            None if index == first else judge_pair(pairs, index, first, rule, obstacles=_edge_obstacle(one)),
            obstacles[index],
        )
        for index, one in enumerate(ordered)
    ), rule


def rank_rows(pairs: Pairs, rows: Sequence[int]) -> list[int]:
    """Return the rank of each of these rows, which stand in their order from good to bad.

    All pairs are corrected for, not only those with the best, which was made the best by the same scores. Tukey's range
    told some of 24 equal rows apart in 0.04 to 0.06 of simulated studies, Holm's steps over the same pairs in 0.02 to
    0.04 (`benchmarks/verdict_rates.py`).
    """
    ranks, best, best_rank = [], 0, 1
    for number, row in enumerate(rows):
        if number and not pairs.difference(row, rows[best], num_rows=len(rows)).is_inside_noise:
            best, best_rank = number, number + 1
        ranks.append(best_rank)
    return ranks


def ranking_json(ranking: Ranking) -> dict[str, Any]:
    """The same as plain data, with full digits."""
    return {
        "fields": ranking.fields,
        "headline": ranking.headline,
        "higher_is_better": ranking.rule.higher_is_better,
        "margin": ranking.rule.margin,
        "num_comparisons": ranking.num_comparisons,
        "correction": f"Tukey's range over {ranking.rule.num_rows} rows",
        "places": [_place_json(place) for place in ranking.places],
        "remarks": list(ranking.remarks),
    }


def _place_json(place: Place) -> dict[str, Any]:
    row, candidate = place.row, place.candidate
    assert row.quality is not None, "only rows with a score are ranked"
    return {
        "rank": place.rank,
        "not_ranked_because": place.obstacle or None,
        "method": row.method,
        "label": row.label,
        "lr": row.rate,
        "lr_edge": candidate.edge,
        "num_settings": len(candidate.settings),
        "chosen_on": candidate.chosen_on,
        "judged_on": TEST,
        "choosing_score": row.choosing,
        "seeds": row.seeds,
        "quality": vars(row.quality),
        "difference_to_first": difference_json(place.difference),
        **row.costs,
        "runs": [str(record.run.path) for record in row.records],
    }


def _obstacle(candidate: Candidate, num_seeds: int) -> str:
    return "; ".join([*([ONE_SEED] if num_seeds < 2 else []), *_edge_obstacle(candidate)])


def _edge_obstacle(candidate: Candidate) -> list[str]:
    return [AT_EDGE] if candidate.is_at_edge else []


def _chosen(candidate: Candidate) -> Row:
    assert candidate.chosen is not None, "only candidates that finished are ranked"
    return candidate.chosen


def _quality(candidate: Candidate) -> float:
    quality = _chosen(candidate).quality
    assert quality is not None, "only rows with a score are ranked"
    return quality.value
