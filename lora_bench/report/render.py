"""Draws a comparison: a table for a terminal, Markdown for everything else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from lora_bench.markdown import plain
from lora_bench.report.agreement import shown_field
from lora_bench.report.candidates import Edges
from lora_bench.report.compare import BASELINE, SETTING, Comparison, Line, Table, build_comparison
from lora_bench.report.format import (
    bytes_text,
    count_text,
    difference_text,
    interval_text,
    ms_text,
    ratio_text,
    score_text,
)
from lora_bench.report.rows import Row
from lora_bench.report.verdicts import BETTER, NOT_DECIDED, ONE_SEED, WORSE, Difference
from lora_bench.rundir import RunDir

WIDE, NARROW = 106, 94
"""Columns of a terminal from which on the difference has a column of its own; below which texts are shortened."""

INDENT = (0, 0, 0, 1)
"""Under the table's own edge."""
VERDICT_STYLES = {BETTER: "green", WORSE: "red"}
"""Of its words; any other is dim."""
NOT_CHOSEN = "not chosen"
VERDICT_WIDTH = 23
"""Characters after which a reason is broken, in a column of its own."""

COST_HEADS = {
    "trainable_parameters": ("trainable", "parameters"),
    "peak_training_bytes": ("peak memory", "training"),
    "checkpoint_bytes": ("checkpoint", "on disk"),
    "step_median_ms": ("step", "median"),
}
SHORT_HEADS = {
    "trainable_parameters": ("trained", "params"),
    "peak_training_bytes": ("peak", "memory"),
    "checkpoint_bytes": ("on", "disk"),
    "step_median_ms": ("step", "time"),
}
COST_TEXTS = {
    "trainable_parameters": count_text,
    "peak_training_bytes": bytes_text,
    "checkpoint_bytes": bytes_text,
    "step_median_ms": ms_text,
}


def render_comparison(
    runs: Sequence[RunDir],
    *,
    console: Console,
    margin: float | None = None,
    edges: Edges | None = None,
    sort: str | None = None,
) -> None:
    """Print the tables of these runs: drawn in a terminal, as Markdown elsewhere. See `build_comparison`."""
    comparison = build_comparison(runs, margin=margin, edges=edges, sort=sort)
    if not console.is_terminal:
        console.print(comparison_markdown(comparison), markup=False, highlight=False, soft_wrap=True)
        return
    for table in comparison.tables:
        console.print()
        console.print(draw_table(table, width=console.width))
    for line in _remarks(comparison):
        console.print(Padding(Text(line, style="dim"), INDENT, expand=False))


def comparison_markdown(comparison: Comparison) -> str:
    """Pipe tables with a title and the notes of each."""
    blocks = ["\n".join(_markdown_lines(table)) for table in comparison.tables]
    return "\n\n".join([*blocks, *map(_plain_remark, _remarks(comparison))])


def draw_table(table: Table, *, width: int) -> RenderableType:
    """One table, two lines a row: the value, and under it its ratio to full fine-tuning."""
    has_difference = width >= WIDE and table.baseline is not None
    drawn = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    drawn.add_column("run", no_wrap=width >= NARROW)
    drawn.add_column(f"{table.headline}\n95 % interval", no_wrap=True)
    if has_difference:
        drawn.add_column("difference to full\n95 % interval, paired", no_wrap=True)
    for head in (COST_HEADS if width >= NARROW else SHORT_HEADS).values():
        drawn.add_column("\n".join(head), justify="right", no_wrap=True)
    for index, line in enumerate(table.lines):
        row = line.row
        if row.is_baseline_method and index and not table.rows[index - 1].is_baseline_method:
            drawn.add_section()
        quality = _drawn_quality(table, line, with_verdict=not has_difference, is_short=width < NARROW)
        difference = [_drawn_difference(line)] if has_difference else []
        drawn.add_row(_drawn_label(row, is_short=width < NARROW), quality, *difference, *_drawn_costs(table, row))
    title = Text.assemble((_title(table), "bold"), "\n", (_subtitle(table), "dim"))
    foot = Text("\n".join(_footnotes(table)), style="dim")
    return Group(Padding(title, INDENT, expand=False), drawn, Padding(foot, INDENT, expand=False))


