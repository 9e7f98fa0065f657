"""What a study says at its end, and `lora-bench study` at any time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lora_bench.search.influence import Influence
from lora_bench.search.overview import Overview, TrialRow, repeat_command, trial_name

if TYPE_CHECKING:
    from lora_bench.search.importance import Part

MOST_ROWS = 12


def render_summary(overview: Overview, *, console: Console, found: Influence | None = None) -> None:
    """Best of each arm, Pareto front, importance of each parameter, cost, and the command of the best run."""
    if best_rows := overview.best_of_each_method():
        console.print(_table(_best_title(overview), best_rows, overview))
    for part in _findings(overview, found or {}):
        console.print(part)
    console.print(_cost(overview), highlight=False)
    best = overview.best(overview.arms[0]) if overview.arms else None
    if best is not None:
        console.print(f"repeat the best: {repeat_command(best, overview.runs)}", highlight=False, soft_wrap=True)


def render_overview(overview: Overview, *, found: Influence | None = None, is_ranked: bool = False) -> RenderableType:
    """The whole study as one picture, for a live view; where a ranking follows, without the best of each method."""
    head = Text(f"{overview.name}: {overview.state}", style="bold")
    counts = ", ".join(f"{number} {status}" for status, number in overview.counts.items())
    begun = [row for row in overview.rows if row.status != "waiting"]
    newest = sorted(begun, key=lambda row: (row.status in ("running", "interrupted"), row.line.number))[-MOST_ROWS:]
    best = overview.best_of_each_method() if len(overview.objectives) > 1 or not is_ranked else []
    left_out = f", {len(newest)} of {len(begun)}" if len(begun) > len(newest) else ""
    return Group(
        head,
        Text(f"{overview.text}\n" if overview.text else "", end=""),
        Text(f"trials: {counts or 'none yet'}; {_cost(overview)}"),
        *([_table(_best_title(overview), best, overview)] if best else []),
        *_findings(overview, found or {}),
        *([_table(f"newest trials{left_out}", newest, overview)] if newest else []),
    )


def _best_title(overview: Overview) -> str:
    objective = overview.objectives[0]
    return f"best of each method, by {objective.metric} ({objective.direction})"


def _findings(overview: Overview, found: Influence) -> Iterator[RenderableType]:
    """What several objectives leave unbeaten, and which parameters matter for each of them."""
    if len(overview.objectives) > 1 and (front := overview.pareto_front()):
        objective = overview.objectives[0]
        front.sort(key=lambda row: row.metrics[objective.metric], reverse=objective.is_maximized)
        shown = f", {MOST_ROWS} of {len(front)} trials" if len(front) > MOST_ROWS else ""
        title = f"Pareto front{shown}: no other trial is as good in every objective and better in one"
        yield _table(title, front[:MOST_ROWS], overview)
    for metric, arms in found.items():
        for arm, parts in arms.items():
            shares = ", ".join(f"{key.lstrip('+')} {_share(part)}" for key, part in parts.items())
            kinds = list(dict.fromkeys(row.kind for row in overview.rows if row.line.arm == arm))
            of_arm = f" ({kinds[0] if len(kinds) == 1 else 'all its methods'})" if len(overview.arms) > 1 else ""
            yield Text(f"importance for {metric}{of_arm}: {shares}")


def _table(title: str, rows: Sequence[TrialRow], overview: Overview) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("method", "trial", "status"):
        table.add_column(column)
    keys = list(dict.fromkeys(key for row in rows for key in row.line.point if key != "method"))
    for key in keys:
        table.add_column(key.lstrip("+"))
    for objective in overview.objectives:
        table.add_column(objective.metric, justify="right", overflow="fold")
    for row in rows:
        values = [row.metrics.get(objective.metric) for objective in overview.objectives]
        table.add_row(
            row.kind,
            trial_name(row),
            row.status,
            *(_shown(row.line.point.get(key)) for key in keys),
            *("" if value is None else f"{value:.4g}" for value in values),
        )
    # A title of the table itself would be folded to the table's width.
    return Group(Text(f"\n{title}", style="italic"), table)


def _share(part: Part) -> str:
    """`68%`, and where chance gives something too `68% (by chance 48%)`; a share below 0 is one of 0."""
    return f"{max(part.share, 0):.0%}" + (f" (by chance {part.by_chance:.0%})" if part.by_chance else "")


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def _cost(overview: Overview) -> str:
    wall_s, device_s = (float(overview.progress.get(key, 0)) for key in ("wall_s", "device_s"))
    done, total = (overview.progress.get(key, 0) for key in ("num_done", "num_runs"))
    return f"{done} of {total} runs; the search took {wall_s / 60:.1f} min, its runs {device_s / 60:.1f} min"
