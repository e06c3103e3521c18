"""Gaps between protected groups: equalized odds, demographic parity, equal opportunity."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..groups import Pair, attribute_of_rows, check_pairs, is_in, sorted_unique
from ..validation import label_pair, row_weights
from .accuracy import undefined


def equalized_odds_gap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Mean difference of the prediction rates between two protected groups: EO.

    For binary labels and a binary attribute (Eq. 11 of [1]_),

    .. math::

        \mathrm{EO} = \frac{1}{2} \sum_{y \in \{0, 1\}}
        \left| P(\hat y = 1 \mid y, a = 0) - P(\hat y = 1 \mid y, a = 1) \right|.

    It does not change when the two labels, or the two attribute values, swap roles.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, any hashable values.
    y_pred : array-like of shape (n_samples,)
        Predicted labels. The labels that exist are those of ``y_true`` and ``y_pred`` together.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute; several columns are read as their intersection.
    forget_groups : pair or sequence of pairs, default=None
        The forgotten groups (y, a). Required for more than two labels or attribute values: labels
        and predictions then become "is a label in the list", attributes "is an attribute in the
        list", each list for itself when there are several pairs. A list that covers both of two
        values cannot split them; they are then taken as they are.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    float
        A fraction in [0, 1]; 0 is fair. NaN, with an
        :class:`~sklearn.exceptions.UndefinedMetricWarning`, if one of the four cells (y, a) has no
        rows.

    Raises
    ------
    ValueError
        If lengths differ, or there are more than two labels or attribute values and no
        ``forget_groups`` that splits them.

    See Also
    --------
    equal_opportunity_gap : The part for y = 1.
    demographic_parity_gap : The same difference, whatever y is.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.
    .. [2] Hardt, Price and Srebro, "Equality of Opportunity in Supervised Learning", NIPS 2016.

    Examples
    --------
    >>> from grmu_sk.metrics import equalized_odds_gap
    >>> y_true, y_pred = [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 1, 0]
    >>> equalized_odds_gap(y_true, y_pred, groups=["f", "f", "m", "m", "f", "f", "m", "m"])
    0.5
    """
    return _mean_gap(y_true, y_pred, groups, forget_groups, sample_weight, truths=(False, True))