def _drawn_label(row: Row, *, is_short: bool) -> Text:
    words = row.settings if is_short and len(row.records) == 1 else row.detail.split(", ")
    detail = ", ".join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)
    return Text.assemble((row.label, "bold"), "\n", (detail, "dim"))


def _drawn_quality(table: Table, line: Line, *, with_verdict: bool, is_short: bool) -> Text:
    row = line.row
    if row.quality is None:
        return Text(row.trouble, style="red")
    cell = Text.assemble(_quality_text(row), "\n")
    if table.baseline is not None:
        cell.append(f"{ratio_text(table.quality_ratio(row))}  ", style="dim")
    if row.trouble:
        cell.append(row.trouble, style="red")
    elif with_verdict and line.difference is not None:
        cell.append(_short_verdict(line.difference, is_short=is_short), style=_style(line.difference))
    elif with_verdict and table.baseline is not None and line.part == SETTING:
        cell.append("not chosen", style="dim")
    return cell


def _short_verdict(difference: Difference, *, is_short: bool) -> str:
    """Reasons stand below the table."""
    if difference.word == NOT_DECIDED:
        return NOT_DECIDED
    return difference.verdict.replace("inside the", "in") if is_short else difference.verdict


def _drawn_difference(line: Line) -> Text:
    if line.difference is None:
        return Text(_without_difference(line), style="dim")
    verdict = "\n".join(textwrap.wrap(line.difference.verdict, VERDICT_WIDTH))
    return Text.assemble(difference_text(line.difference.estimate), "\n", (verdict, _style(line.difference)))


def _without_difference(line: Line) -> str:
    return {BASELINE: "baseline", SETTING: NOT_CHOSEN}.get(line.part, "–") if line.row.quality else "–"


def _style(difference: Difference) -> str:
    return VERDICT_STYLES.get(difference.word, "dim")


def _drawn_costs(table: Table, row: Row) -> Iterator[Text]:
    for name, text in COST_TEXTS.items():
        ratio = table.cost_ratio(row, name)
        under = ("", "") if ratio is None else (ratio_text(ratio), _ratio_style(ratio))
        yield Text.assemble(text(row.costs[name]), "\n", under)


def _ratio_style(ratio: float) -> str:
    """Of a cost; what is within half a percent of the baseline is neither more nor less."""
    if ratio < 0.995:
        return "green"
    return "yellow" if ratio > 1.005 else "dim"


def _plain_remark(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip(" "))]
    return indent + plain(line)


def _markdown_lines(table: Table) -> Iterator[str]:
    yield f"**{plain(_title(table))}**  "
    yield plain(_subtitle(table))
    yield ""
    heads = [
        "run",
        "settings",
        f"{table.headline} (95 % interval)",
        "ratio",
        "difference to full (95 % interval, paired)",
    ]
    heads += [" ".join(head) for head in COST_HEADS.values()]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * 2}{'---:|' * (len(heads) - 2)}"
    for line in table.lines:
        yield f"| {' | '.join(_markdown_cells(table, line))} |"
    yield ""
    for note in _footnotes(table):
        yield f"- {plain(note)}"


def _markdown_cells(table: Table, line: Line) -> Iterator[str]:
    row = line.row
    yield plain(row.label)
    yield plain(row.detail)
    yield " ".join(filter(None, [_quality_text(row) if row.quality else "", plain(row.trouble)]))
    yield ratio_text(table.quality_ratio(row))
    if line.difference is not None:
        yield f"{difference_text(line.difference.estimate)}, {line.difference.verdict}"
    else:
        yield _without_difference(line)
    for name, text in COST_TEXTS.items():
        ratio = table.cost_ratio(row, name)
        told = f"{text(row.costs[name])} ({ratio_text(ratio)})" if ratio is not None else text(row.costs[name])
        each = row.costs["bytes_per_trained_number"] if name == "checkpoint_bytes" else None
        yield f"{told}, {each:.1f} B a number" if each is not None else told


