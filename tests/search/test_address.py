"""Oracle: the trials of a study that was written by hand, and the words that a user reads."""

from __future__ import annotations

import pytest
from support.recorded_studies import rank_study

from lora_bench.errors import UsageError
from lora_bench.rundir import RunDir
from lora_bench.search.address import find_by_address, resolve_part, resolve_run


@pytest.mark.parametrize(
    ("text", "name"),
    [("best:ranks", "run-3"), ("best:ranks:full", "run-5"), ("ranks:0", "run-0"), ("ranks:baseline-0", "run-4")],
)
def test_an_address_is_a_run(tmp_path, text, name):
    rank_study(tmp_path)
    assert find_by_address(text, tmp_path).run.path.name == name


def test_best_is_by_the_objective_of_the_study(tmp_path):
    rank_study(tmp_path, objectives=("minimize memory/peak_tensor_gib",))
    assert find_by_address("best:ranks", tmp_path).run.path.name == "run-0"


def test_what_is_no_address_is_left_as_it_is(tmp_path, capsys):
    run = rank_study(tmp_path).runs / "run-0"
    assert find_by_address("run-0", tmp_path) is None
    assert resolve_run(str(run), tmp_path) == str(run)
    assert resolve_part("run-0:0.5", tmp_path) == "run-0:0.5"
    assert capsys.readouterr().err == ""


def test_a_part_has_its_weight_after_the_address(tmp_path, capsys):
    runs = rank_study(tmp_path).runs
    assert resolve_part("best:ranks:0.7", tmp_path) == f"{runs / 'run-3'}:0.7"
    assert resolve_part("ranks:1:-0.3", tmp_path) == f"{runs / 'run-1'}:-0.3"
    value = RunDir(runs / "run-3").read_result().score("accuracy").value
    err = capsys.readouterr().err
    assert f"best:ranks: trial 3 of ranks, lora.r=8 training.lr=0.002, eval/accuracy {value:.4g}: run-3" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best:rank", r"no study 'rank' in .* \(did you mean 'ranks'\?\); studies: ranks"),
        ("ranks:9", r"ranks has no trial 9; it has 0, 1, 2, 3, baseline-0, baseline-1"),
        ("ranks:x", r"'x' is not a trial; a trial is a number, or baseline-NUMBER"),
        ("best:ranks:fuul", r"no method 'fuul' \(did you mean 'full'\?\); ranks has lora, full"),
        ("best:ranks:1:2", r"is not a run; accepted: the name of a run, best:STUDY, STUDY:TRIAL"),
        ("ranks:2", r"trial 2 of ranks has no finished run \(it is interrupted\)"),
        ("best:ranks:full", r"none of its 2 trials has finished .* \(2 waiting\); see `lora-bench study ranks`"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(tmp_path, text, message):
    rank_study(tmp_path, num_finished=2)
    with pytest.raises(UsageError, match=message):
        find_by_address(text, tmp_path)


@pytest.mark.parametrize("text", ["best:ranks", "ranks:1"])
def test_a_part_without_a_weight_is_said_so(tmp_path, text):
    rank_study(tmp_path)
    with pytest.raises(UsageError, match=rf"write it as {text}:0.5"):
        resolve_part(text, tmp_path)
