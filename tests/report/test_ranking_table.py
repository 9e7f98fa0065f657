"""Oracle: the text that a reader sees."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from support.synthetic_runs import finished_run, synthetic_config

from lora_bench.report.load import load_records
from lora_bench.report.ranking import Contender, Place, Ranking
from lora_bench.report.ranking_table import ranking_markdown, render_ranking
from lora_bench.report.rows import build_rows
from lora_bench.report.statistics import Estimate

FIELDS = {"model.name": "minilm", "task.name": "tweet_sentiment"}


@pytest.fixture
def ranking(tmp_path):
    """Full fine-tuning and LoRA share a rank, a smaller LoRA is behind."""
    runs = [
        finished_run(tmp_path, synthetic_config(method=method, r=r, seed=seed))
        for method, r in (("full", 8), ("lora", 1), ("lora", 8))
        for seed in range(3)
    ]
    small, large, full = build_rows(load_records(runs)[0], baseline_method="full")
    places = (
        Place(1, Contender(full, num_settings=3, edge="inside"), None),
        Place(1, Contender(large, num_settings=3, edge="upper edge"), Estimate(-0.01, -0.03, 0.01)),
        Place(3, Contender(small, num_settings=1, edge=None), Estimate(-0.1, -0.13, -0.07)),
    )
    return Ranking(FIELDS, "accuracy", True, places, 0.05 / 2, ("Not final: 1 of 8 trials have not ended.",))


def drawn(ranking: Ranking, *, width: int, is_terminal: bool = True) -> str:
    file = io.StringIO()
    render_ranking(ranking, console=Console(file=file, width=width, force_terminal=is_terminal, color_system=None))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_number_is_whole_at_every_width(ranking, width):
    text = drawn(ranking, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for words in ("full fine-tuning", "LoRA r=8", "upper edge", "−0.010 [−0.030, +0.010]", "22.7 M", "28,803"):
        assert words in text, words
    assert ("518 MiB" in text) == (width >= 100)


def test_the_rule_the_noise_and_the_correction_are_said(ranking):
    text = " ".join(drawn(ranking, width=100).split())
    assert "inside the noise of the first row of that rank" in text
    assert "It covers other items and other seeds (3 here, whose spread is taken as one for all rows)" in text
    assert "is corrected for all 3 pairs (Holm; 0.025 for each)." in text
    assert "1 of 3 has its best rate at an edge of what was asked" in text
    assert "Not final: 1 of 8 trials have not ended." in text


def test_elsewhere_it_is_markdown(ranking):
    text = drawn(ranking, width=40, is_terminal=False)
    assert text.strip() == ranking_markdown(ranking).strip()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {11}
    assert rows[2].startswith(
        "| 1 | full fine-tuning | best of 3 | 0.002 | inside | 0.693 [0.665, 0.722] | – | 22.7 M |"
    )
    assert rows[4].startswith("| 3 | LoRA r=1 | all, the only one | 0.002 | – | ")
    assert rows[4].endswith("| −0.100 [−0.130, −0.070] | 28,803 | 259 MiB | 113 KiB |")
