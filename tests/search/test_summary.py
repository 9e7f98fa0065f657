"""Oracle: a study written by hand, drawn as text at several widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from support.recorded_studies import rank_study

from lora_bench.search.influence import recorded_influence
from lora_bench.search.overview import read_overview
from lora_bench.search.summary import render_overview

OBJECTIVES = ("maximize eval/accuracy", "minimize memory/peak_tensor_gib")


def drawn(directory, width=200):
    file = io.StringIO()
    console = Console(file=file, width=width)
    console.print(render_overview(read_overview(directory), found=recorded_influence(directory)))
    return file.getvalue()


def test_several_objectives_have_a_front_and_importances_at_any_time(tmp_path):
    text = drawn(rank_study(tmp_path, objectives=OBJECTIVES, num_finished=5))
    assert "Pareto front: no other trial is as good in every objective and better in one" in text
    front = text.split("Pareto front")[1].split("importance")[0]
    assert [line.split()[:2] for line in front.splitlines()[2:] if line] == [
        ["full", "baseline-0"],
        ["lora", "3"],
        ["lora", "1"],
    ]
    assert "importance for eval/accuracy (lora): lora.r" in text
    assert "importance for memory/peak_tensor_gib (lora): lora.r" in text
    assert "baseline-1" in text.split("newest trials")[1]


def test_methods_have_their_names_and_tables_their_whole_titles(tmp_path):
    text = drawn(rank_study(tmp_path), width=80)
    assert "best of each method, by eval/accuracy (maximize)" in text
    assert "study " not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("num_finished", [0, 1])
def test_a_study_that_has_just_begun_has_no_empty_tables(tmp_path, num_finished):
    text = drawn(rank_study(tmp_path, num_finished=num_finished))
    assert text.startswith("ranks: died")
    assert ("best of each method" in text) == (num_finished == 1)
    assert "importance" not in text
