"""Oracle: `read_articles`, which has its own test."""

from __future__ import annotations

from lora_bench.config.schema import BbcTopicConfig, TaskKind
from lora_bench.tasks import load_task
from lora_bench.tasks.bbc import TOPICS, read_articles


def test_split_and_texts():
    data = load_task(BbcTopicConfig())
    assert (len(data.train), len(data.validation), len(data.test)) == (1542, 171, 343)
    assert data.kind is TaskKind.classification
    assert data.labels == TOPICS
    articles = {article.item_id: article for article in read_articles()[0]}
    for item in data.train + data.validation + data.test:
        article = articles.pop(item.item_id)
        assert item.text.startswith(article.headline)
        assert item.text.endswith(article.body)
        assert TOPICS[item.label] == item.item_id.split("/")[0]
    assert not articles


def test_seed_of_the_split_moves_items():
    first, second = load_task(BbcTopicConfig()), load_task(BbcTopicConfig(split_seed=1))
    assert {item.item_id for item in first.test} != {item.item_id for item in second.test}
    assert first.digest != second.digest
    assert first.digest == load_task(BbcTopicConfig()).digest
