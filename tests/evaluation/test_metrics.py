"""Oracle: scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score

from lora_bench.evaluation.metrics import confusion_matrix, macro_f1


def draw(seed, *, num_classes, num_items, occurring):
    rng = np.random.default_rng(seed)
    return rng.integers(0, occurring, num_items), rng.integers(0, occurring, num_items), num_classes


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_classes", "occurring", "num_items"), [(2, 2, 50), (5, 5, 200), (7, 3, 9), (3, 1, 4)])
def test_counts_and_macro_f1(seed, num_classes, occurring, num_items):
    labels, predictions, _ = draw(seed, num_classes=num_classes, num_items=num_items, occurring=occurring)
    found = confusion_matrix(labels, predictions, num_classes=num_classes)
    assert np.array_equal(found, sklearn_confusion(labels, predictions, labels=range(num_classes)))
    wanted = f1_score(labels, predictions, average="macro", zero_division=0)
    assert float(macro_f1(found)) == pytest.approx(wanted, abs=1e-12)


def test_many_matrices_at_once():
    pairs = [draw(seed, num_classes=4, num_items=30, occurring=4)[:2] for seed in range(6)]
    matrices = np.stack([confusion_matrix(*pair, num_classes=4) for pair in pairs])
    wanted = [f1_score(*pair, average="macro", zero_division=0) for pair in pairs]
    assert macro_f1(matrices) == pytest.approx(wanted, abs=1e-12)
