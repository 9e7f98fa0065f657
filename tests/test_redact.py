"""Oracle: what libpq, SQLAlchemy and requests take for the password of a URL."""

from __future__ import annotations

import json
import shlex

import pytest

from lora_bench.redact import holds_secret, redact, redact_words, shown

SECRETS = [
    ("postgresql://me:hunter22@db:5432/optuna", "postgresql://me@db:5432/optuna"),
    ("postgresql+psycopg://me:hun%40ter22@db/optuna", "postgresql+psycopg://me@db/optuna"),
    ("postgresql://me:a/hunter22@db/optuna", "postgresql://me@db/optuna"),
    ("postgresql://me:a@hunter22@db/optuna", "postgresql://me@db/optuna"),
    ("mysql://:hunter22@db/x", "mysql://@db/x"),
    ("https://me:hunter22@mlflow.example:5000/a", "https://me@mlflow.example:5000/a"),
    ("postgresql://me@db/x?password=hunter22", "postgresql://me@db/x"),
    ("postgresql://db/x?user=me&password=hunter22&sslmode=require", "postgresql://db/x?user=me&sslmode=require"),
    ("postgresql://db/x?password=hunter22&sslpassword=hunter22&a=b", "postgresql://db/x?a=b"),
    ("https://store/x?token=hunter22#top", "https://store/x#top"),
    ("HF_TOKEN=hunter22 PGPASSWORD='hunter22 x' python run.py", "HF_TOKEN=*** PGPASSWORD=*** python run.py"),
    ("host=db password=hunter22 dbname=x", "host=db password=*** dbname=x"),
    ("Authorization: Basic aHVudGVyMjI=", "Authorization: Basic ***"),
    ("told hf_hunter22hunter22hunter22 no", "told *** no"),
    ("https://hooks.slack.com/services/T0/B0/hunter22", "https://hooks.slack.com/services/***"),
]
PLAIN = [
    "postgresql://me@db:5432/optuna",
    "http://127.0.0.1:5000/a@b",
    "sqlite:////home/me/a:b@c/mlflow.db",
    "a test at 12:30, mail me@example.org",
    "max_new_tokens=8 model.pad_token=x eos_token=<s>",
    "12 tokens/s; token: 5",
    "https://huggingface.co/a/b?x=1&y=2",
]


@pytest.mark.parametrize(("given", "kept"), SECRETS)
def test_a_password_goes_and_the_rest_stays(given, kept):
    assert redact(given) == kept
    assert redact(kept) == kept
    assert redact(f"a {given} b") == f"a {kept} b"
    assert "hunter22" not in redact(json.dumps({"command": [given, "x@y"], "b": 1}))
    assert "hunter22" not in redact(shlex.join(redact_words(["run.py", f"tracking.uri={given}"])))
    assert "hunter22" not in shown(given)
    assert holds_secret(given)


def test_json_stays_json():
    data = {"words": [given for given, _ in SECRETS[:10]], "mail": "me@example.org"}
    read = json.loads(redact(json.dumps(data)))
    assert read == {"words": [kept for _, kept in SECRETS[:10]], "mail": "me@example.org"}


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text == shown(text)


@pytest.mark.parametrize("password", ["a b", "a'b", 'a"b', "a:b", "ä%2F?#"])
def test_a_word_of_a_command_may_have_any_password(password):
    assert redact_words([f"study.storage=postgresql://me:{password}@db/x"]) == ["study.storage=postgresql://me@db/x"]


def test_a_message_says_that_there_was_one():
    assert shown("http://me:hunter22@db: away") == "http://me:***@db: away"
    assert shown("postgresql://db/x?password=hunter22&a=b") == "postgresql://db/x?password=***&a=b"


def test_values_of_secret_variables_go_too(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse-battery")
    monkeypatch.setenv("PGPASSWORD", "postgres")
    assert redact("said correct-horse-battery.") == "said ***."
    assert redact("postgresql://postgres@db/x") == "postgresql://postgres@db/x"
