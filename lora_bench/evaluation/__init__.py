"""Scores of a model on the evaluation split, with every item's prediction."""

from lora_bench.evaluation.scoring import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
