"""Scores a model on a held-out split of a task, item by item."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lora_bench.config.schema import GenerationTaskConfig, TaskConfig, TaskKind
from lora_bench.evaluation.confidence import macro_f1_interval, ratio_interval, wilson_interval
from lora_bench.evaluation.generation import generate
from lora_bench.evaluation.likelihood import class_log_probabilities, response_nll
from lora_bench.evaluation.metrics import confusion_matrix, macro_f1
from lora_bench.evaluation.sharing import ALONE, Sharing
from lora_bench.records import Score
from lora_bench.tasks.base import Example, Grading, TaskData
from lora_bench.tasks.encode import EncodedSplit


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gave."""

    scores: list[Score]
    headline: str
    """Name of the score that stands for the run."""
    predictions: list[dict[str, Any]]
    """One per item, in the order of the split, with `item_id` and `nll` in nats. Classification adds `label`,
    `prediction` and `correct`; generation adds `num_tokens`, and to items that were generated for also `generated`,
    `reference` and their grade (`rouge_l` or `correct`)."""
    loss: float
    """Mean negative log-likelihood in nats, per item for classification and per token for generation."""
    generate_s: float = 0.0
    """Wall time of generating and grading; scoring is not in it."""


def evaluate(
    net: Any,
    split: EncodedSplit,
    *,
    items: Sequence[Example],
    data: TaskData,
    task: TaskConfig,
    tokenizer: Any,
    batch_size: int,
    device: torch.device | str,
    sharing: Sharing = ALONE,
) -> Evaluation:
    """Every item scored, without a trace: modes, gradients and random generators are left as they were.

    Logits are taken to fp32 before the softmax. Does not move `net` and does not average over seeds.

    Args:
        net: A sequence classifier or causal language model of transformers, or a PEFT model around one.
        split: The items, encoded.
        items: `data.validation` or `data.test`.
        data: The task's texts, class names and grading.
        task: For generation, how much is generated.
        tokenizer: Has a pad token, the one that `net` knows; turns generated tokens back into text.
        batch_size: Items in one forward pass.
        device: Where `net` is.
        sharing: Which items this process scores, where there are several; each gets the whole evaluation.
    """
    pad_id = tokenizer.pad_token_id
    # Not inference mode: tensors that a module keeps from a forward pass (rotary tables, masks) must stay usable
    # in the training step that follows.
    with torch.no_grad(), _evaluation_mode(net):
        if data.kind is TaskKind.classification:
            log_probabilities = class_log_probabilities(
                net, split, pad_id=pad_id, batch_size=batch_size, device=device, sharing=sharing
            )
            return _classification(log_probabilities, split, data=data)
        nll, num_tokens = response_nll(net, split, pad_id=pad_id, batch_size=batch_size, device=device, sharing=sharing)
        result = _likelihood(nll, num_tokens, split, data=data)
        if data.grading is None or not isinstance(task, GenerationTaskConfig) or not task.max_new_tokens:
            return result
        started = time.perf_counter()
        answers = generate(
            net,
            split,
            np.arange(len(split))[: task.num_generate],
            tokenizer=tokenizer,
            pad_id=pad_id,
            max_new_tokens=task.max_new_tokens,
            batch_size=batch_size,
            device=device,
            sharing=sharing,
        )
    return _with_answers(result, answers, items=items, grading=data.grading, started=started)


def _classification(log_probabilities: NDArray[np.float32], split: EncodedSplit, *, data: TaskData) -> Evaluation:
    """From log-probabilities, shape (items, classes), to scores and predictions."""
    labels = split.labels
    assert labels is not None, "a classification split has classes"
    predictions = log_probabilities.argmax(axis=1)
    nll = -log_probabilities[np.arange(len(labels)), labels].astype(np.float64)
    is_correct = predictions == labels
    confusion = confusion_matrix(labels, predictions, num_classes=len(data.labels))
    scores = [
        _share("accuracy", int(is_correct.sum()), len(labels)),
        _score("macro_f1", float(macro_f1(confusion)), macro_f1_interval(confusion), len(labels)),
        _ratio("nll", nll, np.ones(len(nll)), high=math.inf, higher_is_better=False),
    ]
    rows = zip(split.item_ids, labels.tolist(), predictions.tolist(), nll.tolist(), is_correct.tolist(), strict=True)
    items = [
        {
            "item_id": item_id,
            "label": data.labels[label],
            "prediction": data.labels[prediction],
            "nll": item_nll,
            "correct": correct,
        }
        for item_id, label, prediction, item_nll, correct in rows
    ]
    return Evaluation(scores, data.headline, items, loss=float(nll.mean()))


def _likelihood(
    nll: NDArray[np.float64], num_tokens: NDArray[np.int64], split: EncodedSplit, *, data: TaskData
) -> Evaluation:
    """The part of a generation task that needs no generating; each token counts alike, long responses for more."""
    score = _ratio("nll_per_token", nll, num_tokens.astype(np.float64), high=math.inf, higher_is_better=False)
    rows = zip(split.item_ids, nll.tolist(), num_tokens.tolist(), strict=True)
    items = [{"item_id": item_id, "nll": item_nll, "num_tokens": count} for item_id, item_nll, count in rows]
    return Evaluation([score], data.headline, items, loss=score.value)


def _with_answers(
    result: Evaluation, answers: Sequence[str], *, items: Sequence[Example], grading: Grading, started: float
) -> Evaluation:
    """The same evaluation with the answers of its first items graded."""
    references = [(item.response or "").strip() for item in items[: len(answers)]]
    grades = [grading.grade(answer, reference) for answer, reference in zip(answers, references, strict=True)]
    predictions = list(result.predictions)
    for index, (answer, reference, grade) in enumerate(zip(answers, references, grades, strict=True)):
        own = {"generated": answer, "reference": reference, grading.field: bool(grade) if grading.is_binary else grade}
        predictions[index] = predictions[index] | own
    if grading.is_binary:
        score = _share(grading.metric, int(sum(grades)), len(grades))
    else:
        score = _ratio(grading.metric, np.array(grades), np.ones(len(grades)), high=1.0, higher_is_better=True)
    seconds = time.perf_counter() - started
    return Evaluation([*result.scores, score], result.headline, predictions, loss=result.loss, generate_s=seconds)


def _share(name: str, num_correct: int, num_items: int) -> Score:
    return _score(name, num_correct / num_items, wilson_interval(num_correct, num_items), num_items)


def _ratio(
    name: str, totals: NDArray[np.float64], counts: NDArray[np.float64], *, high: float, higher_is_better: bool
) -> Score:
    value = float(totals.sum() / counts.sum())
    interval = ratio_interval(totals, counts, low=0.0, high=high)
    return _score(name, value, interval, len(totals), higher_is_better=higher_is_better)


def _score(
    name: str, value: float, interval: tuple[float, float], num_items: int, *, higher_is_better: bool = True
) -> Score:
    low, high = (bound if math.isfinite(bound) else None for bound in interval)
    return Score(name, value, low, high, num_items=num_items, higher_is_better=higher_is_better)


@contextlib.contextmanager
def _evaluation_mode(net: torch.nn.Module) -> Iterator[None]:
    """Dropout off; afterwards every module is in the mode in which it was, also where modes were mixed."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
