"""Cross-entropy with label smoothing, and what of it is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dots_reference.windows import Array


def cross_entropy(logits: Array, labels: NDArray[np.integer], smoothing: float = 0.0) -> tuple[Array, Array]:
    """Return each sample's cross-entropy, and the gradient of their sum.

    Parameters
    ----------
    logits : (N, classes)
    labels : (N,)
    smoothing : float
        Share of the target spread evenly over all classes.

    Returns
    -------
    (N,) and (N, classes), in the logits' dtype
    """
    samples, classes = logits.shape
    targets = np.full_like(logits, smoothing / classes)
    targets[np.arange(samples), labels] += 1.0 - smoothing
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(targets * log_probabilities).sum(axis=1), np.exp(log_probabilities) - targets


def correct_predictions(logits: Array, labels: NDArray[np.integer]) -> int:
    """Number of samples whose largest logit, of shape (N, classes), is the label's, of shape (N,)."""
    return int((logits.argmax(axis=1) == labels).sum())
