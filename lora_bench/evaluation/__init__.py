"""Scores of a model on the evaluation split, with every item's prediction."""

from lora_bench.evaluation.scoring import Evaluation, evaluate
from lora_bench.evaluation.sharing import Sharing

__all__ = ["Evaluation", "Sharing", "evaluate"]
