"""Which methods of a study gave most: each at its best setting, over the seeds, ranked."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from lora_bench.report.agreement import Fields, split_by_agreement
from lora_bench.report.load import Record, load_records
from lora_bench.report.ranking import EDGES, Contender, Ranking, build_ranking
from lora_bench.report.rows import Row, build_rows, headline_score
from lora_bench.rundir import RunDir
from lora_bench.search.overview import Overview, TrialRow
from lora_bench.search.trials import ENDED

RATES = ("training.lr_scale", "training.lr")
"""What a learning rate is varied by."""


def rank_methods(overview: Overview) -> list[Ranking]:
    """A ranking for each group of runs that may be compared and holds two methods or more.

    Only trials that finished on all seeds, within the study's constraints, take part.
    """
    trials = {name: row for row in overview.rows if row.is_candidate for name in row.line.runs}
    records, _ = load_records(RunDir(overview.runs / name) for name in trials)
    rankings = [_rank(fields, members, overview, trials) for fields, members in split_by_agreement(records)]
    return [ranking for ranking in rankings if ranking is not None]


def _rank(
    fields: Fields, members: Sequence[Record], overview: Overview, trials: Mapping[str, TrialRow]
) -> Ranking | None:
    settings: dict[str, list[tuple[float, Row, TrialRow]]] = {}
    for row in build_rows(members, baseline_method=""):
        trial = trials[row.records[0].run.path.name]
        if row.quality is not None:
            settings.setdefault(trial.kind, []).append((row.quality.value, row, trial))
    score = headline_score(members[0])
    if len(settings) < 2 or score is None:
        return None
    pick = max if score.higher_is_better else min
    contenders = []
    for tried in settings.values():
        _, best, trial = pick(tried, key=lambda one: one[0])
        contenders.append(Contender(best, num_settings=len(tried), edge=_edge(trial, overview.rows)))
    return build_ranking(fields, contenders, list(_remarks(overview, settings)))


def _remarks(overview: Overview, ranked: Container[str]) -> Iterator[str]:
    missing = [kind for kind in dict.fromkeys(row.kind for row in overview.rows) if kind not in ranked]
    if missing:
        yield f"Not ranked, since no setting has finished on all seeds: {', '.join(missing)}."
    num_open = sum(row.status not in ENDED for row in overview.rows)
    if num_open:
        yield f"Not final: {num_open} of {len(overview.rows)} trials have not ended."


def _edge(trial: TrialRow, rows: Sequence[TrialRow]) -> str | None:
    """Where its rate lies among all that its method was asked with, also those that did not finish."""
    own = _rate(trial)
    rates = sorted({rate for row in rows if row.kind == trial.kind and (rate := _rate(row)) is not None})
    if own is None or len(rates) < 2:
        return None
    return dict(zip((rates[0], rates[-1]), EDGES, strict=True)).get(own, "inside")


def _rate(row: TrialRow) -> float | None:
    point = {key.lstrip("+"): value for key, value in row.line.point.items()}
    return next((float(point[key]) for key in RATES if key in point), None)
