"""Oracle: the text that a reader sees, at the widths of usual terminals."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from support.synthetic_runs import (
    append_lines,
    finish_run,
    finished_run,
    rank_grid,
    replaced,
    start_run,
    synthetic_config,
)

from lora_bench.report import build_comparison, comparison_markdown, render_comparison


def drawn(runs, *, width: int, is_terminal: bool = True) -> str:  # type: ignore[no-untyped-def]
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=is_terminal, color_system=None)
    render_comparison(runs, console=console)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_every_number_is_whole_at_every_width(tmp_path, width):
    text = drawn(rank_grid(tmp_path, seeds=(0, 1, 2)), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for word in ("LoRA r=1", "LoRA r=64", "full fine-tuning", "28,803", "22.7 M", "113 KiB", "150 ms", "0.76×", "1×"):
        assert word in text, word
    assert text.index("LoRA r=8") < text.index("LoRA r=64") < text.index("full fine-tuning")
    assert "0.680 [0.637, 0.723]" in text
    assert "noise" in text
    text = drawn(rank_grid(tmp_path / "one"), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "0.690 [0.626, 0.754]" in text
    assert "not decided" in text


def test_the_title_says_how_many_tokens_were_read_and_not_how_many_were_allowed(tmp_path):
    run = finished_run(tmp_path, synthetic_config(max_length=4000))
    assert "up to 4000 tokens" in drawn([run], width=120)  # a record that does not say it
    replaced(run, details={"max_tokens": 128})
    assert "up to 128 tokens" in drawn([run], width=120)


def test_a_wide_terminal_shows_the_difference_and_a_narrow_one_its_verdict(tmp_path):
    runs = rank_grid(tmp_path, seeds=(0, 1, 2))
    wide, narrow = drawn(runs, width=120), drawn(runs, width=80)
    assert "−0.100 [−0.138, −0.062]" in wide
    assert "−0.100" not in narrow
    for text in (wide, narrow):
        assert "worse" in text
    assert "in noise" in narrow


@pytest.mark.parametrize("width", [80, 120])
def test_why_nothing_is_decided_is_said(tmp_path, width):
    runs = rank_grid(tmp_path)
    text = drawn(runs, width=width)
    assert ("one seed: not decided" in text) == (width == 120)
    assert "not decided" in text
    assert "seed=0,1,2 gives three." in " ".join(text.split())
    assert "one seed: not decided |" in comparison_markdown(build_comparison(runs))


def test_a_margin_gives_a_word_for_equal(tmp_path):
    runs = rank_grid(tmp_path, seeds=(0, 1, 2))
    file = io.StringIO()
    render_comparison(runs, console=Console(file=file, width=120, force_terminal=True), margin=0.08)
    text = " ".join(file.getvalue().split())
    assert "equal within 0.08" in text
    assert "the 90 % interval lies inside ±0.08, the margin that was given." in text
    assert "equal within" not in drawn(runs, width=120)


def test_a_setting_that_was_not_chosen_has_no_verdict(tmp_path):
    runs = rank_grid(tmp_path)
    other = finished_run(tmp_path, synthetic_config(method="full", lr=1e-4), validation=0.1)
    assert "not chosen" in drawn([*runs, other], width=120)
    assert "not chosen" in drawn([*runs, other], width=80)
    assert "| not chosen |" in comparison_markdown(build_comparison([*runs, other]))


def test_the_title_names_the_items_that_were_judged_on(tmp_path):
    """Runs with validation items were judged on others; records from before there were any do not say."""
    old = finished_run(tmp_path, synthetic_config(r=4))
    assert " test items" not in comparison_markdown(build_comparison([old]))
    new = finished_run(tmp_path, synthetic_config(r=8), validation=0.7)
    assert "accuracy over 200 test items" in comparison_markdown(build_comparison([new]))


def test_intervals_are_said_to_be_over_what_they_are_over(tmp_path):
    single, several = rank_grid(tmp_path / "one", seeds=(0,)), rank_grid(tmp_path / "three", seeds=(0, 1, 2))
    assert "Intervals of scores are over items." in comparison_markdown(build_comparison(single))
    over_seeds = "Intervals of scores are over seeds (Student's t)."
    assert over_seeds in comparison_markdown(build_comparison(several))


def test_digests_that_keep_tables_apart_are_cut_where_they_differ(tmp_path):
    runs = [finished_run(tmp_path, synthetic_config(seed=seed)) for seed in (0, 1)]
    digests = ["sha256:" + "1" * 20 + end * 44 for end in "ab"]
    for run, digest in zip(runs, digests, strict=True):
        result = run.read_result()
        assert result is not None
        replaced(run, provenance=dataclasses.replace(result.provenance, weights_digest=digest))
    assert f"weights: {'1' * 20}a | {'1' * 20}b" in drawn(runs, width=120)


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
    assert rows[-1].endswith("| baseline | 22.7 M (1×) | 518 MiB (1×) | 86.7 MiB (1×), 4.0 B a number | 198 ms (1×) |")


def test_nothing_recorded_says_what_to_do():
    assert "`python run.py` makes one" in drawn([], width=100)
