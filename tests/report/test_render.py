"""Oracle: the text that a reader sees, at the widths of usual terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from support.synthetic_runs import append_lines, finish_run, finished_run, rank_grid, start_run, synthetic_config

from lora_bench.report import build_comparison, comparison_markdown, render_comparison


def drawn(runs, *, width: int, is_terminal: bool = True) -> str:  # type: ignore[no-untyped-def]
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=is_terminal, color_system=None)
    render_comparison(runs, console=console)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_every_number_is_whole_at_every_width(tmp_path, width):
    text = drawn(rank_grid(tmp_path), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for word in ("LoRA r=1", "LoRA r=64", "full fine-tuning", "28,803", "22.7 M", "113 KiB", "150 ms", "0.76×", "1×"):
        assert word in text, word
    assert text.index("LoRA r=8") < text.index("LoRA r=64") < text.index("full fine-tuning")
    assert "0.690 [0.626, 0.754]" in text
    assert "noise" in text


def test_a_wide_terminal_shows_the_difference_and_a_narrow_one_its_verdict(tmp_path):
    runs = rank_grid(tmp_path)
    assert "−0.090 [−0.140, −0.045]" in drawn(runs, width=120)
    narrow = drawn(runs, width=80)
    assert "−0.090" not in narrow
    assert "in noise" in narrow
    assert "worse" in narrow


def test_a_run_that_diverged_is_a_row_with_its_error_below(tmp_path):
    config = synthetic_config(r=16)
    run = start_run(tmp_path, config)
    append_lines(run, first=10, last=40)
    finish_run(run, config, status="diverged")
    text = drawn([*rank_grid(tmp_path), run], width=120)
    assert "diverged at step 40" in text
    assert "LoRA r=16 (all, lr 0.002, seed 0): the run ended as diverged at step 40" in text


def test_a_single_run_has_no_empty_ratios(tmp_path):
    text = drawn([finished_run(tmp_path, synthetic_config())], width=120)
    assert "the same command with method=full makes one" in text
    assert "×" not in text
    assert "–" not in text


def test_tables_that_differ_say_in_what(tmp_path):
    runs = [*rank_grid(tmp_path), finished_run(tmp_path, synthetic_config(max_length=128))]
    text = drawn(runs, width=120)
    assert text.count("minilm on tweet_sentiment") == 2
    assert "2 tables, because these runs cannot be compared; they differ in:" in text
    assert "task.max_length: 64 | 128" in text


def test_elsewhere_it_is_markdown(tmp_path):
    runs = rank_grid(tmp_path)
    text = drawn(runs, width=40, is_terminal=False)
    assert text.strip() == comparison_markdown(build_comparison(runs)).strip()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert {line.count("|") for line in rows} == {10}
    assert rows[2].startswith("| LoRA r=1 | all, lr 0.002, seed 0 | 0.610 [0.542, 0.678] | 0.87× | −0.090 [")
    assert rows[-1].endswith("| baseline | 22.7 M (1×) | 518 MiB (1×) | 86.7 MiB (1×) | 198 ms (1×) |")


def test_nothing_recorded_says_what_to_do():
    assert "`python run.py` makes one" in drawn([], width=100)
