"""Checks of the arguments that all metrics share."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning

from ..validation import to_array, to_numbers


def label_column(values: Any, *, name: str) -> NDArray[Any]:
    """Return class labels as one column.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Any hashable labels.
    name : str
        What to call the argument in error messages.

    Returns
    -------
    ndarray of shape (n_samples,)
        The labels.

    Raises
    ------
    ValueError
        If the labels are not one column, none, missing, unhashable or continuous.
    """
    if not hasattr(values, "__array__"):
        # through pandas, so that ["f", 1] keeps its types and tuples stay elements
        values = pd.Series(list(values)).to_numpy()
    labels = to_array(values, name)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{name} must hold one class label a row (1-D), got {labels.shape}.")
    if pd.isna(labels).any():
        raise ValueError(f"{name} has a missing label (NaN or None).")
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(f"{name} holds fractions: pass class labels, not probabilities or scores.")
    return labels


def label_pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Check true and predicted labels against one another.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_pred : array-like of shape (n_samples,)
        Predicted labels.

    Returns
    -------
    tuple of two ndarrays of shape (n_samples,)
        Both columns.

    Raises
    ------
    ValueError
        If their lengths differ, or one holds strings or dates and the other does not.
    """
    true, pred = label_column(y_true, name="y_true"), label_column(y_pred, name="y_pred")
    if len(true) != len(pred):
        raise ValueError(f"y_true has {len(true)} rows but y_pred has {len(pred)}.")
    are_texts = [
        {isinstance(value, str) for value in pd.unique(pd.Series(y))} for y in (true, pred)
    ]
    if are_texts[0].isdisjoint(are_texts[1]):
        # compared as they are, 1 and "1" never agree: an accuracy of 0 would hide the mistake
        raise ValueError(
            f"y_true and y_pred mix texts with other labels: {true.tolist()[0]!r} against "
            f"{pred.tolist()[0]!r}. Encode both the same way."
        )
    return true, pred


def row_weights(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    """Return one finite weight, not negative, for each row.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
        Weights; None gives ones.
    n_rows : int
        Number of labels.

    Returns
    -------
    ndarray of shape (n_samples,)
        Weights.

    Raises
    ------
    ValueError
        If the shape is wrong, or a weight is negative, infinite or NaN.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weights = to_numbers(sample_weight, "sample_weight")
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), got {weights.shape}.")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must be finite and not negative.")
    return weights


def is_in(values: NDArray[Any], wanted: Collection[Hashable]) -> NDArray[np.bool_]:
    """Mark the values that are among ``wanted``.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Hashable values.
    wanted : collection
        Values to look for.

    Returns
    -------
    ndarray of shape (n_samples,)
        Boolean mask.
    """
    return pd.Series(values).isin(list(wanted)).to_numpy(dtype=bool)


def check_option(value: object, allowed: Collection[str], *, name: str) -> None:
    """Refuse an option that does not exist.

    Parameters
    ----------
    value : object
        What the caller gave.
    allowed : collection of str
        What there is.
    name : str
        What to call the argument in the error message.

    Raises
    ------
    ValueError
        If ``value`` is not allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {sorted(allowed)}, got {value!r}.")


def undefined(message: str, *, stacklevel: int = 3) -> float:
    """Answer for a metric that has no rows to be computed from, as scikit-learn's metrics do.

    Parameters
    ----------
    message : str
        Which rows are missing.
    stacklevel : int, default=3
        How far up the warning points: to the caller of the function that calls this one.

    Returns
    -------
    float
        NaN, together with an UndefinedMetricWarning.
    """
    warnings.warn(message, UndefinedMetricWarning, stacklevel=stacklevel)
    return float("nan")
