"""All metrics of one model, from one set of predictions a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..groups import Pair, attribute_of_rows, codes_of
from ..outputs import predicted_columns
from ..rows import take_rows
from ..validation import check_option, label_column
from . import accuracy, fairness
from .fidelity import log_odds_of_label
from .membership import check_probabilities, losses_of, membership_inference_efficacy

_ATTACKED = ("remaining", "holdout", "forget")
_ACCURACIES = {"RA": "remaining", "UA": "forget", "TA": "test"}
_ATTACKS: dict[str, Literal["paper", "balanced"]] = {"MIA": "paper", "MIA_balanced": "balanced"}
_BETWEEN_GROUPS: dict[str, Callable[..., float]] = {
    "WG": accuracy.worst_group_accuracy_score,
    "GA": accuracy.group_accuracy_score,
    "EO": fairness.equalized_odds_gap,
    "DP": fairness.demographic_parity_gap,
    "EP": fairness.equal_opportunity_gap,
}
#: Metrics that compare groups, and those of them about the groups that rows were forgotten from.
OF_GROUPS = tuple(_BETWEEN_GROUPS)
OF_FORGOTTEN_GROUPS = tuple(name for name in OF_GROUPS if name != "WG")
#: Every metric, with the splits that it is computed from.
SPLITS_OF = (
    {name: (split,) for name, split in _ACCURACIES.items()}
    | dict.fromkeys(_ATTACKS, _ATTACKED)
    | dict.fromkeys(OF_GROUPS, ("test",))
)


class Split(NamedTuple):
    """Inputs, labels and protected attribute of some rows; the latter may be unknown (None)."""

    X: Any
    y: Any
    groups: Any

    def some(self, rows: Any) -> Split:
        """Return these rows, named by their numbers."""
        return Split(*(None if part is None else take_rows(part, rows) for part in self))


@dataclass(frozen=True)
class SplitPredictions:
    """Probabilities from one forward pass over a split, with labels and groups.

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
    remaining: SplitPredictions | None = None,
    forget: SplitPredictions | None = None,
    test: SplitPredictions | None = None,
    holdout: SplitPredictions | None = None,
    forget_groups: Pair | Sequence[Pair] | None = None,
    metrics: str | Iterable[str] | None = None,
    threshold: float | None = None,
) -> dict[str, float]:
    r"""Compute every metric of the paper from the predictions on each split.

    The predicted label is the most probable one, unless ``threshold`` says otherwise, and the
    losses the attack works on come from the same probabilities:

    .. math::

        \hat y_i = \arg\max_c p_{i,c}, \qquad \ell_i = -\log p_{i, y_i}.

    RA, UA and TA are the accuracies on the remaining, forgotten and test rows. None of the three
    is good or bad by being large: each is compared with the gold standard, see
    :func:`average_gap_score`.

    .. math:: \mathrm{Acc}(D) = \frac{1}{|D|} \sum_{i \in D} [\hat y_i = y_i]

    Nothing is predicted here: run the model once over each split (in evaluation mode, float32),
    then call this function. A split that no metric asked for needs may be left out.

    Parameters
    ----------
    classes : array-like of shape (n_classes,)
        The label of each column of the probabilities: the ``classes_`` of the estimator.
    remaining : SplitPredictions or None, default=None
        Training rows that remain.
    forget : SplitPredictions or None, default=None
        Forgotten rows.
    test : SplitPredictions or None, default=None
        Test rows, with ``groups``.
    holdout : SplitPredictions or None, default=None
        Rows never trained on and not of the test split (validation): the attack's non-members.
    forget_groups : pair or sequence of pairs, default=None
        The forgotten groups (y, a), which EO, GA, DP and EP are about.
    metrics : str, iterable of str or None, default=None
        Some of RA, UA, TA, MIA (attack "paper"), MIA_balanced (attack "balanced", see
        :func:`membership_inference_efficacy`), EO, GA, DP, EP, WG. None means all.
    threshold : float or None, default=None
        With two classes, predict the second where its probability is above this, as skorch's
        ``NeuralNetBinaryClassifier(threshold=...)`` does. None means the most probable class.

    Returns
    -------
    dict of str to float
        The metrics, as fractions in [0, 1]. One that a group or cell of the test split has no rows
        for is NaN, with an :class:`~sklearn.exceptions.UndefinedMetricWarning`.

    Raises
    ------
    ValueError
        If a metric is unknown or lacks a split, its groups or ``forget_groups``, or a split or
        ``threshold`` does not fit ``classes``.

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
    >>> evaluate_predictions(
    ...     classes=[0, 1], **splits, forget_groups=(1, "m"), metrics=["RA", "GA", "EO"]
    ... )
    {'RA': 1.0, 'GA': 1.0, 'EO': 0.0}
    """
    names = SPLITS_OF if metrics is None else [metrics] if isinstance(metrics, str) else metrics
    wanted = list(names)
    columns = label_column(classes, name="classes")
    given = {"remaining": remaining, "forget": forget, "test": test, "holdout": holdout}
    rows: dict[str, _Rows] = {}
    for metric in wanted:
        check_option(metric, SPLITS_OF, name="metrics")
        for name in SPLITS_OF[metric]:
            if (split := given[name]) is None:
                raise ValueError(f"{metric} needs the split {name!r}: pass it, or other metrics.")
            if name not in rows:
                rows[name] = _checked(name, split, columns, threshold)
    scores = {}
    for metric in wanted:
        if metric in _ACCURACIES:
            of_split = rows[_ACCURACIES[metric]]
            scores[metric] = float(np.mean(of_split.true == of_split.predicted))
        elif metric in _ATTACKS:
            losses = (rows[name].losses for name in _ATTACKED)
            scores[metric] = membership_inference_efficacy(*losses, attack=_ATTACKS[metric])
    if test is not None and (between := _BETWEEN_GROUPS.keys() & wanted):
        labels, of_kinds = _kinds_of_rows(test.groups, rows["test"], columns)
        for metric in between:
            asked = {"forget_groups": forget_groups} if metric in OF_FORGOTTEN_GROUPS else {}
            scores[metric] = _BETWEEN_GROUPS[metric](*labels, **of_kinds, **asked)
    return {metric: scores[metric] for metric in wanted}


