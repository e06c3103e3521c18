"""Any scikit-learn classifier in the place of a net: made anew, fitted with weights, read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter
from skorch import NeuralNet

from .rows import Rows, take_rows

__all__ = ["fit_classifier", "fresh_classifier", "is_plain_classifier", "log_proba_of"]


def is_plain_classifier(estimator: Any) -> bool:
    """Tell whether an estimator is a scikit-learn classifier that is no net.

    Parameters
    ----------
    estimator : object
        What an unlearner was given.

    Returns
    -------
    bool
        False for nets, modules, unlearners and None.
    """
    is_estimator = hasattr(estimator, "fit") and hasattr(estimator, "get_params")
    if isinstance(estimator, NeuralNet) or not is_estimator:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that know nothing of tags
        return is_classifier(estimator)


def fresh_classifier(estimator: Any) -> Any:
    """Return an unfitted copy that keeps nothing of what was learned before.

    Parameters
    ----------
    estimator : classifier
        Fitted or not.

    Returns
    -------
    classifier
        The copy.

    Raises
    ------
    ValueError
        If it has no probabilities, or would keep what it learns where a copy does not let go of
        it: in the files of ``memory``, or in a frozen part.
    """
    copy = clone(estimator)
    if not hasattr(copy, "predict_proba"):
        raise ValueError(
            f"{type(copy).__name__} has no predict_proba, which metrics and attacks need: wrap it "
            "in sklearn.calibration.CalibratedClassifierCV."
        )
    for name, part in copy.get_params().items():
        if name.rpartition("__")[2] == "memory" and part is not None:
            raise ValueError(
                f"{name} keeps fitted steps, and rows, in files that unlearning does not reach: "
                "set it to None."
            )
        if isinstance(part, FrozenEstimator):
            raise ValueError(
                f"{name} is frozen, so that what it has learned from rows to forget would stay: "
                "put it into a Pipeline before the unlearner, or let it be fitted."
            )
    return copy


def fit_classifier(
    estimator: Any,
    X: Any,
    y: NDArray[Any],
    sample_weight: NDArray[np.floating] | None = None,
    probability: NDArray[np.floating] | None = None,
) -> tuple[Any, str | None]:
    r"""Fit a fresh copy of a classifier, with REWEIGHT by weights where it takes them.

    With probabilities :math:`P(x_i)` of being drawn, n rows drawn with replacement have the
    expected loss

    .. math:: E\Big[\sum_{k=1}^n \ell(f(x_{i_k}), y_{i_k})\Big] = \sum_i n P(x_i) \ell(f(x_i), y_i),

    that of all rows with weights :math:`n P(x_i)`, which is what a classifier is given that takes
    weights. For any other, rows are drawn.

    Parameters
    ----------
    estimator : classifier
        What to fit; not modified.
    X : array-like, DataFrame or sparse matrix of length n_samples
        Inputs.
    y : ndarray of shape (n_samples,)
        Labels.
    sample_weight : ndarray of shape (n_samples,) or None, default=None
        The user's weights.
    probability : ndarray of shape (n_samples,) or None, default=None
        Probability of each row to be drawn. None means that each row counts once.

    Returns
    -------
    classifier
        The fitted copy.
    str or None
        How it was reweighted: ``"sample_weight"``, ``"draws"``, or None.

    Raises
    ------
    ValueError
        If there are weights of the user and the classifier takes none.
    """
    fitted = fresh_classifier(estimator)
    for parameter, value in fitted.get_params().items():
        if parameter.rpartition("__")[2] == "random_state" and value is None:
            # some take a fixed seed for None, so that a second model would be no other one
            fitted.set_params(**{parameter: int(np.random.randint(2**31))})  # noqa: NPY002
    name = _weight_parameter(fitted)
    if sample_weight is not None and name is None:
        raise ValueError(f"{type(_last_step(fitted)).__name__} takes no sample_weight.")
    how = None
    if probability is not None and name is not None:
        how, each = "sample_weight", len(y) * probability
        sample_weight = each if sample_weight is None else each * sample_weight
    elif probability is not None:
        how, rows = "draws", np.random.choice(len(y), len(y), p=probability)  # noqa: NPY002
        missing = np.setdiff1d(np.arange(len(y)), rows)
        rows = np.concatenate([rows, _of_lost_classes(y, rows, missing)])
        X, y = take_rows(X, rows), y[rows]
    weights = {} if sample_weight is None or name is None else {name: sample_weight}
    return fitted.fit(X, y, **weights), how


def _of_lost_classes(y: NDArray[Any], drawn: Rows, missing: Rows) -> Rows:
    """Return a row of each class of which no row happened to be drawn."""
    lost = ~np.isin(y[missing], y[drawn])
    return missing[lost][np.unique(y[missing[lost]], return_index=True)[1]]


def _last_step(estimator: Any) -> Any:
    return _last_step(estimator[-1]) if isinstance(estimator, Pipeline) else estimator


def _weight_parameter(estimator: Any) -> str | None:
    """Return by what name ``fit`` takes weights, having asked for them where they are routed."""
    if not isinstance(estimator, Pipeline):
        if not has_fit_parameter(estimator, "sample_weight"):
            return None
        if hasattr(estimator, "set_fit_request") and _routes():
            estimator.set_fit_request(sample_weight=True)
        return "sample_weight"
    name, last = estimator.steps[-1]
    inner = _weight_parameter(last)
    return inner if inner is None or _routes() else f"{name}__{inner}"


def _routes() -> bool:
    return bool(get_config()["enable_metadata_routing"])


def log_proba_of(estimator: Any, X: Any, classes: NDArray[Any]) -> NDArray[np.floating]:
    """Return log-probabilities, with a column for each class, also one it has never seen.

    Parameters
    ----------
    estimator : classifier
        Fitted.
    X : array-like of length n_samples
        Inputs.
    classes : ndarray of shape (n_classes,)
        The classes, in the order of the columns.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Minus infinity where a probability is 0.
    """
    found = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    where = [classes.tolist().index(label) for label in np.asarray(estimator.classes_).tolist()]
    proba = np.zeros((len(found), len(classes)))
    proba[:, where] = found
    with np.errstate(divide="ignore"):
        return np.log(proba)
