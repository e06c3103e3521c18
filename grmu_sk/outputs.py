"""From what a net returns to probabilities, whatever its criterion, and on to labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn


def first_output(output: Any) -> torch.Tensor:
    """Return the prediction of a module that may return several things."""
    return output[0] if isinstance(output, tuple | list) else output


def log_probabilities(net: NeuralNet, output: Any) -> torch.Tensor:
    """Return log-probabilities of shape (n, n_classes), in float32 or better.

    Modules trained with cross-entropy or an unknown criterion are taken to return logits, with
    ``NLLLoss`` probabilities (skorch's convention), with ``BCEWithLogitsLoss`` one logit a row.
    A callable ``predict_nonlinearity`` of the net takes precedence.
    """
    scores = first_output(output)
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if callable(net.predict_nonlinearity):
        return _log(net.predict_nonlinearity(scores))
    if isinstance(net.criterion_, nn.NLLLoss):
        return _log(scores)
    if is_single_logit(scores):
        logit = scores.reshape(-1, 1)
        return torch.cat([nn.functional.logsigmoid(-logit), nn.functional.logsigmoid(logit)], 1)
    return nn.functional.log_softmax(scores, dim=1)


def is_single_logit(scores: torch.Tensor) -> bool:
    """Tell whether a net returns one logit for two classes."""
    return scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1)


def _log(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.log(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny))


def decision_threshold(net: Any) -> float | None:
    """Return the probability above which a net answers with the second of two classes.

    None for a net that answers with the most probable class; only skorch's binary net has one.
    """
    return getattr(net, "threshold", None)


def predicted_columns(
    proba: NDArray[np.floating], threshold: float | None = None
) -> NDArray[np.intp]:
    """Return the column of the class that each row of probabilities stands for.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.
    threshold : float or None, default=None
        Answer with the second of two classes where its probability is above this. None means the
        most probable class, the first of several that are equal.

    Returns
    -------
    ndarray of shape (n_samples,)
        Column numbers.

    Raises
    ------
    ValueError
        If a threshold comes with other than two classes.
    """
    if threshold is None:
        return proba.argmax(axis=1)
    if proba.shape[1] != 2:
        raise ValueError(f"A threshold decides between two classes, not {proba.shape[1]}.")
    return (proba[:, 1] > threshold).astype(np.intp)
