"""From class probabilities to labels: the one place that decides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def decision_threshold(net: Any) -> float | None:
    """Return the probability above which a net answers with the second of two classes.

    None for a net that answers with the most probable class; only skorch's binary net has one.
    """
    return getattr(net, "threshold", None)


def predicted_labels(
    proba: NDArray[np.floating], classes: NDArray[Any], threshold: float | None = None
) -> NDArray[Any]:
    """Return the label of each row of probabilities.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.
    classes : ndarray of shape (n_classes,)
        The label of each column.
    threshold : float or None, default=None
        Answer with the second class where its probability is above this. None means the most
        probable class, the first of several that are equal.

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels.

    Raises
    ------
    ValueError
        If a threshold comes with other than two classes.
    """
    return classes[predicted_columns(proba, classes, threshold)]


def predicted_columns(
    proba: NDArray[np.floating], classes: NDArray[Any], threshold: float | None = None
) -> NDArray[np.intp]:
    """Return the column of the label of each row: what :func:`predicted_labels` looks up.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.
    classes : ndarray of shape (n_classes,)
        The label of each column.
    threshold : float or None, default=None
        As in :func:`predicted_labels`.

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
    if len(classes) != 2:
        raise ValueError(
            f"A threshold decides between two classes, and there are {len(classes)}: "
            f"{classes.tolist()}. Leave threshold out."
        )
    return (proba[:, 1] > threshold).astype(np.intp)
