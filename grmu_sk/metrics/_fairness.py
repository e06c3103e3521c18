"""Gaps between protected groups: equalized odds, demographic parity, equal opportunity."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grmu_sk.groups import Pair, check_pairs
from grmu_sk.metrics._inputs import (
    Empty,
    attribute_of_rows,
    check_option,
    is_in,
    label_pair,
    number_values,
    row_weights,
    undefined,
)
from grmu_sk.utils.arguments import check_types

__all__ = ["demographic_parity_gap", "equal_opportunity_gap", "equalized_odds_gap"]


def equalized_odds_gap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None = None,
    pos_label: Hashable | None = None,
    rule: Literal["paper", "reference"] = "paper",
    sample_weight: ArrayLike | None = None,
    empty: Empty = "raise",
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
    pos_label : hashable, default=None
        The label that counts as 1, for two labels. By default the labels of ``forget_groups``, or
        the second label in sorted order.
    rule : {"paper", "reference"}, default="paper"
        What happens with more than two labels. "paper" reduces the predictions as well. "reference"
        asks, as the authors' code does, whether the exact label was predicted: the mean over the
        two reduced values of y of the absolute difference in accuracy. For two labels the two
        agree.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.
    empty : {"raise", "nan"}, default="raise"
        What to do when one of the four cells (y, a) has no rows: raise a ValueError, or return NaN
        with an :class:`~sklearn.exceptions.UndefinedMetricWarning`.

    Returns
    -------
    float
        A fraction in [0, 1]; 0 is fair. NaN if undefined and asked for.

    Raises
    ------
    ValueError
        If lengths differ, a cell is empty, or there are more than two labels or attribute values
        and no ``forget_groups`` that splits them.

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
    check_types(equalized_odds_gap, locals())
    check_option(rule, ("paper", "reference"), name="rule")
    view = binary_view(y_true, y_pred, groups, forget_groups, pos_label, sample_weight, empty)
    return view.equalized_odds(rule, empty)


def demographic_parity_gap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None = None,
    pos_label: Hashable | None = None,
    sample_weight: ArrayLike | None = None,
    empty: Empty = "raise",
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
    pos_label : hashable, default=None
        The label that counts as 1, for two labels. By default the labels of ``forget_groups``, or
        the second label in sorted order.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.
    empty : {"raise", "nan"}, default="raise"
        What to do when one attribute value has no rows: raise a ValueError, or return NaN with an
        :class:`~sklearn.exceptions.UndefinedMetricWarning`.

    Returns
    -------
    float
        A fraction in [0, 1]; 0 is fair. NaN if undefined and asked for.

    Raises
    ------
    ValueError
        If lengths differ, an attribute value has no rows, or there are more than two labels or
        attribute values and no ``forget_groups`` that splits them.

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
    check_types(demographic_parity_gap, locals())
    view = binary_view(y_true, y_pred, groups, forget_groups, pos_label, sample_weight, empty)
    return view.demographic_parity(empty)


def equal_opportunity_gap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None = None,
    pos_label: Hashable | None = None,
    sample_weight: ArrayLike | None = None,
    empty: Empty = "raise",
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
        The label that counts as 1, for two labels. By default the labels of ``forget_groups``, or
        the second label in sorted order.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.
    empty : {"raise", "nan"}, default="raise"
        What to do when an attribute value has no positive rows: raise a ValueError, or return NaN
        with an :class:`~sklearn.exceptions.UndefinedMetricWarning`.

    Returns
    -------
    float
        A fraction in [0, 1]; 0 is fair. NaN if undefined and asked for.

    Raises
    ------
    ValueError
        If lengths differ, an attribute value has no positive rows, or there are more than two
        labels or attribute values and no ``forget_groups`` that splits them.

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
    check_types(equal_opportunity_gap, locals())
    view = binary_view(y_true, y_pred, groups, forget_groups, pos_label, sample_weight, empty)
    return view.equal_opportunity(empty)


@dataclass(frozen=True)
class BinaryView:
    """Labels, predictions and attribute, each reduced to inside or outside of a list of values."""

    positive: list[Hashable]
    protected: list[Hashable]
    actual: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    attribute: NDArray[np.bool_]
    weights: NDArray[np.float64]

    def equalized_odds(self, rule: Literal["paper", "reference"], empty: Empty) -> float:
        """Return EO, see :func:`equalized_odds_gap`."""
        event = self.predicted if rule == "paper" else self.correct
        gaps = [self._gap(event, empty, truth=False), self._gap(event, empty, truth=True)]
        return float(np.mean(gaps))

    def demographic_parity(self, empty: Empty) -> float:
        """Return DP, see :func:`demographic_parity_gap`."""
        return self._gap(self.predicted, empty)

    def equal_opportunity(self, empty: Empty) -> float:
        """Return EP, see :func:`equal_opportunity_gap`."""
        return self._gap(self.predicted, empty, truth=True)

    def _gap(self, event: NDArray[np.bool_], empty: Empty, *, truth: bool | None = None) -> float:
        """Return the difference in the rate of ``event``, among rows of one truth or all rows."""
        if not self.positive:
            return undefined(
                "No label counts as positive: neither y_true nor y_pred holds it, or both hold "
                "one label only and it is not named by pos_label or forget_groups.",
                empty,
                stacklevel=5,
            )
        rows = np.ones(len(event), dtype=bool) if truth is None else self.actual == truth
        rates = []
        for side in (False, True):
            cell = rows & (self.attribute == side)
            if self.weights[cell].sum() == 0:
                cell_name = self._cell_name(truth, side)
                return undefined(f"No rows (with a weight) {cell_name}.", empty, stacklevel=5)
            rates.append(np.average(event[cell], weights=self.weights[cell]))
        return float(abs(rates[0] - rates[1]))

    def _cell_name(self, truth: bool | None, side: bool) -> str:
        attribute = f"groups {'in' if side else 'not in'} {self.protected}"
        if truth is None:
            return f"with {attribute}"
        return f"with y_true {'in' if truth else 'not in'} {self.positive} and {attribute}"


def binary_view(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    groups: Any,
    forget_groups: Pair | Sequence[Pair] | None,
    pos_label: Hashable | None,
    sample_weight: ArrayLike | None,
    empty: Empty,
) -> BinaryView:
    """Check the arguments that the gaps share, and reduce labels and attributes to two values."""
    check_option(empty, ("raise", "nan"), name="empty")
    true, pred = label_pair(y_true, y_pred)
    attribute = attribute_of_rows(groups, len(true))
    forget_labels, forget_attributes = _listed_values(forget_groups)
    labels = number_values(np.concatenate([true, pred]))[1].tolist()
    if pos_label is None:
        positive = _inside_values(labels, forget_labels, name="y_true and y_pred")
    else:
        positive = _only(pos_label, labels)
    attributes = number_values(attribute)[1].tolist()
    protected = _inside_values(attributes, forget_attributes, name="groups")
    return BinaryView(
        positive=positive,
        protected=protected,
        actual=is_in(true, positive),
        predicted=is_in(pred, positive),
        correct=true == pred,
        attribute=is_in(attribute, protected),
        weights=row_weights(sample_weight, len(true)),
    )


def _listed_values(
    forget_groups: Pair | Sequence[Pair] | None,
) -> tuple[set[Hashable] | None, set[Hashable] | None]:
    if forget_groups is None:
        return None, None
    pairs = check_pairs(forget_groups)
    return {label for label, _ in pairs}, {attribute for _, attribute in pairs}


def _only(pos_label: Hashable, labels: list[Hashable]) -> list[Hashable]:
    if len(labels) > 2:
        raise ValueError(
            f"pos_label needs two labels, but y_true and y_pred hold {len(labels)}: {labels}. Name "
            "the positive labels through forget_groups."
        )
    return [label for label in labels if label == pos_label]


def _inside_values(
    distinct: list[Hashable], listed: set[Hashable] | None, *, name: str
) -> list[Hashable]:
    """Choose the values that count as 1: those listed, or the second of two."""
    if listed is None:
        if len(distinct) > 2:
            raise ValueError(
                f"{name} hold {len(distinct)} distinct values, and this metric compares two. Pass "
                "forget_groups, the (y, a) pairs that were forgotten, to reduce them to 'is in the "
                "forget list'."
            )
        return distinct[1:]
    inside = [value for value in distinct if value in listed]
    if len(inside) < len(distinct) or len(distinct) < 2:
        return inside
    if len(distinct) > 2:
        raise ValueError(
            f"forget_groups lists all {len(distinct)} distinct values of {name}: none is left to "
            "compare with."
        )
    return distinct[1:]
