"""Studies on a PostgreSQL server that goes away. Oracle: what was asked for, each once, in both of its databases."""

from __future__ import annotations

import time

from support.studies import RATE


def test_a_restart_of_the_server_in_the_middle_loses_and_doubles_nothing(study, postgres):
    optuna, mlflow = postgres.url("optuna"), postgres.url("mlflow")
    words = [RATE, "study.n_trials=4", "study.n_jobs=2", "training.max_steps=100", f"study.storage={optuna}"]
    words += ["tracking=mlflow", f"tracking.uri={mlflow}"]
    process = study.start(*words)
    study.wait_for_results(process, number=2)
    postgres.stop()
    # Long enough for the runs that are under way to end meanwhile.
    time.sleep(4)
    assert process.poll() is None, process.communicate()[0]
    postgres.start()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "study.storage: does not answer" in out
    assert "the storage answers again" in out
    study.check_each_once(num_trials=4, url=optuna)
    study.check_each_once_in_mlflow(mlflow)


def test_sigkill_of_the_controller_then_the_same_command(study, postgres):
    url = postgres.url("optuna")
    words = [RATE, "study.n_trials=4", "study.n_jobs=2", "training.max_steps=60", f"study.storage={url}"]
    study.kill_at_random_moments(*words, num_kills=3, seed=0)
    study.finish(*words)
    study.check_each_once(num_trials=4, url=url)
    assert not study.directory.journal.exists()


def test_a_server_that_is_not_there_is_said_before_anything_starts(study, postgres):
    url = postgres.url("optuna")
    postgres.stop()
    out = study.finish(RATE, "study.n_trials=2", f"study.storage={url}", code=1)
    assert "study.storage: cannot be opened" in out
    assert "Connection refused" in out
    assert "Traceback" not in out
    assert study.runs() == []
    postgres.start()
