"""What a model scores on test rows, with confidence intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from sklearn.utils import check_consistent_length, check_random_state

from ..groups import Pair, attribute_column, codes_of, count_unknown, is_in
from ..metrics import (
    equalized_odds_gap,
    group_accuracy_score,
    worst_group_accuracy_score,
)
from ..pipelines import unlearner_of
from ..validation import label_column


def as_json(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON values; NaN becomes None."""

    def known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in fields}

    return asdict(record, dict_factory=known)


def from_json(kind: Any, told: Any) -> Any:
    """Return the record that :func:`as_json` has told of, and those inside it."""
    if (several := get_origin(kind)) in (list, tuple):
        return several(from_json(get_args(kind)[0], each) for each in told)
    if get_origin(kind) is dict:
        return {name: from_json(get_args(kind)[1], each) for name, each in told.items()}
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        fields = {name: from_json(kinds[name], value) for name, value in told.items()}
        return kind(**fields)  # type: ignore[operator]
    return math.nan if kind is float and told is None else told


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval; NaN where it is not known.

    Attributes
    ----------
    value, low, high : float
        The value and the ends.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def __str__(self) -> str:
        ends = f"[{self.low:.3f}, {self.high:.3f}]" if self.is_known else "[-, -]"
        return f"{self.value:.3f} {ends}"


@dataclass(frozen=True)
class GroupScore:
    """The accuracy of one group.

    Attributes
    ----------
    label, attribute : str
        The pair (y, a), as text.
    n_rows : int
        Test rows of the group.
    accuracy : Interval
        With its Wilson interval, which does not shrink to nothing when all rows are right.
    """

    label: str
    attribute: str
    n_rows: int
    accuracy: Interval


@dataclass(frozen=True)
class ModelScores:
    """What a model scores on test rows; as JSON, it outlives the model.

    Attributes
    ----------
    metrics : dict of str to Interval
        TA, WG, EO and GA on the test rows, and RA, UA if those rows were given; fractions.
    groups : list of GroupScore
        The accuracy of each group that has test rows.
    n_rows : int
        Test rows.
    confidence : float
        Level of the intervals.
    left_out : dict of str to int
        Test rows that are in none of this, by the value of their attribute, which the model was not
        trained with.

    Examples
    --------
    >>> from grmu_sk.audit import ModelScores
    >>> ModelScores({}, [], 10).n_rows
    10
    """

    metrics: dict[str, Interval]
    groups: list[GroupScore] = field(default_factory=list)
    n_rows: int = 0
    confidence: float = 0.95
    left_out: dict[str, int] = field(default_factory=dict)


