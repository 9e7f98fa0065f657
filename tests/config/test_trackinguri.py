"""Oracle: what MLflow and SQLAlchemy open, and what MLflow would have failed on after a training."""

from __future__ import annotations

import pytest

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.trackinguri import uri_problem
from lora_bench.errors import ConfigError


@pytest.mark.parametrize(
    "uri",
    ["http://host:5000", "https://host", "sqlite:////tmp/x.db", "postgresql://u:p@host/db", "postgresql+psycopg://h/d"],
)
def test_stores_that_are_known(uri):
    assert uri_problem(uri) is None


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mlruns", "'mlruns' has no scheme, and MLflow's folders of files are not written"),
        ("localhost:5000", "has no scheme"),
        ("file:///tmp/mlruns", "is a folder of files"),
        ("htp://host", "'htp://host' is not a known store; accepted are sqlite://, http://"),
        ("http://:5000", "names no host"),
        ("http://host:99999", "has no valid host and port"),
        ("sqlite://x.db", "names no file; write sqlite:///PATH"),
    ],
)
def test_what_is_no_store_is_told_from_its_text(uri, told):
    assert told in str(uri_problem(uri))


def test_a_password_is_not_repeated():
    assert "secret" not in str(uri_problem("ftp://user:secret@host"))


def test_a_run_with_a_wrong_store_is_refused_before_training(monkeypatch):
    with pytest.raises(ConfigError, match=r"tracking.uri: 'htp://host' is not a known store"):
        resolve(compose_config(["tracking.uri=htp://host"]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    with pytest.raises(ConfigError, match=r"tracking.uri: 'mlruns' has no scheme"):
        resolve(compose_config([]))
    assert resolve(compose_config(["tracking=none"])).tracking.uri is None


def test_the_experiment_of_the_environment_is_honoured(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    assert resolve(compose_config([])).tracking.experiment == "ours"
    assert resolve(compose_config(["tracking.experiment=mine"])).tracking.experiment == "mine"
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert resolve(compose_config([])).tracking.experiment == "lora_bench"
