"""Builds the comparison: tables of runs that agree in all that is held fixed, each beside its baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_bench.records import RunResult
from lora_bench.report.agreement import Fields, differing, split_by_agreement
from lora_bench.report.items import paired_difference, read_items
from lora_bench.report.load import load_records
from lora_bench.report.rows import COSTS, Row, build_rows, headline_score
from lora_bench.report.statistics import Estimate
from lora_bench.rundir import RunDir

BASELINE_METHOD = "full"


@dataclass(frozen=True)
class Table:
    """Rows that may be compared, and the row that they are compared with."""

    fields: Fields
    """What all of its runs share."""
    rows: list[Row]
    baseline: Row | None
    """The best finished row of full fine-tuning."""
    headline: str
    higher_is_better: bool
    notes: list[str]
    """What its runs want their readers to know."""

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


def build_comparison(runs: Sequence[RunDir]) -> Comparison:
    """Reads the runs and compares them. Runs without a result are counted and left out."""
    records, problems = load_records(runs)
    waiting = Counter(record.state for record in records if record.result is None)
    left_out = [f"{count} {state}, not in the table yet" for state, count in sorted(waiting.items())] + problems
    groups = split_by_agreement([record for record in records if record.result is not None])
    tables = [_build_table(fields, build_rows(members, baseline_method=BASELINE_METHOD)) for fields, members in groups]
    return Comparison(tables, differing([fields for fields, _ in groups]), left_out)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The same as plain data, with full digits."""
    return {
        "tables": [_table_json(table) for table in comparison.tables],
        "differs": comparison.differs,
        "left_out": comparison.left_out,
    }


def _build_table(fields: Fields, rows: list[Row]) -> Table:
    scores = [score for row in rows for record in row.finished if (score := headline_score(record)) is not None]
    higher_is_better = scores[0].higher_is_better if scores else True
    candidates = [row for row in rows if row.is_baseline_method and row.quality is not None]
    baseline = max(candidates, key=lambda row: _quality_key(row, higher_is_better), default=None)
    headline = scores[0].name if scores else "quality"
    results = [record.result for row in rows for record in row.records if record.result is not None]
    return Table(
        fields=fields,
        rows=_with_differences(rows, baseline, headline),
        baseline=baseline,
        headline=headline,
        higher_is_better=higher_is_better,
        notes=_notes(results),
    )


def _notes(results: Sequence[RunResult]) -> list[str]:
    """Each note once, with how many of the runs it concerns unless it is all."""
    counts = Counter(note for result in results for note in result.notes)
    total = len(results)
    if num_groups := sum(result.processes is not None for result in results):
        counts["memory of runs with several processes is that of the largest of them"] = num_groups
    return [note if count == total else f"{note} ({count} of {total} runs)" for note, count in counts.items()]


def _with_differences(rows: list[Row], baseline: Row | None, headline: str) -> list[Row]:
    if baseline is None:
        return rows
    theirs = [read_items(record, headline) for record in baseline.finished]
    return [
        row
        if row is baseline or not row.finished
        else replace(row, difference=paired_difference([read_items(run, headline) for run in row.finished], theirs))
        for row in rows
    ]


def _quality_key(row: Row, higher_is_better: bool) -> float:
    assert row.quality is not None, "only rows with a score are candidates"
    return row.quality.value if higher_is_better else -row.quality.value


def _ratio(own: float | None, baseline: float | None) -> float | None:
    return own / baseline if own is not None and baseline else None


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "fields": table.fields,
        "headline": table.headline,
        "higher_is_better": table.higher_is_better,
        "rows": [_row_json(table, row) for row in table.rows],
        "notes": table.notes,
    }


def _row_json(table: Table, row: Row) -> dict[str, Any]:
    config = row.records[0].config
    return {
        "label": row.label,
        "detail": row.detail,
        "method": config["method"]["name"],
        "placement": (config.get("placement") or {}).get("name"),
        "r": (config.get("lora") or {}).get("r"),
        "lr": config["training"]["lr"],
        "seeds": row.seeds,
        "states": [record.state for record in row.records],
        "runs": [str(record.run.path) for record in row.records],
        "is_baseline": table.baseline is not None and row.records == table.baseline.records,
        "quality": _estimate_json(row.quality),
        "quality_ratio": table.quality_ratio(row),
        "difference": _difference_json(table, row),
        **row.costs,
        **{f"{name}_ratio": table.cost_ratio(row, name) for name in COSTS},
    }


def _difference_json(table: Table, row: Row) -> dict[str, Any] | None:
    if row.difference is None:
        return None
    return {
        **(_estimate_json(row.difference.estimate) or {}),
        "verdict": row.difference.verdict(higher_is_better=table.higher_is_better),
        "num_items": row.difference.num_items,
        "mcnemar_p": row.difference.mcnemar_p,
    }


def _estimate_json(estimate: Estimate | None) -> dict[str, float] | None:
    return {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high} if estimate else None