def measure(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    groups: Any,
    *,
    forget_groups: Pair | Sequence[Pair] | None = None,
    remaining: tuple[Any, ArrayLike] | None = None,
    forgotten: tuple[Any, ArrayLike] | None = None,
    fitted: Any = None,
    n_bootstrap: int = 500,
    confidence: float = 0.95,
    random_state: int | np.random.RandomState | None = 0,
) -> ModelScores:
    r"""Score a fitted model on test rows, with bootstrap intervals over the rows.

    Of ``n_bootstrap`` samples of the test rows, drawn with replacement, the interval of a metric
    runs between the quantiles :math:`(1 \pm c) / 2`. The accuracy of a group, a plain proportion
    of rows that may be few, gets the Wilson interval.

    Parameters
    ----------
    estimator : estimator
        Fitted, with ``predict``.
    X : array-like of shape (n_samples, ...)
        Test inputs.
    y : array-like of shape (n_samples,)
        Test labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute of the test rows.
    forget_groups : pair or sequence of pairs, default=None
        The groups (y, a) that were asked to be forgotten; GA is theirs. Default: those of the
        estimator, if it has forgotten any.
    remaining, forgotten : tuple of (X, y), default=None
        Training rows of each kind, for RA and UA.
    fitted : BaseUnlearner or None, default=None
        Test rows with an attribute that this unlearner's ``fit`` has not seen do not count; a
        warning says how many. Models that are compared need the same. None means the estimator.
    n_bootstrap : int, default=500
        How many samples.
    confidence : float, default=0.95
        Level of the intervals.
    random_state : int, RandomState instance or None, default=0
        Seed of the samples.

    Returns
    -------
    ModelScores
        The scores; a metric that is undefined on these rows is NaN.

    Raises
    ------
    ValueError
        If lengths differ, a label is missing or one that the estimator does not know, most rows
        have an unknown attribute, or ``n_bootstrap`` or ``confidence`` is out of range.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.audit import measure
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> rows = data.train[:200]
    >>> X, y, a = data.images, data.target, data.groups
    >>> model = FineTuneUnlearner(random_state=0).fit(X[rows], y[rows], a[rows]).unlearn([3])
    >>> scores = measure(model, X[data.test], y[data.test], a[data.test])
    >>> low_to_high = scores.metrics["TA"].low, scores.metrics["TA"].high
    >>> low_to_high[0] <= scores.metrics["TA"].value <= low_to_high[1]
    True
    """
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap must be at least 2, got {n_bootstrap!r}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    rng = check_random_state(random_state)
    labels, predicted = _answers(estimator, X, y, "y")
    attribute = attribute_column(groups)
    check_consistent_length(labels, attribute)
    known = getattr(estimator if fitted is None else fitted, "attributes_", None)
    unknown = count_unknown(attribute, known)
    columns = {"label": labels, "attribute": attribute, "answer": predicted}
    rows = pd.DataFrame(columns)[~is_in(attribute, unknown)]
    if forget_groups is None:
        forget_groups = getattr(estimator, "forget_groups_", None) or None
    # rows that agree in label, attribute and prediction count as one, with a weight
    cells = rows.groupby(list(columns), dropna=False).size().reset_index(name="n")
    drawn = rng.multinomial(len(rows), cells["n"] / len(rows), size=n_bootstrap)
    weights = np.vstack([cells["n"], drawn]).astype(np.float64)
    of_forgotten: dict[str, Any] = {"forget_groups": forget_groups}
    functions: dict[str, Callable[..., float]] = {
        "TA": lambda y, predicted, groups, sample_weight: float(
            np.average(y == predicted, weights=sample_weight)
        ),
        "WG": worst_group_accuracy_score,
        "EO": partial(equalized_odds_gap, **of_forgotten),
    }
    if forget_groups is not None:
        functions["GA"] = partial(group_accuracy_score, **of_forgotten)
    metrics = {
        name: _bootstrapped(function, cells, weights, confidence)
        for name, function in functions.items()
    }
    for name, split in (("RA", remaining), ("UA", forgotten)):
        if split is not None:
            split_labels, split_predicted = _answers(estimator, *split, f"y of {name}")
            metrics[name] = _proportion(split_labels == split_predicted, confidence)
    is_right = rows["label"] == rows["answer"]
    of_groups = [
        GroupScore(str(label), str(value), len(right), _proportion(right, confidence))
        for (label, value), right in is_right.groupby([rows["label"], rows["attribute"]])
    ]
    left_out = {str(value): n_rows for value, n_rows in unknown.items()}
    return ModelScores(metrics, of_groups, len(rows), confidence, left_out)


def measure_models(
    unlearner: Any, models: Mapping[str, Any], X: Any, y: Any, groups: Any, **measuring: Any
) -> dict[str, ModelScores | None]:
    """Score models that are compared; without test rows, those that were scored already."""
    inside = unlearner_of(unlearner)
    options = {"forget_groups": inside.forget_groups_ or None, "fitted": inside, **measuring}

    def scored(model: Any) -> ModelScores | None:
        if isinstance(model, ModelScores):
            return model
        return None if model is None or X is None else measure(model, X, y, groups, **options)

    return {name: scored(model) for name, model in models.items()}


def _answers(estimator: Any, X: Any, y: ArrayLike, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return labels, which the estimator knows, and what it says in their place."""
    labels, predicted = label_column(y, name=name), np.asarray(estimator.predict(X))
    check_consistent_length(labels, predicted)
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        codes_of(labels, np.asarray(classes), name)
    return labels, predicted


def _bootstrapped(
    function: Callable[..., float], cells: Any, weights: NDArray[np.float64], confidence: float
) -> Interval:
    """Return a metric with the first weights, and its quantiles with the others."""

    def score(weight: NDArray[np.float64]) -> float:
        used = weight > 0
        y, groups, predicted, _ = (cells[column][used].to_numpy() for column in cells)
        try:
            return function(y, predicted, groups=groups, sample_weight=weight[used])
        except ValueError:  # not defined for these labels and attributes
            return math.nan

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an undefined metric is NaN, and so may all samples be
        value, *resampled = (score(weight) for weight in weights)
        ends = np.nanquantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value) if math.isnan(value) else Interval(value, *ends.tolist())


def _proportion(right: Any, confidence: float) -> Interval:
    if not len(right):
        return Interval(math.nan)
    n_right = int(right.sum())
    ends = binomtest(n_right, len(right)).proportion_ci(confidence, method="wilson")
    return Interval(n_right / len(right), float(ends.low), float(ends.high))
