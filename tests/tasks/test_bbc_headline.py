"""Oracle: `read_articles`, which has its own test."""

from __future__ import annotations

from lora_bench.config.schema import BbcHeadlineConfig, TaskKind
from lora_bench.tasks import load_task
from lora_bench.tasks.bbc import read_articles


def test_prompts_hold_the_opening_and_not_the_headline():
    data = load_task(BbcHeadlineConfig(num_eval=100))
    assert (len(data.train), len(data.test)) == (1542, 100)
    assert data.kind is TaskKind.generation
    assert (data.headline, data.grading.metric) == ("nll_per_token", "rouge_l")
    articles = {article.item_id: article for article in read_articles()[0]}
    for item in data.train + data.validation + data.test:
        opening, mark, rest = item.text.partition("\n\nHeadline:")
        assert (mark, rest) == ("\n\nHeadline:", "")
        assert opening.split() == articles[item.item_id].body.split()[:60]
        assert item.response == f" {articles[item.item_id].headline}"


def test_same_split_as_the_seed_says():
    first, again = load_task(BbcHeadlineConfig(num_train=5)), load_task(BbcHeadlineConfig(num_train=9))
    assert first.train == again.train[:5]
    assert first.test == again.test
