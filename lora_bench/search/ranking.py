"""Which methods of a study gave most: each at the setting that validation items chose, over the seeds, ranked."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from lora_bench.report.agreement import Fields, split_by_agreement
from lora_bench.report.candidates import choose
from lora_bench.report.load import Record, load_records
from lora_bench.report.ranking import Ranking, build_ranking
from lora_bench.report.rows import Row, build_rows, headline_score
from lora_bench.rundir import RunDir
from lora_bench.search.edges import rate_edge
from lora_bench.search.overview import Overview, TrialRow
from lora_bench.search.trials import ENDED


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
    settings: dict[str, list[Row]] = {}
    for row in build_rows(members, baseline_method=""):
        if row.quality is not None:
            settings.setdefault(trials[row.records[0].run.path.name].kind, []).append(row)
    score = headline_score(members[0])
    if len(settings) < 2 or score is None:
        return None
    edges = {name: edge for name, row in trials.items() if (edge := rate_edge(row.line, overview.spaces)) is not None}
    candidates = [choose(rows, edges, higher_is_better=score.higher_is_better) for rows in settings.values()]
    return build_ranking(fields, candidates, list(_remarks(overview, settings)), margin=overview.margin)


def _remarks(overview: Overview, ranked: Container[str]) -> Iterator[str]:
    missing = [kind for kind in dict.fromkeys(row.kind for row in overview.rows) if kind not in ranked]
    if missing:
        yield f"Not ranked, since no setting has finished on all seeds: {', '.join(missing)}."
    num_open = sum(row.status not in ENDED for row in overview.rows)
    if num_open:
        yield f"Not final: {num_open} of {len(overview.rows)} trials have not ended."
