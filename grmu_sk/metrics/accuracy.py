"""Accuracy on the forgotten groups, and on every group."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning

from ..groups import Pair, attribute_of_rows, check_pairs, in_pairs
from ..validation import label_pair, row_weights


def group_accuracy_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair],
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Accuracy on the groups that were asked to be forgotten: GA.

    For the list :math:`\mathcal{F}` of forgotten pairs (Eq. 9 of [1]_),

    .. math::

        \mathrm{GA} =
        \frac{\sum_i w_i \, [\hat y_i = y_i] \, [(y_i, a_i) \in \mathcal{F}]}
             {\sum_i w_i \, [(y_i, a_i) \in \mathcal{F}]}.

    The rows of all pairs are pooled. Only the pairs named count: forgetting (1, 1) and (0, 0)
    does not bring in (1, 0) and (0, 1).

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, any hashable values.
    y_pred : array-like of shape (n_samples,)
        Predicted labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute; several columns are read as their intersection.
    forget_groups : pair or sequence of pairs
        The forgotten groups (y, a).
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    float
        A fraction in [0, 1]; NaN if no row lies in ``forget_groups``.

    Raises
    ------
    ValueError
        If lengths differ or a value is missing.

    Warns
    -----
    UndefinedMetricWarning
        If no row lies in ``forget_groups``.
    UserWarning
        If some of several ``forget_groups``, but not all, have no rows.

    See Also
    --------
    group_accuracies : The accuracy of every group.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import group_accuracy_score
    >>> y_true, y_pred = [1, 1, 1, 0], [1, 0, 1, 0]
    >>> group_accuracy_score(y_true, y_pred, groups=["m", "m", "f", "m"], forget_groups=(1, "m"))
    0.5
    """
    true, pred = label_pair(y_true, y_pred)
    attribute = attribute_of_rows(groups, len(true), "y_true")
    weights = row_weights(sample_weight, len(true))
    pairs = check_pairs(forget_groups)
    inside = in_pairs(true, attribute, pairs)
    if weights[inside].sum() == 0:
        return undefined(f"No rows (with a weight) in forget_groups={pairs}: GA is not defined.")
    present = set(zip(true[inside].tolist(), attribute[inside].tolist(), strict=True))
    if absent := [pair for pair in pairs if pair not in present]:
        warnings.warn(
            f"forget_groups names groups without rows: {absent}. GA is that of the others.",
            UserWarning,
            stacklevel=2,
        )
    return float(np.average((true == pred)[inside], weights=weights[inside]))


def group_accuracies(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    sample_weight: ArrayLike | None = None,
) -> pd.Series:
    r"""Accuracy of every group (y, a) that occurs.

    .. math::

        \mathrm{Acc}(y, a) =
        \frac{\sum_{i:\, y_i = y,\, a_i = a} w_i \, [\hat y_i = y]}
             {\sum_{i:\, y_i = y,\, a_i = a} w_i}

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, any hashable values.
    y_pred : array-like of shape (n_samples,)
        Predicted labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute; several columns are read as their intersection.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    pandas.Series
        Fractions in [0, 1], indexed by ``(y, a)`` in sorted order. Pairs without rows are left
        out.

    Raises
    ------
    ValueError
        If lengths differ, a value is missing, or all rows of a group have weight zero.

    See Also
    --------
    worst_group_accuracy_score : The smallest of these accuracies.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import group_accuracies
    >>> accuracies = group_accuracies([1, 1, 1, 0], [1, 0, 1, 0], groups=["m", "m", "f", "m"])
    >>> accuracies.to_dict()
    {(0, 'm'): 1.0, (1, 'f'): 1.0, (1, 'm'): 0.5}
    """
    true, pred = label_pair(y_true, y_pred)
    attribute = attribute_of_rows(groups, len(true), "y_true")
    weights = row_weights(sample_weight, len(true))
    rows = pd.DataFrame(
        {"y": true, "a": attribute, "weight": weights, "correct": weights * (true == pred)}
    )
    # sorted afterwards, which values that have no order do not stop
    sums = rows.groupby(["y", "a"], sort=False)[["weight", "correct"]].sum().sort_index()
    if (sums["weight"] == 0).any():
        empty = sums.index[sums["weight"] == 0].tolist()
        raise ValueError(f"All rows have weight zero in the groups {empty}.")
    return (sums["correct"] / sums["weight"]).rename("accuracy")


def worst_group_accuracy_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Accuracy of the group with the lowest accuracy: WG.

    .. math::

        \mathrm{WG} = \min_{(y, a)} \mathrm{Acc}(y, a)

    over the pairs that occur. Which group is the worst may change with unlearning.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, any hashable values.
    y_pred : array-like of shape (n_samples,)
        Predicted labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute; several columns are read as their intersection.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    float
        A fraction in [0, 1].

    Raises
    ------
    ValueError
        If lengths differ, a value is missing, or all rows of a group have weight zero.

    See Also
    --------
    group_accuracies : The accuracy of every group.

    References
    ----------
    .. [1] Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020.

    Examples
    --------
    >>> from grmu_sk.metrics import worst_group_accuracy_score
    >>> worst_group_accuracy_score([1, 1, 1, 0], [1, 0, 1, 0], groups=["m", "m", "f", "m"])
    0.5
    """
    accuracies = group_accuracies(y_true, y_pred, groups=groups, sample_weight=sample_weight)
    return float(accuracies.min())


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
