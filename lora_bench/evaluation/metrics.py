"""Scores from counts. Axes: C classes; a leading axis, where there is one, is resamples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.int64]:
    """Counts by true class (row) and predicted class (column), shape (C, C)."""
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def macro_f1(confusion_CC: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean F1 over the classes that occur as label or prediction, in [0, 1], higher is better.

    F1 is 2 TP / (2 TP + FP + FN), as `f1_score(average="macro", zero_division=0)` of scikit-learn has it.

    Args:
        confusion_CC: Shape (C, C), or (N, C, C) for N matrices at once.

    Returns:
        Shape () or (N,).
    """
    hits = np.diagonal(confusion_CC, axis1=-2, axis2=-1)
    # 2 TP + FP + FN: a class's row and column, which both hold its hits.
    total = confusion_CC.sum(axis=-1) + confusion_CC.sum(axis=-2)
    f1 = np.divide(2.0 * hits, total, out=np.zeros(total.shape), where=total > 0)
    mean: NDArray[np.float64] = f1.sum(axis=-1) / (total > 0).sum(axis=-1)
    return mean
