"""Builds the comparison: tables of runs that agree in all that is held fixed, each beside its baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.records import RunResult
from lora_bench.report.agreement import Fields, differing, split_by_agreement
from lora_bench.report.candidates import TEST, Candidate, Edges, choose, group_settings
from lora_bench.report.items import answered, item_sums, item_weights, read_items
from lora_bench.report.load import load_records
from lora_bench.report.pairs import compare_pairs
from lora_bench.report.rows import COSTS, Row, build_rows, headline_score
from lora_bench.report.select import sort_rows
from lora_bench.report.statistics import Estimate
from lora_bench.report.verdicts import AT_EDGE, Difference, Rule, difference_json, judge_pair
from lora_bench.rundir import RunDir

BASELINE_METHOD = "full"
BASELINE, CHOSEN, SETTING = "baseline", "chosen", "setting"
"""What a row is: compared with, compared, or a setting that was not chosen (see `candidates`)."""


@dataclass(frozen=True)
class Line:
    """A row in its table."""

    row: Row
    part: str
    """BASELINE, CHOSEN or SETTING."""
    candidate: Candidate
    """What it is a setting of."""
    difference: Difference | None
    """To the baseline, of a chosen row that answered the same items."""


@dataclass(frozen=True)
class Table:
    """Rows that may be compared, and the row that they are compared with."""

    fields: Fields
    """What all of its runs share."""
    lines: list[Line]
    baseline: Row | None
    """The row of full fine-tuning that validation items chose."""
    headline: str
    rule: Rule
    notes: list[str]
    """What its runs want their readers to know."""

    @property
    def rows(self) -> list[Row]:
        """Its rows in their order."""
        return [line.row for line in self.lines]

    def cost_ratio(self, row: Row, name: str) -> float | None:
        """To the baseline; None if either is unknown."""
        return _ratio(row.costs[name], self.baseline.costs[name] if self.baseline else None)

    def quality_ratio(self, row: Row) -> float | None:
        """To the baseline; None if either is unknown."""
        own = row.quality.value if row.quality else None
        return _ratio(own, self.baseline.quality.value if self.baseline and self.baseline.quality else None)


@dataclass(frozen=True)
class Comparison:
    """All tables, what keeps them apart, and what is in none."""

    tables: list[Table]
    differs: dict[str, list[str]]
    """Field -> its value in each table."""
    left_out: list[str]
    """Sentences about runs without a result."""


def build_comparison(
    runs: Sequence[RunDir], *, margin: float | None = None, edges: Edges | None = None, sort: str | None = None
) -> Comparison:
    """Read the runs and compare them. Runs without a result are counted and left out.

    Args:
        runs: Their directories.
        margin: Differences of the headline score below it are called equal; None asks only which is better.
        edges: Where rates lie in the spaces of their studies; the rates of a table are its own space where a run is
            not in it.
        sort: Key of `select.sort_rows`; None keeps the order of `build_rows`.
    """
    records, problems = load_records(runs)
    waiting = Counter(record.state for record in records if record.result is None)
    left_out = [f"{count} {state}, not in the table yet" for state, count in sorted(waiting.items())] + problems
    groups = split_by_agreement([record for record in records if record.result is not None])
    tables = [
        _build_table(fields, sort_rows(build_rows(members, baseline_method=BASELINE_METHOD), sort), margin, edges or {})
        for fields, members in groups
    ]
    return Comparison(tables, differing([fields for fields, _ in groups]), left_out)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The same as plain data, with full digits."""
    return {
        "tables": [_table_json(table) for table in comparison.tables],
        "differs": comparison.differs,
        "left_out": comparison.left_out,
    }


def _build_table(fields: Fields, rows: list[Row], margin: float | None, edges: Edges) -> Table:
    scores = [score for row in rows for record in row.finished if (score := headline_score(record)) is not None]
    rule = Rule(scores[0].higher_is_better if scores else True, margin)
    candidates = [choose(group, edges, higher_is_better=rule.higher_is_better) for group in group_settings(rows)]
    baseline = next((one for one in candidates if one.chosen is not None and one.chosen.is_baseline_method), None)
    headline = scores[0].name if scores else "quality"
    results = [record.result for row in rows for record in row.records if record.result is not None]
    differences = _differences(candidates, baseline, rule, headline) if baseline else {}
    of_row = {id(row): candidate for candidate in candidates for row in candidate.settings}
    return Table(
        fields=fields,
        lines=[_line(row, of_row[id(row)], baseline, differences.get(id(row))) for row in rows],
        baseline=baseline.chosen if baseline else None,
        headline=headline,
        rule=rule,
        notes=[*_choice_notes(candidates, baseline), *_notes(results)],
    )


def _line(row: Row, candidate: Candidate, baseline: Candidate | None, difference: Difference | None) -> Line:
    part = SETTING if row is not candidate.chosen else BASELINE if candidate is baseline else CHOSEN
    return Line(row, part, candidate, difference)


