"""Oracle: the best settings picked by hand from made-up runs."""

from __future__ import annotations

import json

import pytest
import yaml
from support.synthetic_runs import finished_run, start_run, synthetic_config

from lora_bench import cli
from lora_bench.search.overview import read_overview
from lora_bench.search.ranking import rank_methods
from lora_bench.search.studydir import StudyDir, TrialLine

QUESTION = {"arms": {}, "seeds": [0, 1], "objectives": ["maximize eval/accuracy"], "constraints": [], "sampler": "grid"}
# LoRA is best at the middle of three rates, full fine-tuning at the highest of two; a third diverged.
ASKED = [
    ("lora", 1e-3, 0.70),
    ("lora", 2e-3, 0.75),
    ("lora", 4e-3, 0.60),
    ("full", 1e-4, 0.50),
    ("full", 3e-4, 0.73),
]


def ask(directory: StudyDir, method: str, scale: float, lr: float, accuracy: float | None, **fields) -> None:  # type: ignore[no-untyped-def]
    """A trial of two seeds; without an accuracy it has begun and not ended."""
    root, names = directory.path.parents[1], []
    for seed in (0, 1):
        config = synthetic_config(method=method, lr=lr, seed=seed, **fields)
        run = finished_run(root, config, accuracy=accuracy) if accuracy is not None else start_run(root, config)
        names.append(run.path.name)
    point = {"method": method, "training.lr_scale": str(scale)}
    directory.append_trial(TrialLine("own", len(directory.read_trials()), point, [], names))


@pytest.fixture
def study(tmp_path):
    """A study of two methods that is done."""
    directory = StudyDir(tmp_path / "studies" / "methods")
    directory.path.mkdir(parents=True)
    directory.question.write_text(yaml.safe_dump({"question": QUESTION, "text": "Which?", "command": []}))
    for method, lr, accuracy in ASKED:
        ask(directory, method, lr / 1e-3, lr, accuracy)
    return directory


def test_each_method_at_its_best_rate(study):
    (ranking,) = rank_methods(read_overview(study))
    found = [(one.row.records[0].config["training"]["lr"], one.edge, one.num_settings) for one in _contenders(ranking)]
    assert found == [(2e-3, "inside", 3), (3e-4, "upper edge", 2)]
    assert [place.rank for place in ranking.places] == [1, 1]
    assert ranking.remarks == ()


def test_a_rate_that_did_not_finish_belongs_to_the_grid_and_is_no_candidate(study):
    ask(study, "full", 9, 9e-4, None)
    (ranking,) = rank_methods(read_overview(study))
    full = _contenders(ranking)[1]
    assert (full.row.records[0].config["training"]["lr"], full.edge, full.num_settings) == (3e-4, "inside", 2)
    assert ranking.remarks == ("Not final: 1 of 6 trials have not ended.",)


def test_a_method_without_a_finished_setting_is_named(study):
    study.append_trial(TrialLine("own", 5, {"method": "dora", "training.lr_scale": "1"}, [], ["none-yet"]))
    study.append_trial(TrialLine("own", 6, {"method": "vera", "training.lr_scale": "1"}, [], [], error="no valid run"))
    (ranking,) = rank_methods(read_overview(study))
    assert ranking.remarks[0] == "Not ranked, since no setting has finished on all seeds: dora, vera."


def test_what_cannot_be_compared_is_ranked_apart_and_a_single_method_not_at_all(study):
    for method, lr, accuracy in ASKED:
        ask(study, method, lr / 1e-3, lr, 1 - accuracy, max_length=128)
    long, short = sorted(rank_methods(read_overview(study)), key=lambda one: -int(one.fields["task.max_length"]))
    assert [one.row.records[0].config["training"]["lr"] for one in _contenders(long)] == [1e-4, 4e-3]
    assert [one.row.records[0].config["training"]["lr"] for one in _contenders(short)] == [2e-3, 3e-4]
    study.record_trials([line for line in study.read_trials() if line.point["method"] == "lora"])
    assert rank_methods(read_overview(study)) == []


def test_the_command_shows_it_as_text_and_as_data(study, tmp_path, capsys):
    assert cli.main(["study", "methods", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "methods by accuracy, each at its best setting" in text
    assert "| 1 | full fine-tuning | best of 2 | 0.0003 | upper edge | " in text
    assert "best of each method" not in text
    assert cli.main(["study", "methods", "--root", str(tmp_path), "--json"]) == 0
    (ranking,) = json.loads(capsys.readouterr().out)["rankings"]
    assert [(place["method"], place["lr_edge"]) for place in ranking["places"]] == [
        ("lora", "inside"),
        ("full", "upper edge"),
    ]


def _contenders(ranking):  # type: ignore[no-untyped-def]
    return [place.contender for place in ranking.places]
