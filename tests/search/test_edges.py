"""Oracle: spaces written by hand, as `study.yaml` keeps them."""

from __future__ import annotations

import pytest
import yaml

from lora_bench import cli
from lora_bench.search.edges import rate_edge, rate_edges, read_arms
from lora_bench.search.studydir import StudyDir, TrialLine

INTERVAL = "tag(log,interval(1e-5,1e-3))"


def question(space):  # type: ignore[no-untyped-def]
    arms = {"own": {"base": [], "space": space}}
    return {"arms": arms, "objectives": ["maximize eval/accuracy"], "constraints": []}


@pytest.mark.parametrize(
    ("space", "point", "edge"),
    [
        ({"training.lr": "1e-4, 3e-4, 1e-3"}, {"training.lr": "1e-3"}, "upper edge"),
        ({"training.lr": "1e-4, 3e-4, 1e-3"}, {"training.lr": "0.0001"}, "lower edge"),
        ({"training.lr": "1e-4, 3e-4, 1e-3"}, {"training.lr": "3e-4"}, "inside"),
        ({"training.lr": "1e-4"}, {"training.lr": "1e-4"}, None),
        ({"+training.lr_scale": "0.33, 1, 3"}, {"+training.lr_scale": "3"}, "upper edge"),
        ({"training.lr": {"values": "1e-4, 1e-3", "when": {"lora.r": ["1"]}}}, {"training.lr": "1e-3"}, "upper edge"),
        # Two decades, of which a fifth of one counts as the edge: below 1.58e-5 and above 6.3e-4.
        ({"training.lr": INTERVAL}, {"training.lr": 1.5e-5}, "lower edge"),
        ({"training.lr": INTERVAL}, {"training.lr": 1.7e-5}, "inside"),
        ({"training.lr": INTERVAL}, {"training.lr": 6.2e-4}, "inside"),
        ({"training.lr": INTERVAL}, {"training.lr": 6.4e-4}, "upper edge"),
        ({"training.lr": "interval(0.0,1.0)"}, {"training.lr": 0.05}, "lower edge"),
        ({"training.lr": "interval(0.0,1.0)"}, {"training.lr": 0.5}, "inside"),
        ({"lora.r": "1, 4"}, {"lora.r": "4"}, None),
    ],
)
def test_a_rate_lies_where_its_space_says(space, point, edge):
    assert rate_edge(TrialLine("own", 0, point, [], []), read_arms(question(space))) == edge


def test_a_question_without_arms_says_nothing():
    assert rate_edge(TrialLine("own", 0, {"training.lr": "1"}, [], []), read_arms({"arms": {}})) is None
    assert read_arms({}) == {}


def study(root, name, space, point):  # type: ignore[no-untyped-def]
    directory = StudyDir(root / "studies" / name)
    directory.path.mkdir(parents=True)
    directory.question.write_text(yaml.safe_dump({"question": question(space), "text": "", "command": []}))
    directory.append_trial(TrialLine("own", 0, point, [], ["run"]))
    return directory


def test_a_run_of_two_studies_is_inside_if_one_asked_more(tmp_path):
    narrow = study(tmp_path, "narrow", {"training.lr": "1e-4, 1e-3"}, {"training.lr": "1e-3"})
    assert rate_edges([narrow]) == {"run": "upper edge"}
    wide = study(tmp_path, "wide", {"training.lr": INTERVAL.replace("1e-3", "1e-2")}, {"training.lr": 1e-3})
    assert rate_edges([narrow, wide]) == rate_edges([wide, narrow]) == {"run": "inside"}


def test_the_report_passes_by_a_study_that_cannot_be_read(tmp_path, capsys):
    directory = study(tmp_path, "damaged", {"training.lr": "1e-4, 1e-3"}, {"training.lr": "1e-3"})
    directory.question.write_text("[")
    (tmp_path / "runs").mkdir()
    assert cli.main(["report", "--root", str(tmp_path)]) == 0
    assert "study.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("margin", ["0", "-0.1", "inf", "nan", "much"])
def test_a_margin_that_is_none_is_refused(margin, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["report", "--root", str(tmp_path), "--margin", margin])
    assert "--margin" in capsys.readouterr().err