class _Rows(NamedTuple):
    """Checked rows: the columns of their labels and of the predicted ones, the losses."""

    true: NDArray[np.int64]
    predicted: NDArray[np.intp]
    losses: NDArray[np.float64]


def _checked(
    name: str, split: SplitPredictions, columns: NDArray[Any], threshold: float | None
) -> _Rows:
    y = label_column(split.y, name=f"{name}.y")
    true = codes_of(y, columns, f"{name}.y")
    proba = check_probabilities(split.proba, len(y), len(columns), name=f"{name}.proba")
    return _Rows(true, predicted_columns(proba, threshold), losses_of(proba, true))


def _kinds_of_rows(
    groups: Any, rows: _Rows, columns: NDArray[Any]
) -> tuple[tuple[NDArray[Any], NDArray[Any]], dict[str, Any]]:
    """Return labels and predictions of one row of each kind; its group, and how many there are.

    So each metric looks at a handful of rows, however many there were.
    """
    codes, values = pd.factorize(attribute_of_rows(groups, len(rows.true), "test.y"))
    of_rows = pd.DataFrame({"true": rows.true, "predicted": rows.predicted, "group": codes})
    kinds = of_rows.value_counts(sort=False).reset_index(name="n")
    labels = columns[kinds["true"]], columns[kinds["predicted"]]
    return labels, {"groups": values[kinds["group"]], "sample_weight": kinds["n"]}


class Evaluation(NamedTuple):
    """What one forward pass over each split tells of a model.

    Parameters
    ----------
    scores : dict of str to float
        Metrics, as fractions in [0, 1].
    log_odds : ndarray of shape (n_forgotten,)
        Of the label of each forgotten row.
    predicted : ndarray of shape (n_test,)
        Labels predicted for the test rows.
    """

    scores: dict[str, float]
    log_odds: NDArray[np.float64]
    predicted: NDArray[Any]


def evaluate_model(
    model: Any, train: Split, test: Split, holdout: Split, forget: NDArray[np.bool_], **options: Any
) -> Evaluation:
    """Compute metrics of a fitted model, which runs once over each split.

    Parameters
    ----------
    model : estimator
        Fitted, with ``predict_proba`` and ``classes_``.
    train, test, holdout : Split
        Training rows, test rows, and the attack's non-members; these may be the test rows.
    forget : ndarray of bool
        Mask of the training rows that count as forgotten.
    **options : dict
        Of :func:`evaluate_predictions`.

    Returns
    -------
    Evaluation
        Its ``scores`` are the metrics, then ``group_accuracy[y, a]`` of each group of test rows.
    """
    y, proba = train.y, model.predict_proba(train.X)
    proba_of_test = model.predict_proba(test.X)
    on_holdout = on_test = SplitPredictions(test.y, proba_of_test, test.groups)
    if holdout is not test:
        on_holdout = SplitPredictions(holdout.y, model.predict_proba(holdout.X))
    scores = evaluate_predictions(
        classes=model.classes_,
        remaining=SplitPredictions(y[~forget], proba[~forget]),
        forget=SplitPredictions(y[forget], proba[forget]),
        test=on_test,
        holdout=on_holdout,
        **options,
    )
    predicted = model.classes_[predicted_columns(proba_of_test, options.get("threshold"))]
    by_group = accuracy.group_accuracies(test.y, predicted, groups=test.groups)
    scores |= {f"group_accuracy[{group_name(pair)}]": by_group[pair] for pair in by_group.index}
    log_odds = np.empty(0)
    if forget.any():
        # a probability of 1 has a precise rest: the others are in double precision
        logs = np.log(np.maximum(proba[forget], np.finfo(np.float64).tiny))
        log_odds = log_odds_of_label(y[forget], logs, classes=model.classes_)
    return Evaluation(scores, log_odds, predicted)


def group_name(pair: Pair) -> str:
    """Return what a group (y, a) is called in tables and figures: ``">50K, Female, Black"``."""
    y, a = pair
    return ", ".join(map(str, (y, *a))) if isinstance(a, tuple) else f"{y}, {a}"
