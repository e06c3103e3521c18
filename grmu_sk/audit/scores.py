"""What a model scores on test rows, with confidence intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_consistent_length

from ..groups import GroupEncoder, Pair, attribute_column, codes_of, count_unknown
from ..metrics import (
    demographic_parity_gap,
    equal_opportunity_gap,
    equalized_odds_gap,
    group_accuracy_score,
    split_accuracy_score,
    worst_group_accuracy_score,
)
from ..metrics.inputs import is_in, label_column
from ..utils.arguments import about, as_random_state

__all__ = ["GroupScore", "ModelScores", "Score", "measure", "scores_of"]


class Score(NamedTuple):
    """A value and its confidence interval; NaN where it is undefined."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the fields as JSON values; NaN becomes None."""
        fields = self._asdict().items()
        return {name: float(value) if math.isfinite(value) else None for name, value in fields}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned."""
        values = (fields[name] for name in cls._fields)
        return cls(*(math.nan if value is None else float(value) for value in values))


@dataclass(frozen=True)
class GroupScore:
    """The accuracy of one group.

    Attributes
    ----------
    label, attribute : str
        The pair (y, a), as text.
    n_rows : int
        Test rows of the group.
    accuracy : Score
        With its Wilson interval, which does not shrink to nothing when all rows are right.
    """

    label: str
    attribute: str
    n_rows: int
    accuracy: Score


@dataclass(frozen=True)
class ModelScores:
    """What a model scores on test rows; as JSON, it outlives the model.

    Attributes
    ----------
    metrics : dict of str to Score
        TA, WG, EO, GA, DP, EP on the test rows, and RA, UA if those rows were given; fractions.
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
    >>> ModelScores.from_dict(ModelScores({}, [], 10).to_dict()).n_rows
    10
    """

    metrics: dict[str, Score]
    groups: list[GroupScore] = field(default_factory=list)
    n_rows: int = 0
    confidence: float = 0.95
    left_out: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values.

        Returns
        -------
        dict
            By field name.
        """
        metrics = {name: score.to_dict() for name, score in self.metrics.items()}
        groups = [{**vars(group), "accuracy": group.accuracy.to_dict()} for group in self.groups]
        left_out = dict(self.left_out)
        return {**vars(self), "metrics": metrics, "groups": groups, "left_out": left_out}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned.

        Parameters
        ----------
        fields : mapping
            By field name.

        Returns
        -------
        ModelScores
            The scores.

        Raises
        ------
        ValueError
            If a field is missing or of another kind.
        """
        try:
            groups = []
            for group in fields["groups"]:
                names = str(group["label"]), str(group["attribute"])
                accuracy = Score.from_dict(group["accuracy"])
                groups.append(GroupScore(*names, int(group["n_rows"]), accuracy))
            given = fields["metrics"].items()
            metrics = {str(name): Score.from_dict(score) for name, score in given}
            left_out = {str(a): int(n) for a, n in fields.get("left_out", {}).items()}
            n_rows, confidence = int(fields["n_rows"]), float(fields["confidence"])
            return cls(metrics, groups, n_rows, confidence, left_out)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"These are not scores as ModelScores.to_dict returns them ({error!r})."
            ) from error


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
    if not 2 <= n_bootstrap <= MOST_SAMPLES:
        raise ValueError(
            f"n_bootstrap must be at least 2 and at most {MOST_SAMPLES}, got {n_bootstrap!r}."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    if groups is None:
        raise ValueError("groups is None: the accuracy of groups needs the protected attribute.")
    rng = as_random_state(random_state)
    if not hasattr(estimator, "predict"):
        raise TypeError(f"estimator must be one that predicts, got {estimator!r}.")
    labels, predicted = label_column(y, name="y"), np.asarray(estimator.predict(X))
    attribute = attribute_column(groups)
    check_consistent_length(labels, predicted, attribute)
    _check_known(estimator, labels)
    known = getattr(estimator if fitted is None else fitted, "attributes_", None)
    unknown = count_unknown(attribute, known)
    counted = ~is_in(attribute, unknown)
    labels, predicted, attribute = labels[counted], predicted[counted], attribute[counted]
    encoder = GroupEncoder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said when fitting
        encoder.fit(labels, attribute)
    cells = _Cells(labels, predicted, encoder.transform(labels, attribute), encoder)
    if forget_groups is None:
        forget_groups = getattr(estimator, "forget_groups_", None) or None
    counts = rng.multinomial(len(labels), cells.counts / len(labels), size=n_bootstrap)
    metrics = {
        name: _bootstrapped(function, cells, counts, confidence)
        for name, function in _metrics_of(forget_groups).items()
    }
    for name, split in (("RA", remaining), ("UA", forgotten)):
        if split is not None:
            is_right = _is_right(estimator, split, "remaining" if name == "RA" else "forgotten")
            metrics[name] = _wilson(int(is_right.sum()), len(is_right), confidence)
    left_out = {str(value): n_rows for value, n_rows in unknown.items()}
    scores = cells.group_scores(confidence)
    return ModelScores(metrics, scores, len(labels), confidence, left_out)


def _check_known(estimator: Any, labels: NDArray[Any]) -> None:
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        codes_of(labels, np.asarray(classes), "y")


def _is_right(estimator: Any, split: Any, name: str) -> NDArray[np.bool_]:
    """Tell which predictions of a pair (X, y) are right."""
    if not isinstance(split, tuple | list) or len(split) != 2:
        raise ValueError(f"{name} must be a pair (X, y), got {split!r}.")
    with about(name):
        predicted = np.asarray(estimator.predict(split[0]))
        labels = label_column(split[1], name=name)
        check_consistent_length(predicted, labels)
        _check_known(estimator, labels)
    return predicted == labels


def scores_of(
    name: str, model: Any, X: Any, y: ArrayLike, groups: Any, **measuring: Any
) -> ModelScores | None:
    """Return what :func:`measure` says of a model, unless it was said already.

    Parameters
    ----------
    name : str
        The argument that the model came in by.
    model : estimator, ModelScores or None
        The model, or its scores.
    X : array-like of shape (n_samples, ...)
        Test inputs.
    y : array-like of shape (n_samples,)
        True labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute.
    **measuring : dict
        Further arguments of :func:`measure`.

    Returns
    -------
    ModelScores or None
        None for no model.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if model is None or isinstance(model, ModelScores):
        return model
    if not hasattr(model, "predict"):
        raise TypeError(f"{name} must be a model that predicts, or its scores, got {model!r}.")
    return measure(model, X, y, groups, **measuring)


