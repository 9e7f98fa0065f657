"""The commands about studies, on a study whose runs pretend to train. Oracle: the run directories."""

from __future__ import annotations

import json

import pytest

from lora_bench import cli
from lora_bench.rundir import find_run_dirs
from lora_bench.search.studydir import StudyDir

RATE = "training.lr=tag(log,interval(1e-5,1e-1))"


@pytest.fixture
def root(tmp_path, pretended_study):
    """A search of three trials whose second seed runs out of memory, and a grid."""
    pretended_study(RATE, "study.name=one", "study.n_trials=2", "study.baseline=null", "training.max_steps=10")
    words = ["lora.r=1,2", "study.name=two", "seed=0,103", "training.max_steps=10", "study.baseline=null"]
    pretended_study(*words)
    return tmp_path / "root"


def test_studies_are_listed_shown_and_given_to_programs(root, capsys):
    assert cli.main(["studies", "--root", str(root)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("one  done  2 of 2 runs, best eval/accuracy 0.")
    assert out[1].startswith("two  done  4 of 4 runs")
    assert cli.main(["study", "one", "--root", str(root), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["counts"] == {"finished": 2}
    assert {tuple(trial["runs"]) for trial in data["trials"]} == {
        (run.path.name,) for run in find_run_dirs(root) if "r8" in run.path.name
    }
    values = [trial["metrics"]["eval/accuracy"] for trial in data["trials"]]
    assert data["best"]["own"]["metrics"]["eval/accuracy"] == max(values)
    assert cli.main(["study", "two", "--root", str(root)]) == 0
    assert "two: done" in capsys.readouterr().out


def test_an_unknown_study_has_a_near_name(root, capsys):
    assert cli.main(["stop", "onne", "--root", str(root)]) == 1
    assert "no study 'onne'" in (err := capsys.readouterr().err)
    assert "(did you mean 'one'?); studies: one, two" in err
    assert cli.main(["retry", "one", "--status", "filed", "--root", str(root)]) == 1
    assert "'filed' (did you mean 'failed'?); accepted: failed, oom" in capsys.readouterr().err


def test_a_retry_trains_what_ended_badly_and_keeps_the_old_records(root, capsys, monkeypatch):
    given = []
    monkeypatch.setattr("lora_bench.search.sweep.sweep", lambda words, console: given.append(words) or 0)
    assert cli.main(["retry", "two", "--status", "failed,oom", "--root", str(root)]) == 0
    assert "2 runs of two to be tried again" in capsys.readouterr().out
    assert f"paths.root={root}" in given[0]
    assert "lora.r=1,2" in given[0]
    moved = [run for run in find_run_dirs(root) if (run.path / "failures" / "1.json").exists()]
    assert len(moved) == 2
    assert not any(run.result.exists() for run in moved)


def test_rebuild_makes_optuna_again(root, capsys):
    journal = StudyDir(root / "studies" / "one").journal
    journal.unlink()
    assert cli.main(["rebuild", "one", "--root", str(root)]) == 0
    assert "one: made again from 2 trials" in capsys.readouterr().out
    assert journal.stat().st_size > 0


def test_stop_without_a_controller(root, capsys):
    assert cli.main(["stop", "one", "--root", str(root)]) == 0
    assert "no controller carries it out" in capsys.readouterr().out
