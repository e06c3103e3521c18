"""All metrics of one model, from one set of predictions a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from grmu_sk.groups import Pair
from grmu_sk.metrics._accuracy import (
    group_accuracy_score,
    worst_group_accuracy_score,
)
from grmu_sk.metrics._fairness import binary_view
from grmu_sk.metrics._inputs import (
    Empty,
    attribute_of_rows,
    check_option,
    class_column,
    class_positions,
    label_column,
)
from grmu_sk.metrics._membership import (
    check_probabilities,
    losses_of,
    membership_inference_efficacy,
)
from grmu_sk.utils._predictions import predicted_columns
from grmu_sk.utils.arguments import check_types

__all__ = ["SplitPredictions", "evaluate_predictions"]

Attack = Literal["balanced", "paper"]

_ATTACK_NAMES = {"paper": "MIA", "balanced": "MIA_balanced"}


@dataclass(frozen=True)
class SplitPredictions:
    """What one forward pass over a split leaves behind.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        True labels, any hashable values.
    proba : array-like of shape (n_samples, n_classes)
        Predicted probabilities.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
        Protected attribute; needed for the test split only.

    Examples
    --------
    >>> from grmu_sk.metrics import SplitPredictions
    >>> split = SplitPredictions(y=["cat"], proba=[[0.9, 0.1]], groups=["day"])
    >>> split.groups
    ['day']
    """

    y: ArrayLike
    proba: ArrayLike
    groups: Any = None


def evaluate_predictions(
    *,
    classes: ArrayLike,
    remaining: SplitPredictions,
    forget: SplitPredictions,
    test: SplitPredictions,
    holdout: SplitPredictions | None = None,
    forget_groups: Pair | Sequence[Pair],
    mia: Attack | Sequence[Attack] = ("balanced", "paper"),
    eo_rule: Literal["paper", "reference"] = "paper",
    threshold: float | None = None,
    empty: Empty = "raise",
    random_state: int | np.random.RandomState | None = 0,
    n_jobs: int | None = None,
) -> dict[str, float]:
    r"""Compute every metric of the paper from the predictions on each split.

    The predicted label is the most probable one, unless ``threshold`` says otherwise, and the
    losses the attack works on come from the same probabilities:

    .. math::

        \hat y_i = \arg\max_c p_{i,c}, \qquad \ell_i = -\log p_{i, y_i}.

    Nothing is predicted here: run the model once over each split (in evaluation mode, float32),
    then call this function.

    Parameters
    ----------
    classes : array-like of shape (n_classes,)
        The label of each column of the probabilities: the ``classes_`` of the estimator.
    remaining : SplitPredictions
        Training rows that remain.
    forget : SplitPredictions
        Forgotten rows.
    test : SplitPredictions
        Test rows, with ``groups``.
    holdout : SplitPredictions, default=None
        Rows never trained on and not of the test split (validation), the attack's non-members. May
        be left out only with ``mia=()``.
    forget_groups : pair or sequence of pairs
        The forgotten groups (y, a).
    mia : {"balanced", "paper"} or sequence of them, default=("balanced", "paper")
        Which attacks to run, see :func:`membership_inference_efficacy`; ``()`` runs none.
    eo_rule : {"paper", "reference"}, default="paper"
        The ``rule`` of :func:`equalized_odds_gap`.
    threshold : float or None, default=None
        With two classes, predict the second where its probability is above this, as skorch's
        ``NeuralNetBinaryClassifier(threshold=...)`` does. None means the most probable class.
    empty : {"raise", "nan"}, default="raise"
        What to do when a group or cell of the test split has no rows: raise a ValueError, or set
        that metric to NaN with an :class:`~sklearn.exceptions.UndefinedMetricWarning`.
    random_state : int, RandomState instance or None, default=0
        Seed of the attack's forests.
    n_jobs : int, default=None
        Number of threads the attack's forests use.

    Returns
    -------
    dict of str to float
        RA, UA, TA, MIA (attack "paper"), MIA_balanced (attack "balanced"), and on the test split
        EO, GA, DP, EP, WG. All are fractions in [0, 1]. An attack that was not run has no entry.

    Raises
    ------
    ValueError
        If a split or ``threshold`` does not fit ``classes``, the test split has no groups, the
        attack has no ``holdout``, or a metric is undefined.

    See Also
    --------
    average_gap_score : Compares the result with that of the gold standard.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import SplitPredictions, evaluate_predictions
    >>> proba = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]
    >>> split = SplitPredictions(y=[0, 1, 0, 1], proba=proba, groups=["f", "f", "m", "m"])
    >>> splits = {"remaining": split, "forget": split, "test": split}
    >>> scores = evaluate_predictions(classes=[0, 1], **splits, forget_groups=(1, "m"), mia=())
    >>> scores["RA"], scores["GA"], scores["EO"]
    (1.0, 1.0, 0.0)
    """
    check_types(evaluate_predictions, locals())
    attacks = _attacks(mia)
    check_option(eo_rule, ("paper", "reference"), name="eo_rule")
    if attacks and holdout is None:
        raise ValueError("The attack needs non-members: pass holdout, or mia=() to run none.")
    if test.groups is None:
        raise ValueError("test.groups is None: EO, GA, DP, EP and WG need the protected attribute.")
    columns = class_column(classes)
    on_remaining = _checked(remaining, columns, threshold, "remaining")
    on_forget = _checked(forget, columns, threshold, "forget")
    on_test = _checked(test, columns, threshold, "test")
    scores = {
        "RA": on_remaining.accuracy(),
        "UA": on_forget.accuracy(),
        "TA": on_test.accuracy(),
    }
    if attacks and holdout is not None:
        on_holdout = _checked(holdout, columns, threshold, "holdout")
        losses = [split.losses() for split in (on_remaining, on_holdout, on_forget)]
        for attack in attacks:
            scores[_ATTACK_NAMES[attack]] = membership_inference_efficacy(
                *losses, attack=attack, random_state=random_state, n_jobs=n_jobs
            )
    rows = on_test.distinct_rows(attribute_of_rows(test.groups, len(on_test.y)))
    scores.update(_scores_of_groups(rows, forget_groups, eo_rule, empty))
    return scores


@dataclass(frozen=True)
class _CheckedSplit:
    """A split whose labels were numbered once, for all metrics."""

    y: NDArray[Any]
    classes: NDArray[Any]
    proba: NDArray[np.float64]
    true_columns: NDArray[np.int64]
    predicted_columns: NDArray[np.intp]

    def accuracy(self) -> float:
        return float(np.mean(self.true_columns == self.predicted_columns))

    def losses(self) -> NDArray[np.float64]:
        return losses_of(self.proba, self.true_columns)

    def distinct_rows(self, attribute: NDArray[Any]) -> _DistinctRows:
        codes, values = pd.factorize(attribute, use_na_sentinel=False)
        labels = self.true_columns * len(self.classes) + self.predicted_columns
        numbers = labels * len(values) + codes
        kinds, _ = pd.factorize(numbers)
        # both in the order of first appearance, which labels that have no other order rely on
        first = np.flatnonzero(~pd.Series(numbers).duplicated().to_numpy())
        return _DistinctRows(
            y=self.y[first],
            y_pred=self.classes[self.predicted_columns[first]],
            attribute=attribute[first],
            counts=np.bincount(kinds).astype(np.float64),
        )


@dataclass(frozen=True)
class _DistinctRows:
    """The different rows (label, prediction, attribute) of a split, and how often each occurs.

    With the counts as weights a metric of labels is the same to the last bit, since its sums are
    sums of whole numbers; and it looks at a handful of rows, however many there were.
    """

    y: NDArray[Any]
    y_pred: NDArray[Any]
    attribute: NDArray[Any]
    counts: NDArray[np.float64]


def _checked(
    split: SplitPredictions, classes: NDArray[Any], threshold: float | None, name: str
) -> _CheckedSplit:
    y = label_column(split.y, name=f"{name}.y")
    true_columns = class_positions(y, classes, name=f"{name}.y")
    proba = check_probabilities(split.proba, len(y), len(classes), name=f"{name}.proba")
    return _CheckedSplit(
        y, classes, proba, true_columns, predicted_columns(proba, classes, threshold)
    )


def _attacks(mia: Attack | Sequence[Attack]) -> list[Attack]:
    attacks: list[Attack] = [mia] if isinstance(mia, str) else list(mia)
    for attack in attacks:
        check_option(attack, _ATTACK_NAMES, name="mia")
    return attacks


def _scores_of_groups(
    rows: _DistinctRows,
    forget_groups: Pair | Sequence[Pair],
    eo_rule: Literal["paper", "reference"],
    empty: Empty,
) -> dict[str, float]:
    y, y_pred = rows.y, rows.y_pred
    shared: dict[str, Any] = {"groups": rows.attribute, "sample_weight": rows.counts}
    view = binary_view(
        y, y_pred, forget_groups=forget_groups, pos_label=None, empty=empty, **shared
    )
    return {
        "EO": view.equalized_odds(eo_rule, empty),
        "GA": group_accuracy_score(y, y_pred, forget_groups=forget_groups, empty=empty, **shared),
        "DP": view.demographic_parity(empty),
        "EP": view.equal_opportunity(empty),
        "WG": worst_group_accuracy_score(y, y_pred, **shared),
    }