MOST_SAMPLES = 1_000_000  # they are held in memory


class _Cells:
    """Test rows that agree in label, attribute and prediction count as one, with a weight."""

    def __init__(
        self,
        labels: NDArray[Any],
        predicted: NDArray[Any],
        numbers: NDArray[np.int64],
        encoder: GroupEncoder,
    ) -> None:
        codes, _ = pd.factorize(pd.Series(predicted))
        _, first, counts = np.unique(
            np.stack([numbers, codes]), axis=1, return_index=True, return_counts=True
        )
        self.counts = counts.astype(np.float64)
        self.y, self.predicted, self.numbers = labels[first], predicted[first], numbers[first]
        self.encoder = encoder
        self.attribute = encoder.attributes_[self.numbers % len(encoder.attributes_)]

    def score(self, function: Callable[..., float], weights: NDArray[np.float64]) -> float:
        """Return a metric of the rows with these weights; NaN if it is undefined."""
        used = weights > 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            try:
                rows = {"groups": self.attribute[used], "sample_weight": weights[used]}
                return function(self.y[used], self.predicted[used], **rows)
            except ValueError:  # not defined for these labels and attributes
                return math.nan

    def group_scores(self, confidence: float) -> list[GroupScore]:
        """Return the accuracy of each group that occurs."""
        scores = []
        for number, (label, attribute) in enumerate(self.encoder.pairs_):
            inside = self.numbers == number
            if not inside.any():
                continue
            n_rows = int(self.counts[inside].sum())
            n_right = int(self.counts[inside & (self.y == self.predicted)].sum())
            accuracy = _wilson(n_right, n_rows, confidence)
            scores.append(GroupScore(str(label), str(attribute), n_rows, accuracy))
        return scores


def _metrics_of(forget_groups: Any) -> dict[str, Callable[..., float]]:
    def test_accuracy(y: Any, predicted: Any, *, groups: Any, sample_weight: Any) -> float:
        return split_accuracy_score(y, predicted, sample_weight=sample_weight)

    of_forgotten: dict[str, Any] = {"forget_groups": forget_groups, "empty": "nan"}
    metrics: dict[str, Callable[..., float]] = {
        "TA": test_accuracy,
        "WG": worst_group_accuracy_score,
        "EO": partial(equalized_odds_gap, **of_forgotten),
        "DP": partial(demographic_parity_gap, **of_forgotten),
        "EP": partial(equal_opportunity_gap, **of_forgotten),
    }
    if forget_groups is not None:
        metrics["GA"] = partial(group_accuracy_score, **of_forgotten)
    return metrics


def _bootstrapped(
    function: Callable[..., float], cells: _Cells, counts: NDArray[Any], confidence: float
) -> Score:
    value = cells.score(function, cells.counts)
    if math.isnan(value):
        return Score(math.nan, math.nan, math.nan)
    resampled = np.array([cells.score(function, weights.astype(np.float64)) for weights in counts])
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return Score(value, math.nan, math.nan)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Score(value, float(low), float(high))


def _wilson(n_right: int, n_rows: int, confidence: float) -> Score:
    if n_rows == 0:
        return Score(math.nan, math.nan, math.nan)
    z, share = float(norm.ppf((1 + confidence) / 2)), n_right / n_rows
    middle = (share + z**2 / (2 * n_rows)) / (1 + z**2 / n_rows)
    spread = z * math.sqrt(share * (1 - share) / n_rows + z**2 / (4 * n_rows**2))
    spread /= 1 + z**2 / n_rows
    low, high = min(share, middle - spread), max(share, middle + spread)
    return Score(share, max(0.0, low), min(1.0, high))
