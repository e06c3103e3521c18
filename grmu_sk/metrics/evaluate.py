"""All metrics of one model, from one set of predictions a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..groups import Pair, attribute_of_rows, codes_of
from ..outputs import predicted_columns
from .accuracy import group_accuracy_score, worst_group_accuracy_score
from .fairness import demographic_parity_gap, equal_opportunity_gap, equalized_odds_gap
from .inputs import Empty, check_option, class_column, label_column
from .membership import check_probabilities, losses_of, membership_inference_efficacy

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
    attacks: Sequence[Attack] = [mia] if isinstance(mia, str) else list(mia)
    for attack in attacks:
        check_option(attack, _ATTACK_NAMES, name="mia")
    if attacks and holdout is None:
        raise ValueError("The attack needs non-members: pass holdout, or mia=() to run none.")
    if getattr(test, "groups", None) is None:
        raise ValueError("test.groups is None: EO, GA, DP, EP and WG need the protected attribute.")
    columns = class_column(classes)
    splits = {"remaining": remaining, "forget": forget, "test": test}
    if attacks and holdout is not None:
        splits["holdout"] = holdout
    labels, losses = {}, {}
    for name, split in splits.items():
        y = label_column(split.y, name=f"{name}.y")
        true = codes_of(y, columns, f"{name}.y")
        proba = check_probabilities(split.proba, len(y), len(columns), name=f"{name}.proba")
        labels[name] = y, true, predicted_columns(proba, columns, threshold)
        losses[name] = losses_of(proba, true)
    scores = {
        metric: float(np.mean(labels[name][1] == labels[name][2]))
        for metric, name in (("RA", "remaining"), ("UA", "forget"), ("TA", "test"))
    }
    for attack in attacks:
        scores[_ATTACK_NAMES[attack]] = membership_inference_efficacy(
            *(losses[name] for name in ("remaining", "holdout", "forget")),
            attack=attack,
            random_state=random_state,
            n_jobs=n_jobs,
        )
    y, true, predicted = labels["test"]
    attribute = attribute_of_rows(test.groups, len(y), "test.y")
    first, counts = _distinct_rows(true * len(columns) + predicted, attribute)
    rows = y[first], columns[predicted[first]]
    shared: dict[str, Any] = {"groups": attribute[first], "sample_weight": counts}
    forgotten: dict[str, Any] = {**shared, "forget_groups": forget_groups, "empty": empty}
    return {
        **scores,
        "EO": equalized_odds_gap(*rows, rule=eo_rule, **forgotten),
        "GA": group_accuracy_score(*rows, **forgotten),
        "DP": demographic_parity_gap(*rows, **forgotten),
        "EP": equal_opportunity_gap(*rows, **forgotten),
        "WG": worst_group_accuracy_score(*rows, **shared),
    }


def _distinct_rows(
    labels: NDArray[np.int64], attribute: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first row of each kind (label, prediction, attribute), and how many there are.

    With the counts as weights a metric of labels is the same to the last bit, since its sums are
    sums of whole numbers; and it looks at a handful of rows, however many there were.
    """
    codes, values = pd.factorize(attribute, use_na_sentinel=False)
    numbers = labels * len(values) + codes
    kinds, _ = pd.factorize(numbers)
    # both in the order of first appearance, which labels that have no other order rely on
    first = np.flatnonzero(~pd.Series(numbers).duplicated().to_numpy())
    return first, np.bincount(kinds).astype(np.float64)