def demographic_parity_gap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Difference of the share predicted positive between two protected groups: DP.

    .. math::

        \mathrm{DP} = \left| P(\hat y = 1 \mid a = 0) - P(\hat y = 1 \mid a = 1) \right|

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels. Only their values matter: a label that is never predicted still exists.
    y_pred : array-like of shape (n_samples,)
        Predicted labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute; several columns are read as their intersection.
    forget_groups : pair or sequence of pairs, default=None
        The forgotten groups (y, a). Required for more than two labels or attribute values, which
        are reduced to "is in the list" as in :func:`equalized_odds_gap`.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    float
        A fraction in [0, 1]; 0 is fair. NaN, with an
        :class:`~sklearn.exceptions.UndefinedMetricWarning`, if one attribute value has no rows.

    Raises
    ------
    ValueError
        If lengths differ, or there are more than two labels or attribute values and no
        ``forget_groups`` that splits them.

    See Also
    --------
    equalized_odds_gap : The same difference within each true label.

    References
    ----------
    .. [1] Dwork et al., "Fairness through Awareness", ITCS 2012.

    Examples
    --------
    >>> from grmu_sk.metrics import demographic_parity_gap
    >>> demographic_parity_gap([0, 1, 0, 1], [1, 1, 0, 1], groups=["f", "f", "m", "m"])
    0.5
    """
    return _mean_gap(y_true, y_pred, groups, forget_groups, sample_weight, truths=(None,))


def equal_opportunity_gap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None = None,
    pos_label: Hashable | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Difference of the true positive rates of two protected groups: EP.

    .. math::

        \mathrm{EP} = \left| P(\hat y = 1 \mid y = 1, a = 0) - P(\hat y = 1 \mid y = 1, a = 1)
        \right|

    Unlike EO and DP this depends on which of two labels is called 1, see ``pos_label``.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, any hashable values.
    y_pred : array-like of shape (n_samples,)
        Predicted labels. The labels that exist are those of ``y_true`` and ``y_pred`` together.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute; several columns are read as their intersection.
    forget_groups : pair or sequence of pairs, default=None
        The forgotten groups (y, a). Required for more than two labels or attribute values, which
        are reduced to "is in the list" as in :func:`equalized_odds_gap`.
    pos_label : hashable, default=None
        The label that counts as 1, all others as 0. By default the labels of ``forget_groups``, or
        the second label in sorted order.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    float
        A fraction in [0, 1]; 0 is fair. NaN, with an
        :class:`~sklearn.exceptions.UndefinedMetricWarning`, if an attribute value has no positive
        rows.

    Raises
    ------
    ValueError
        If lengths differ, or there are more than two labels or attribute values and nothing that
        splits them.

    See Also
    --------
    equalized_odds_gap : The mean of this gap and that of the false positive rates.

    References
    ----------
    .. [1] Hardt, Price and Srebro, "Equality of Opportunity in Supervised Learning", NIPS 2016.

    Examples
    --------
    >>> from grmu_sk.metrics import equal_opportunity_gap
    >>> equal_opportunity_gap([1, 1, 1, 1], [1, 1, 1, 0], groups=["f", "f", "m", "m"], pos_label=1)
    0.5
    """
    given = (y_true, y_pred, groups, forget_groups, sample_weight)
    return _mean_gap(*given, truths=(True,), pos_label=pos_label)


def _mean_gap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None,
    sample_weight: ArrayLike | None,
    truths: Sequence[bool | None],
    pos_label: Hashable | None = None,
) -> float:
    """Return the mean difference in a rate among rows of each truth, of which None means any."""
    true, pred = label_pair(y_true, y_pred)
    attribute = attribute_of_rows(groups, len(true), "y_true")
    weights = row_weights(sample_weight, len(true))
    pairs = [] if forget_groups is None else check_pairs(forget_groups)
    of_labels = {y for y, _ in pairs} if pos_label is None else {pos_label}
    labels = sorted_unique(np.concatenate([true, pred])).tolist()
    positive = _counted_as_one(labels, of_labels, "y_true and y_pred")
    protected = _counted_as_one(sorted_unique(attribute).tolist(), {a for _, a in pairs}, "groups")
    if not positive:
        message = "No label counts as positive: name one by pos_label or forget_groups."
        return undefined(message, stacklevel=4)
    event = is_in(pred, positive)
    gaps = []
    for truth in truths:
        rates = []
        for side in (False, True):
            cell, name = is_in(attribute, protected) == side, f"groups {_in(side)} {protected}"
            if truth is not None:
                cell &= is_in(true, positive) == truth
                name = f"y_true {_in(truth)} {positive} and {name}"
            if weights[cell].sum() == 0:
                return undefined(f"No rows (with a weight) with {name}.", stacklevel=4)
            rates.append(np.average(event[cell], weights=weights[cell]))
        gaps.append(abs(rates[0] - rates[1]))
    return float(np.mean(gaps))


def _in(side: bool) -> str:
    return "in" if side else "not in"


def _counted_as_one(distinct: list[Hashable], listed: set[Hashable], name: str) -> list[Hashable]:
    """Choose the values that count as 1: those listed, or the second of two."""
    if listed and not (len(distinct) > 1 and listed >= set(distinct)):
        return [value for value in distinct if value in listed]
    if len(distinct) > 2:
        raise ValueError(
            f"{name} hold {len(distinct)} distinct values, and this metric compares two: pass "
            "forget_groups to reduce them to 'is in the list', which must not list all of them."
        )
    return distinct[1:]
