"""Draws a ranking: a table for a terminal, Markdown for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_bench.markdown import plain
from lora_bench.report.candidates import TEST
from lora_bench.report.format import bytes_text, count_text, difference_text, interval_text, score_text
from lora_bench.report.ranking import Place, Ranking
from lora_bench.report.verdicts import NOT_DECIDED, ONE_SEED

WIDE, NARROW = 118, 94
"""Columns of a terminal from which on a word stands beside its difference; below which only parameters have room."""
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
    followers = zip(ranking.places, [*ranks[1:], None] if ranks else [], strict=True)
    for place, following in followers:
        name = Text.assemble((place.row.label, "bold"), "\n", (_setting(place), "dim"))
        rate = Text.assemble(_rate(place), "\n", (_edge(place), "yellow" if place.candidate.is_at_edge else "dim"))
        score = Text.assemble(_score(place), "\n", (_drawn_difference(place, is_wide=width >= WIDE), "dim"))
        is_last = None not in (following, place.rank) and following != place.rank
        drawn.add_row(_rank(place), name, rate, score, *_costs(place, costs), end_section=is_last)
    notes = Text("\n".join(_notes(ranking)), style="dim")
    return Group(Padding(Text(_title(ranking), style="bold"), INDENT), drawn, Padding(notes, INDENT))


def ranking_markdown(ranking: Ranking) -> str:
    """A pipe table with a title and notes."""
    heads = ["rank", "method", "settings", "best rate", "in its grid", f"{ranking.headline} (95 % interval)"]
    heads += ["difference to the first (corrected)", *(" ".join(head) for head, _ in COST_TEXTS.values())]
    lines = [f"**{plain(_title(ranking))}**", "", f"| {' | '.join(heads)} |"]
    lines.append(f"|---:|---|---|---:|---|{'---:|' * (len(heads) - 5)}")
    for place in ranking.places:
        cells = [_rank(place), plain(place.row.label), plain(_setting(place)), _rate(place), _edge(place)]
        lines.append(f"| {' | '.join([*cells, _score(place), _difference(place), *_costs(place, COST_TEXTS)])} |")
    return "\n".join([*lines, "", *(f"- {plain(note)}" for note in _notes(ranking))])


def _title(ranking: Ranking) -> str:
    where = f"{ranking.fields['model.name']} on {ranking.fields['task.name']}"
    return f"{where}: methods by {ranking.headline}, each at its best setting"


def _rank(place: Place) -> str:
    return "–" if place.rank is None else str(place.rank)


def _setting(place: Place) -> str:
    """`all, best of 3`; the rate has a column of its own."""
    number = len(place.candidate.settings)
    own = [text for text in place.row.settings if not text.startswith("lr ")]
    return ", ".join([*own, f"best of {number}" if number > 1 else "the only one"])


def _rate(place: Place) -> str:
    return f"{place.row.records[0].config['training']['lr']:g}"


def _edge(place: Place) -> str:
    return place.candidate.edge or "–"


def _score(place: Place) -> str:
    quality = place.row.quality
    assert quality is not None, "only rows with a score are ranked"
    return f"{score_text(quality.value)} {interval_text(quality.low, quality.high)}"


def _difference(place: Place) -> str:
    if place.difference is None:
        return "–"
    return f"{difference_text(place.difference.estimate)}, {place.difference.verdict}"


def _drawn_difference(place: Place, *, is_wide: bool) -> str:
    """The reason why something is not decided stands below the table."""
    if place.difference is None:
        return "–"
    word = NOT_DECIDED if place.difference.word == NOT_DECIDED else place.difference.verdict
    return f"{difference_text(place.difference.estimate)}{' ' if is_wide else chr(10)}{word}"


def _costs(place: Place, names: Iterable[str]) -> Iterator[str]:
    return (COST_TEXTS[name][1](place.row.costs[name]) for name in names)


def _notes(ranking: Ranking) -> Iterator[str]:
    places = ranking.places
    if ranking.num_comparisons:
        pairs = "1 pair" if ranking.num_comparisons == 1 else f"all {ranking.num_comparisons} pairs"
        yield (
            "A row shares the rank of the row above it if it is inside the noise of the first row of that rank: the "
            "interval of their difference, paired item by item, holds 0. It covers other items and other seeds "
            f"({_seeds(places)}, whose spread is taken as one for all rows) and is corrected for {pairs} "
            "(Tukey)."
        )
        yield "Rows of neighbouring ranks may still be inside each other's noise."
    if margin := ranking.rule.margin:
        level = 100 * (1 - 2 * ranking.rule.equal_level)
        yield (
            f"Equal within {margin:g}: the {level:.3g} % interval lies inside ±{margin:g}, the margin that was given "
            "(corrected by Holm). Undecided: neither this nor better nor worse."
        )
    yield from _unranked_notes(places)
    yield from _choice_notes(places)
    yield from ranking.remarks


def _seeds(places: Sequence[Place]) -> str:
    numbers = sorted({len(place.row.finished) for place in places if place.rank is not None})
    return f"{' to '.join(dict.fromkeys(map(str, (numbers[0], numbers[-1]))))} here"


def _unranked_notes(places: Sequence[Place]) -> Iterator[str]:
    singles = sum(ONE_SEED in place.obstacle for place in places)
    if singles:
        which = "there is one seed" if singles == len(places) else f"{singles} of {len(places)} rows have one seed"
        yield (
            f"Not ranked, since {which}: training again on another seed may change more than other items do, and the "
            "interval of a difference covers other items alone. seed=0,1,2 gives three."
        )
    edges = sum(place.candidate.is_at_edge for place in places)
    if edges:
        verb = "has its best rate" if edges == 1 else "have their best rates"
        yield (
            f"{edges} of {len(places)} {verb} at an edge of what was asked: not ranked, since a better one may lie "
            "beyond."
        )


def _choice_notes(places: Sequence[Place]) -> Iterator[str]:
    numbers = {len(place.candidate.settings) for place in places}
    unvalidated = sum(place.candidate.chosen_on == TEST for place in places)
    if unvalidated:
        some = "" if unvalidated == len(places) else f" for {unvalidated} of {len(places)}"
        yield (
            f"No validation items on record{some}: settings are chosen and judged on the same items, which favours "
            "whichever has more settings."
        )
    elif numbers - {1}:
        yield "Settings are chosen on validation items and judged on test items."
    if len(numbers) > 1:
        yield f"Not the same number of settings: {min(numbers)} to {max(numbers)}; more of them favour a method."
    if places:
        several = any(len(place.row.finished) > 1 for place in places)
        yield f"Intervals of scores are {'over seeds (Student)' if several else 'over the items'}, one by one."
