"""Oracle: the text that a reader sees."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from support.synthetic_runs import finished_run, synthetic_config

from lora_bench.report.candidates import Candidate
from lora_bench.report.load import load_records
from lora_bench.report.ranking import Place, Ranking
from lora_bench.report.ranking_table import ranking_markdown, render_ranking
from lora_bench.report.rows import build_rows
from lora_bench.report.statistics import Estimate
from lora_bench.report.verdicts import AT_EDGE, Difference, Rule

FIELDS = {"model.name": "minilm", "task.name": "tweet_sentiment"}


@pytest.fixture
def ranking(tmp_path):
    """Full fine-tuning is first, a LoRA at the edge of its rates has no rank, a smaller one is behind."""
    runs = [
        finished_run(tmp_path, synthetic_config(method=method, r=r, seed=seed))
        for method, r in (("full", 8), ("lora", 1), ("lora", 8))
        for seed in range(3)
    ]
    small, large, full = build_rows(load_records(runs)[0], baseline_method="full")

    def to_first(value, low, high, word, reason=""):  # type: ignore[no-untyped-def]
        return Difference(Estimate(value, low, high), word, 200, reason)

    rows = ((full, 3, "inside"), (large, 3, "upper edge"), (small, 1, None))
    best, edge, single = (Candidate((row,) * number, row, "validation", where) for row, number, where in rows)
    places = (
        Place(None, edge, to_first(0.01, -0.03, 0.05, "not decided", AT_EDGE), AT_EDGE),
        Place(1, best, None),
        Place(2, single, to_first(-0.1, -0.13, -0.07, "worse")),
    )
    return Ranking(FIELDS, "accuracy", Rule(True, num_rows=2), places, ("Not final: 1 of 8 trials have not ended.",))


def drawn(ranking: Ranking, *, width: int, is_terminal: bool = True) -> str:
    file = io.StringIO()
    render_ranking(ranking, console=Console(file=file, width=width, force_terminal=is_terminal, color_system=None))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_number_is_whole_at_every_width(ranking, width):
    text = drawn(ranking, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for words in ("full fine-tuning", "LoRA r=8", "upper edge", "+0.010 [−0.030, +0.050]", "22.7 M", "28,803"):
        assert words in text, words
    assert "worse" in text
    assert "not decided" in text
    assert ("518 MiB" in text) == (width >= 100)


def test_the_rule_the_noise_and_the_correction_are_said(ranking):
    text = " ".join(drawn(ranking, width=100).split())
    assert "inside the noise of the first row of that rank" in text
    assert "It covers other items and other seeds (3 here, whose spread is taken as one for all rows)" in text
    assert "is corrected for 1 pair (Tukey)." in text
    assert "1 of 3 has its best rate at an edge of what was asked: not ranked" in text
    assert "Settings are chosen on validation items and judged on test items." in text
    assert "Not the same number of settings: 1 to 3" in text
    assert "Not final: 1 of 8 trials have not ended." in text


def test_one_seed_and_old_records_are_said(ranking):
    places = [
        dataclasses.replace(
            place, rank=None, obstacle="one seed", candidate=dataclasses.replace(place.candidate, chosen_on="test")
        )
        for place in ranking.places
    ]
    text = ranking_markdown(dataclasses.replace(ranking, places=tuple(places)))
    assert "Not ranked, since there is one seed" in text
    assert "No validation items on record: settings are chosen and judged on the same items" in text
    assert "Tukey" not in text


def test_elsewhere_it_is_markdown(ranking):
    text = drawn(ranking, width=40, is_terminal=False)
    assert text.strip() == ranking_markdown(ranking).strip()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {11}
    assert rows[2].startswith("| – | LoRA r=8 | all, best of 3 | 0.002 | upper edge | ")
    assert "| +0.010 [−0.030, +0.050], best rate at the edge of its space: not decided |" in rows[2]
    assert rows[3].startswith(
        "| 1 | full fine-tuning | best of 3 | 0.002 | inside | 0.693 [0.665, 0.722] | – | 22.7 M |"
    )
    assert rows[4].startswith("| 2 | LoRA r=1 | all, the only one | 0.002 | – | ")
    assert rows[4].endswith("| −0.100 [−0.130, −0.070], worse | 28,803 | 259 MiB | 113 KiB |")
