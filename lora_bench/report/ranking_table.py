"""Draws a ranking: a table for a terminal, Markdown for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_bench.report.format import bytes_text, count_text, difference_text, interval_text, score_text
from lora_bench.report.ranking import Place, Ranking

NARROW = 94
"""Columns of a terminal below which only the parameters have room."""
INDENT = (0, 0, 0, 1)
"""Under the table's own edge."""
COST_TEXTS = {
    "trainable_parameters": (("trained", "params"), count_text),
    "peak_training_bytes": (("peak", "memory"), bytes_text),
    "checkpoint_bytes": (("on", "disk"), bytes_text),
}


def render_ranking(ranking: Ranking, *, console: Console) -> None:
    """Prints a ranking: drawn in a terminal, as Markdown elsewhere."""
    if console.is_terminal:
        console.print(draw_ranking(ranking, width=console.width))
    else:
        console.print(ranking_markdown(ranking), markup=False, highlight=False, soft_wrap=True)


def draw_ranking(ranking: Ranking, *, width: int) -> RenderableType:
    """Two lines a row: the score, and under it the difference to the first; what it costs as far as there is room."""
    costs = list(COST_TEXTS)[: 1 if width < NARROW else None]
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    drawn.add_column("rank", justify="right")
    drawn.add_column("method\nsettings")
    drawn.add_column("best rate\nin its grid", no_wrap=True)
    drawn.add_column(f"{ranking.headline}\ndifference to the first", no_wrap=True)
    for cost in costs:
        drawn.add_column("\n".join(COST_TEXTS[cost][0]), justify="right", no_wrap=True)
    ranks = [place.rank for place in ranking.places]
    for place, following in zip(ranking.places, [*ranks[1:], None], strict=True):
        name = Text.assemble((place.contender.row.label, "bold"), "\n", (_setting(place), "dim"))
        rate = Text.assemble(_rate(place), "\n", (_edge(place), "yellow" if place.contender.is_at_edge else "dim"))
        score = Text.assemble(_score(place), "\n", (_difference(place), "dim"))
        is_last = following not in (place.rank, None)
        drawn.add_row(str(place.rank), name, rate, score, *_costs(place, costs), end_section=is_last)
    notes = Text("\n".join(_notes(ranking)), style="dim")
    return Group(Padding(Text(_title(ranking), style="bold"), INDENT), drawn, Padding(notes, INDENT))


def ranking_markdown(ranking: Ranking) -> str:
    """A pipe table with a title and notes."""
    heads = ["rank", "method", "settings", "best rate", "in its grid", f"{ranking.headline} (95 % interval)"]
    heads += ["difference to the first (corrected)", *(" ".join(head) for head, _ in COST_TEXTS.values())]
    lines = [f"**{_title(ranking)}**", "", f"| {' | '.join(heads)} |"]
    lines.append(f"|---:|---|---|---:|---|{'---:|' * (len(heads) - 5)}")
    for place in ranking.places:
        cells = [str(place.rank), place.contender.row.label, _setting(place), _rate(place), _edge(place)]
        lines.append(f"| {' | '.join([*cells, _score(place), _difference(place), *_costs(place, COST_TEXTS)])} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(ranking))])


def _title(ranking: Ranking) -> str:
    where = f"{ranking.fields['model.name']} on {ranking.fields['task.name']}"
    return f"{where}: methods by {ranking.headline}, each at its best setting"


def _setting(place: Place) -> str:
    """`all, best of 3`; the rate has a column of its own."""
    number = place.contender.num_settings
    own = [text for text in place.contender.row.settings if not text.startswith("lr ")]
    return ", ".join([*own, f"best of {number}" if number > 1 else "the only one"])


def _rate(place: Place) -> str:
    return f"{place.contender.row.records[0].config['training']['lr']:g}"


def _edge(place: Place) -> str:
    return place.contender.edge or "–"


def _score(place: Place) -> str:
    quality = place.contender.row.quality
    assert quality is not None, "only rows with a score are ranked"
    return f"{score_text(quality.value)} {interval_text(quality.low, quality.high)}"


def _difference(place: Place) -> str:
    return difference_text(place.difference) if place.difference is not None else "–"


def _costs(place: Place, names: Iterable[str]) -> Iterator[str]:
    return (COST_TEXTS[name][1](place.contender.row.costs[name]) for name in names)


def _notes(ranking: Ranking) -> Iterator[str]:
    places = ranking.places
    if places:
        num_seeds = len(places[0].contender.row.seeds)
        seeds = f"other items and other seeds ({num_seeds} here, whose spread is taken as one for all rows)"
        noise = seeds if num_seeds > 1 else "other items (there is one seed)"
        pairs = "1 pair" if ranking.num_comparisons == 1 else f"all {ranking.num_comparisons} pairs"
        yield (
            "A row shares the rank of the row above it if it is inside the noise of the first row of that rank: the "
            f"interval of their difference, paired item by item, holds 0. It covers {noise} and is corrected for "
            f"{pairs} (Holm; {ranking.level:.2g} for each)."
        )
        yield "Rows of neighbouring ranks may still be inside each other's noise."
        yield f"Intervals of scores are {'over seeds (Student)' if num_seeds > 1 else 'over the items'}, one by one."
    if any(place.contender.num_settings > 1 for place in places):
        yield "The best setting was chosen by the score that is shown, which favours a method with more settings."
    edges = sum(place.contender.is_at_edge for place in places)
    if edges:
        verb = "has its best rate" if edges == 1 else "have their best rates"
        yield f"{edges} of {len(places)} {verb} at an edge of what was asked; beyond it may be a better one."
    yield from ranking.remarks
