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

QUESTION = {
    "arms": {"own": {"base": [], "space": {"method": "lora, full", "+training.lr_scale": "0.1, 0.3, 1, 2, 4"}}},
    "seeds": [0, 1],
    "objectives": ["maximize eval/accuracy"],
    "constraints": [],
    "sampler": "grid",
}
# Method, rate, accuracy on validation items; on test items the order of the rates is the other way round.
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
        scores = {"accuracy": 1.4 - accuracy, "validation": accuracy} if accuracy is not None else {}
        run = finished_run(root, config, **scores) if scores else start_run(root, config)
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


def test_each_method_at_the_rate_that_validation_items_chose(study):
    (ranking,) = rank_methods(read_overview(study))
    assert _found(ranking) == [("full", 3e-4, "inside", 2), ("lora", 2e-3, "inside", 3)]
    assert [place.rank for place in ranking.places] == [1, 1]
    assert {place.candidate.chosen_on for place in ranking.places} == {"validation"}
    assert ranking.remarks == ()


def test_edges_are_those_of_the_space_and_not_of_what_was_drawn(study):
    """Full fine-tuning is best at the largest of its rates that finished, in a grid that goes on to 4."""
    asked = study.read_question()
    narrow = {**QUESTION, "arms": {"own": {"base": [], "space": {"+training.lr_scale": "0.1, 0.3"}}}}
    study.question.write_text(yaml.safe_dump({**asked, "question": narrow}))
    (ranking,) = rank_methods(read_overview(study))
    assert ("full", 3e-4, "upper edge", 2) in _found(ranking)
    drawn = {**QUESTION, "arms": {"own": {"base": [], "space": {"training.lr_scale": "tag(log,interval(0.01,0.32))"}}}}
    study.question.write_text(yaml.safe_dump({**asked, "question": drawn}))
    (ranking,) = rank_methods(read_overview(study))
    assert ("full", 3e-4, "upper edge", 2) in _found(ranking)


def test_a_trial_that_did_not_finish_is_no_candidate(study):
    ask(study, "full", 1, 9e-4, None)
    (ranking,) = rank_methods(read_overview(study))
    assert ("full", 3e-4, "inside", 2) in _found(ranking)
    assert ranking.remarks == ("Not final: 1 of 6 trials have not ended.",)


def test_the_margin_of_the_study_gives_a_word_for_equal(study):
    asked = study.read_question()
    study.question.write_text(yaml.safe_dump({**asked, "question": {**QUESTION, "margin": 0.5}}))
    (ranking,) = rank_methods(read_overview(study))
    assert ranking.places[1].difference is not None
    assert ranking.places[1].difference.verdict == "equal within 0.5"


def test_a_method_without_a_finished_setting_is_named(study):
    study.append_trial(TrialLine("own", 5, {"method": "dora", "training.lr_scale": "1"}, [], ["none-yet"]))
    study.append_trial(TrialLine("own", 6, {"method": "vera", "training.lr_scale": "1"}, [], [], error="no valid run"))
    (ranking,) = rank_methods(read_overview(study))
    assert ranking.remarks[0] == "Not ranked, since no setting has finished on all seeds: dora, vera."


def test_what_cannot_be_compared_is_ranked_apart_and_a_single_method_not_at_all(study):
    for method, lr, accuracy in ASKED:
        ask(study, method, lr / 1e-3, lr, 1 - accuracy, max_length=128)
    long, short = sorted(rank_methods(read_overview(study)), key=lambda one: -int(one.fields["task.max_length"]))
    assert sorted(lr for _, lr, _, _ in _found(long)) == [1e-4, 4e-3]
    assert sorted(lr for _, lr, _, _ in _found(short)) == [3e-4, 2e-3]
    study.record_trials([line for line in study.read_trials() if line.point["method"] == "lora"])
    assert rank_methods(read_overview(study)) == []


def test_the_command_shows_it_as_text_and_as_data(study, tmp_path, capsys):
    assert cli.main(["study", "methods", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "methods by accuracy, each at its best setting" in text
    assert "| 1 | full fine-tuning | best of 2 | 0.0003 | inside | " in text
    assert "best of each method" not in text
    assert cli.main(["study", "methods", "--root", str(tmp_path), "--json"]) == 0
    (ranking,) = json.loads(capsys.readouterr().out)["rankings"]
    assert [(place["method"], place["lr_edge"], place["chosen_on"]) for place in ranking["places"]] == [
        ("full", "inside", "validation"),
        ("lora", "inside", "validation"),
    ]


def _found(ranking):  # type: ignore[no-untyped-def]
    return [
        (place.row.method, place.row.rate, place.candidate.edge, len(place.candidate.settings))
        for place in ranking.places
    ]
