"""Damaged files of a study that is taken up again. Oracle: each run once, and what was damaged named and kept."""

from __future__ import annotations

import json

GRID = ("lora.r=1,2,4", "study.baseline=null", "study.name=g", "training.max_steps=5")


def test_a_grid_trains_again_what_is_damaged_and_refuses_what_is_newer(study):
    study.finish(*GRID)
    runs = study.runs()
    kept = runs[2].result.read_bytes()
    runs[0].result.write_bytes(b"")
    runs[1].result.unlink()
    runs[1].result.mkdir()
    runs[1].config.write_bytes(b"\xff[")
    runs[1].metrics.write_text('{"step": 1}\n')
    study.directory.trials.write_text("{}\n")
    said = study.finish(*GRID)
    assert f"{runs[0].result}: is no JSON" in said
    assert f"{runs[1].result}: is a folder, not a file" in said
    assert "Traceback" not in said
    assert study.statuses() == {"finished": 3}
    assert runs[2].result.read_bytes() == kept
    assert [path.name for path in (runs[0].path / "damaged").iterdir()] == ["result.json.1"]
    assert (runs[1].path / "damaged" / "config.yaml.1").read_bytes() == b"\xff["
    assert len(study.directory.read_trials()) == 3
    assert study.directory.trials.with_name("damaged").is_dir()

    data = json.loads(runs[0].result.read_text()) | {"of_later": 1}
    runs[0].result.write_text(json.dumps(data))
    said = study.finish(*GRID, code=1)
    assert f"{runs[0].result}: written by a newer version (RunResult: unknown fields ['of_later'])" in said
    assert "Traceback" not in said
    assert json.loads(runs[0].result.read_text()) == data

    path = study.directory.question
    path.write_bytes(b"question: \xff")
    said = study.finish(*GRID, code=1)
    assert f"{path}: is not UTF-8 (byte 10); bring it back from a copy" in said
    assert "Traceback" not in said


def test_a_search_trains_a_damaged_trial_again(study):
    words = ["training.lr=tag(log,interval(1e-4,1e-2))", "study.n_trials=2", "study.baseline=null", "study.name=s"]
    study.finish(*words, "training.max_steps=5")
    damaged = study.runs()[0].result
    damaged.write_text("null")
    said = study.finish(*words, "training.max_steps=5")
    assert f"{damaged}: holds no JSON object" in said
    assert study.statuses() == {"finished": 2}
    ((_, trials),) = study.optuna_trials().items()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