def _differences(
    candidates: Sequence[Candidate], baseline: Candidate, rule: Rule, headline: str
) -> dict[int, Difference]:
    """Of the chosen rows that answered the baseline's items, by `id`; the spread over seeds is pooled over them."""
    assert baseline.chosen is not None, "a baseline has finished"
    answers = {
        id(one): [read_items(run, headline) for run in one.chosen.finished]
        for one in candidates
        if one.chosen is not None
    }
    order = next(iter(answers[id(baseline)]), {})
    judged = [one for one in candidates if one.chosen is not None and answered(answers[id(one)], order)]
    if baseline not in judged:
        return {}
    pairs = compare_pairs([item_sums(answers[id(one)], order) for one in judged], item_weights(order))
    against = judged.index(baseline)
    return {
        id(one.chosen): judge_pair(pairs, index, against, rule, obstacles=_obstacles(one, baseline))
        for index, one in enumerate(judged)
        if one is not baseline
    }


def _obstacles(candidate: Candidate, baseline: Candidate) -> list[str]:
    """What forbids a verdict: seeds that did not finish (the others may be the lucky ones), a rate at an edge."""
    rows = [one.chosen for one in (candidate, baseline) if one.chosen is not None]
    trouble = [row.trouble for row in rows if row.trouble]
    return [*trouble, *([AT_EDGE] if candidate.is_at_edge or baseline.is_at_edge else [])]


def _choice_notes(candidates: Sequence[Candidate], baseline: Candidate | None) -> Iterator[str]:
    finished = [one for one in candidates if one.chosen is not None]
    chosen = [one for one in finished if len(one.settings) > 1]
    unvalidated = [one for one in finished if one.chosen_on == TEST]
    if unvalidated:
        some = "" if len(unvalidated) == len(finished) else f" for {_labels(unvalidated)}"
        yield (
            f"No validation items on record{some}: settings are chosen and judged on the same items, which favours "
            "whichever has more settings."
        )
    elif chosen:
        yield "Settings are chosen on validation items and judged on test items; the others have no verdict."
    if baseline is None:
        return
    by_number: dict[int, list[Candidate]] = {}
    for one in finished:
        by_number.setdefault(len(one.settings), []).append(one)
    if len(by_number) > 1:
        numbers = "; ".join(f"{number} for {_labels(by_number[number])}" for number in sorted(by_number, reverse=True))
        why = "more of them favour a side on test items too, where its lucky seeds are the same"
        yield f"Not the same number of settings was tried ({why}): {numbers}."
    if at_edge := [one for one in finished if one.is_at_edge]:
        rates = ", ".join(f"{_labels([one])} (lr {one.chosen.rate:g}, {one.edge})" for one in at_edge if one.chosen)
        yield f"Best rate at the edge of its space, beyond which may be a better one: {rates}."


def _labels(candidates: Sequence[Candidate]) -> str:
    return ", ".join(one.chosen.label for one in candidates if one.chosen is not None)


def _notes(results: Sequence[RunResult]) -> list[str]:
    """Each note once, with how many of the runs it concerns unless it is all."""
    counts = Counter(note for result in results for note in result.notes)
    total = len(results)
    if num_groups := sum(result.processes is not None for result in results):
        counts["memory of runs with several processes is that of the largest of them"] = num_groups
    return [note if count == total else f"{note} ({count} of {total} runs)" for note, count in counts.items()]


def _ratio(own: float | None, baseline: float | None) -> float | None:
    return own / baseline if own is not None and baseline else None


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "fields": table.fields,
        "headline": table.headline,
        "higher_is_better": table.rule.higher_is_better,
        "margin": table.rule.margin,
        "rows": [_line_json(table, line) for line in table.lines],
        "notes": table.notes,
    }


def _line_json(table: Table, line: Line) -> dict[str, Any]:
    row, config = line.row, line.row.records[0].config
    return {
        "label": row.label,
        "detail": row.detail,
        "method": config["method"]["name"],
        "placement": (config.get("placement") or {}).get("name"),
        "r": (config.get("lora") or {}).get("r"),
        "lr": config["training"]["lr"],
        "lr_edge": line.candidate.edge if line.part != SETTING else None,
        "seeds": row.seeds,
        "states": [record.state for record in row.records],
        "runs": [str(record.run.path) for record in row.records],
        "part": line.part,
        "is_baseline": line.part == BASELINE,
        "num_settings": len(line.candidate.settings),
        "chosen_on": line.candidate.chosen_on,
        "judged_on": TEST,
        "choosing_score": row.choosing,
        "quality": _estimate_json(row.quality),
        "quality_ratio": table.quality_ratio(row),
        "difference": difference_json(line.difference),
        **row.costs,
        **{f"{name}_ratio": table.cost_ratio(row, name) for name in COSTS},
    }


def _estimate_json(estimate: Estimate | None) -> dict[str, float] | None:
    return {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high} if estimate else None
