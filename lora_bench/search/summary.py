"""What a study says at its end, and `lora-bench study` at any time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lora_bench.search.overview import Overview, TrialRow, repeat_command

if TYPE_CHECKING:
    from lora_bench.search.importance import Part

MOST_ROWS = 12


def render_summary(
    overview: Overview, *, console: Console, importances: Mapping[str, Mapping[str, Part]] | None = None
) -> None:
    """Best of each arm, Pareto front, importance of each parameter, cost, and the command of the best run."""
    console.print(_table("best of each method", overview.best_of_each_method(), overview))
    if len(overview.objectives) > 1 and (front := overview.pareto_front()):
        console.print(_table(f"Pareto front, {len(front)} trials", front[:MOST_ROWS], overview))
    for arm, parts in (importances or {}).items():
        shares = ", ".join(f"{key} {_share(part)}" for key, part in parts.items())
        console.print(f"importance for {overview.objectives[0].metric} ({arm}): {shares}", highlight=False)
    console.print(_cost(overview), highlight=False)
    best = overview.best(overview.arms[0]) if overview.arms else None
    if best is not None:
        console.print(f"repeat the best: {repeat_command(best, overview.runs)}", highlight=False, soft_wrap=True)


def render_overview(overview: Overview, *, is_ranked: bool = False) -> RenderableType:
    """The whole study as one picture, for a live view; where a ranking follows, without the best of each method."""
    head = Text(f"{overview.name}: {overview.state}", style="bold")
    counts = ", ".join(f"{number} {status}" for status, number in overview.counts.items())
    begun = [row for row in overview.rows if row.status != "waiting"]
    newest = sorted(begun, key=lambda row: (row.status in ("running", "interrupted"), row.line.number))
    has_more = len(overview.objectives) > 1 or not is_ranked
    return Group(
        head,
        Text(f"{overview.text}\n" if overview.text else "", end=""),
        Text(f"trials: {counts or 'none yet'}; {_cost(overview)}"),
        *([_table("best of each method", overview.best_of_each_method(), overview)] if has_more else []),
        _table("newest trials", newest[-MOST_ROWS:], overview),
    )


def _table(title: str, rows: list[TrialRow], overview: Overview) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("method", "trial", "status"):
        table.add_column(column)
    keys = list(dict.fromkeys(key for row in rows for key in row.line.point if key != "method"))
    for key in keys:
        table.add_column(key.lstrip("+"))
    for objective in overview.objectives:
        table.add_column(objective.metric, justify="right")
    for row in rows:
        values = [row.metrics.get(objective.metric) for objective in overview.objectives]
        table.add_row(
            row.kind,
            str(row.line.number),
            row.status,
            *(_shown(row.line.point.get(key)) for key in keys),
            *("" if value is None else f"{value:.4g}" for value in values),
        )
    return table


def _share(part: Part) -> str:
    """`68%`, and where chance gives something too `68% (by chance 48%)`; a share below 0 is one of 0."""
    return f"{max(part.share, 0):.0%}" + (f" (by chance {part.by_chance:.0%})" if part.by_chance else "")


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def _cost(overview: Overview) -> str:
    wall_s, device_s = (float(overview.progress.get(key, 0)) for key in ("wall_s", "device_s"))
    done, total = (overview.progress.get(key, 0) for key in ("num_done", "num_runs"))
    return f"{done} of {total} runs; the search took {wall_s / 60:.1f} min, its runs {device_s / 60:.1f} min"
