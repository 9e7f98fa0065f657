"""Sums and differences.

Dataset: made from the split seed, all or 20,000 of the questions "a + b =" and "a - b =" with a >= b >= 0 and at
    most `num_digits` digits each (after GPT-3, https://arxiv.org/abs/2005.14165, section 3.9.1).
Metric: exact match of the greedy answer in [0, 1], higher is better; negative log-likelihood of the answer in nats
    per token, lower is better.
Pattern: no examples; the first line of the greedy continuation is the answer, spaces aside.
"""

from __future__ import annotations

import math
import random

from lora_bench.config.schema import ArithmeticConfig
from lora_bench.tasks.base import Example, TaskData
from lora_bench.tasks.grading import EXACT_MATCH
from lora_bench.tasks.splits import cut_splits

MAX_QUESTIONS = 20_000
HELD_OUT_FRACTION = 0.2


def load(config: ArithmeticConfig) -> TaskData:
    """Distinct questions in a seeded order, the first fifth held out.

    The larger number stands first, so that no question on one side is another's mirror image on the other.

    Raises:
        TaskError: If more questions are asked for than there are.
    """
    num_pairs = math.comb(10**config.num_digits + 1, 2)
    count = min(2 * num_pairs, MAX_QUESTIONS)
    chosen = random.Random(config.split_seed).sample(range(2 * num_pairs), count)
    examples = [_example(number) for number in chosen]
    splits = cut_splits(examples, config=config, held_out_fraction=HELD_OUT_FRACTION)
    return TaskData(config.name, config.kind, *splits, headline="exact_match", grading=EXACT_MATCH)


def _example(number: int) -> Example:
    """The question with this number: sums are even, differences odd, pairs count 0 0, 1 0, 1 1, 2 0 and so on."""
    pair, is_difference = divmod(number, 2)
    a = (math.isqrt(8 * pair + 1) - 1) // 2
    b = pair - a * (a + 1) // 2
    sign, answer = ("-", a - b) if is_difference else ("+", a + b)
    question = f"{a} {sign} {b} ="
    return Example(question.removesuffix(" ="), question, response=f" {answer}")