def _title(table: Table) -> str:
    return f"{table.fields['model.name']} on {table.fields['task.name']}"


def _subtitle(table: Table) -> str:
    fields = table.fields
    steps = f"{fields['training.max_steps']} steps of batch {fields['training.batch_size']}"
    length = f"up to {_max_tokens(table)} tokens"
    known = [steps, fields["training.dtype"], length, _judged_on(table), fields.get("hardware")]
    return ", ".join(filter(None, known))


def _judged_on(table: Table) -> str | None:
    """The metric and its items, which are test items where settings were chosen on others."""
    told = table.fields.get("evaluation")
    results = [record.result for row in table.rows for record in row.records if record.result is not None]
    is_test = bool(results) and all(result.validation for result in results)
    return told.replace(" items", " test items") if told and is_test else told


def _max_tokens(table: Table) -> int:
    """The most that a text had: `task.max_length`, or what the model has positions for beside a method's own."""
    records = [record for row in table.rows for record in row.records]
    known = (record.result.details.get("max_tokens") for record in records if record.result is not None)
    return max(filter(None, known), default=int(table.fields["task.max_length"]))


def _footnotes(table: Table) -> Iterator[str]:
    if table.baseline is None:
        yield "No finished run of full fine-tuning to compare with; the same command with method=full makes one."
    else:
        tried = sum(row.is_baseline_method for row in table.rows)
        best = f", the best of {tried} settings" if tried > 1 else ""
        yield f"× is the ratio to full fine-tuning ({table.baseline.detail}{best})."
        yield from _verdict_notes(table)
    several = any(len(row.finished) > 1 for row in table.rows)
    single = any(len(row.finished) == 1 for row in table.rows)
    if single and several:
        yield "Intervals of scores are over items for one seed, and over seeds (Student's t) for several."
    elif single:
        yield "Intervals of scores are over items."
    elif several:
        yield "Intervals of scores are over seeds (Student's t)."
    yield from table.notes
    for row in table.rows:
        errors = {record.result.error for record in row.records if record.result and record.result.error}
        yield from (f"{row.label} ({row.detail}): {error}" for error in sorted(errors))


def _verdict_notes(table: Table) -> Iterator[str]:
    differences = [line.difference for line in table.lines if line.difference is not None]
    if any(not difference.reason for difference in differences):
        yield (
            "Differences are paired item by item, and their intervals cover other items and other seeds (whose spread "
            "is taken as one for all rows). Inside the noise: the interval holds 0. Rows are judged one by one."
        )
    if margin := table.rule.margin:
        yield (
            f"Equal within {margin:g}: the 90 % interval lies inside ±{margin:g}, the margin that was given. "
            "Undecided: neither this nor better nor worse."
        )
    if any(ONE_SEED in difference.reason for difference in differences):
        yield (
            "One seed: training again on another seed may change more than other items do, so the interval, which "
            "covers other items alone, decides nothing. seed=0,1,2 gives three."
        )


def _remarks(comparison: Comparison) -> Iterator[str]:
    if comparison.differs:
        yield f"{len(comparison.tables)} tables, because these runs cannot be compared; they differ in:"
        for field, values in comparison.differs.items():
            yield f"  {field}: {' | '.join(value or 'unknown' for value in shown_field(field, values))}"
    yield from comparison.left_out
    if not comparison.tables and not comparison.left_out:
        yield "No run has been recorded here yet; `python run.py` makes one."


def _quality_text(row: Row) -> str:
    assert row.quality is not None, "asked only for rows with a score"
    return f"{score_text(row.quality.value)} {interval_text(row.quality.low, row.quality.high)}"
