"""What membership attacks read of a model: the log-odds of each row's true label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ..metrics._inputs import class_column, class_positions, label_column
from ..utils.arguments import to_array, to_numbers

__all__ = ["check_signals", "log_odds_of", "log_sigmoid"]

# What float32 probabilities can express; certain answers of other models are taken for that.
_LARGEST_LOG_ODDS = float(-np.log(np.finfo(np.float32).tiny))


def log_sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the probability that has these log-odds."""
    return -np.logaddexp(0.0, -log_odds)


def log_odds_of(estimator: Any, X: Any, y: ArrayLike) -> NDArray[np.float64]:
    r"""Return the log-odds of the true label of each row.

    .. math:: \phi_i = \log p_{i, y_i} - \log \sum_{c \ne y_i} p_{i, c}

    The sum is taken over the other classes, not as :math:`1 - p`, which would be rounded to 0 for
    an answer that is nearly certain.

    Parameters
    ----------
    estimator : estimator
        Fitted, with ``classes_`` and ``predict_log_proba`` or ``predict_proba``.
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    ndarray of shape (n_samples,)
        Log-odds, between -87.3 and 87.3.

    Raises
    ------
    ValueError
        If a label is not among the classes, or the model's answers are NaN or of another shape.
    """
    positions = class_positions(
        label_column(y, name="y"), class_column(estimator.classes_), name="y"
    )
    if hasattr(estimator, "predict_log_proba"):
        with np.errstate(divide="ignore"):
            log_proba = np.asarray(estimator.predict_log_proba(X), dtype=np.float64)
    else:
        with np.errstate(divide="ignore"):
            log_proba = np.log(np.asarray(estimator.predict_proba(X), dtype=np.float64))
    expected = (len(positions), len(estimator.classes_))
    if log_proba.shape != expected:
        raise ValueError(f"The model answers with shape {log_proba.shape}, expected {expected}.")
    if np.isnan(log_proba).any():
        row = int(np.flatnonzero(np.isnan(log_proba).any(axis=1))[0])
        raise ValueError(
            f"The model answers with NaN, the first time for row {row}: did training diverge?"
        )
    rows = np.arange(len(positions))
    own = log_proba[rows, positions]
    others = log_proba.copy()
    others[rows, positions] = -np.inf
    odds = own - logsumexp(others, axis=1)
    return np.clip(odds, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)


def check_signals(
    log_odds: ArrayLike, reference_log_odds: ArrayLike, is_in: ArrayLike, *, n_in: int, n_out: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Check what an attack is given.

    Parameters
    ----------
    log_odds : array-like of shape (n_samples,)
        Of the attacked model.
    reference_log_odds : array-like of shape (n_models, n_samples)
        Of the reference models.
    is_in : bool array-like of shape (n_models, n_samples)
        Whether the reference model was trained on the row.
    n_in, n_out : int
        How many models of each kind a row needs.

    Returns
    -------
    tuple of ndarray
        The three arrays.

    Raises
    ------
    TypeError
        If one of them is a sparse matrix.
    ValueError
        If they do not fit.
    """
    target = to_numbers(log_odds, "log_odds")
    references = to_numbers(reference_log_odds, "reference_log_odds")
    inside = to_array(is_in, "is_in")
    if target.ndim != 1 or not len(target):
        raise ValueError(
            f"log_odds must be one-dimensional and not empty, got shape {target.shape}."
        )
    for name, array in (("reference_log_odds", references), ("is_in", inside)):
        if array.ndim != 2 or array.shape[1] != len(target):
            raise ValueError(
                f"{name} must have shape (n_models, {len(target)}), a column for every row; got "
                f"{array.shape}."
            )
    if inside.dtype != bool or inside.shape != references.shape:
        raise ValueError(
            f"is_in must be boolean and of the shape of reference_log_odds, {references.shape}; "
            f"got {inside.dtype} of shape {inside.shape}."
        )
    for name, array in (("log_odds", target), ("reference_log_odds", references)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values.")
    for word, used, least in (("in", inside, n_in), ("out", ~inside, n_out)):
        counts = used.sum(axis=0)
        if (counts < least).any():
            row = int(np.flatnonzero(counts < least)[0])
            raise ValueError(
                f"Row {row} has {counts[row]} reference models with the row {word}, and at least "
                f"{least} are needed. Train more of them, on halves that differ."
            )
    return target, references, inside
