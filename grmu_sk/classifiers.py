"""Any scikit-learn classifier in the place of a net: made anew, fitted with weights, read.

Methods that train from scratch take one, see :class:`AnyClassifierUnlearner`. It is fitted to the
labels as they were given, and to rows in the container they came in.
"""

from __future__ import annotations

import copy
import time
import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, check_array, get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data
from skorch import NeuralNet
from skorch.history import History

from .base import BaseUnlearner, Request
from .outputs import predicted_columns
from .randomness import derive_seed, isolated_rng
from .rows import Rows, TrainingRows, evenly_spaced, take_rows

__all__ = ["AnyClassifierUnlearner"]

N_COMPARED = 1000  # rows on which a classifier's labels are held against its probabilities


class AnyClassifierUnlearner(BaseUnlearner):
    """Base class of methods that take any classifier, for they train what they need from scratch.

    Attributes
    ----------
    estimator_ : classifier
        What predicts, if it is no net.
    reweighted_by_ : {"sample_weight", "draws"} or None
        How the last fit of a classifier that is no net was reweighted.
    """

    _takes_any = True

    estimator_: Any
    reweighted_by_: str | None

    @abstractmethod
    def _refit(self, request: Request) -> Any:
        """Return a classifier that has forgotten."""

    def _fit_classifier(self, data: TrainingRows) -> Any:
        """Return a classifier that was fitted to all rows."""
        return self._fitted_to(data, data.rows)

    @property
    def _takes_net(self) -> bool:
        return not is_plain_classifier(self._source())

    @property
    def _model(self) -> Any:
        return super()._model if self._takes_net else self.estimator_

    def _checked(self, X: Any, reset: bool) -> Any:
        if self._takes_net:
            return super()._checked(X, reset)
        if issparse(X):
            X = X.tocsr()
        elif not hasattr(X, "iloc"):
            X = np.asarray(X)
            if X.dtype.kind in "biufc":  # texts may be one column without an axis of its own
                check_array(X, dtype=None, allow_nd=True, ensure_all_finite=False)
        validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if not self._takes_net:
            tags.input_tags = get_tags(self._source()).input_tags
        return tags

    def _fit_model(self, data: TrainingRows, is_to_forget: bool) -> None:
        if self._takes_net:
            return super()._fit_model(data, is_to_forget)
        self.history_, self.reweighted_by_ = History(), None
        with isolated_rng(derive_seed(self.seed_, 0)):
            fresh_classifier(self._source())
            if self._is_frozen:
                check_is_fitted(self._source())
                self.estimator_ = copy.deepcopy(self._source())
            elif self._needs_trained_net or not is_to_forget:
                self.estimator_ = self._fit_classifier(data)
            else:
                return
        self._check_labels(data, data.rows)

    def _unlearn_model(
        self, new: Rows, retain: Rows, data: TrainingRows, progress: Any = None
    ) -> None:
        if self._takes_net:
            return super()._unlearn_model(new, retain, data, progress)
        with isolated_rng(derive_seed(self.seed_, 1 + self._n_requests)):
            of_fit = self._group_counts, self._encoder.pairs_
            self.estimator_ = self._refit(Request(None, data, new, retain, *of_fit))
        # what was brought in, or was fitted before on these rows perhaps
        self.estimator = clone(self._source())
        if self._is_frozen:
            self.estimator = FrozenEstimator(self.estimator_)
        self._check_labels(data, retain)

    def _fitted_to(
        self,
        data: TrainingRows,
        rows: Rows,
        probability: NDArray[np.floating] | None = None,
        phase: str = "fit",
    ) -> Any:
        """Return a classifier that was fitted to some rows, and write into the history how long."""
        where = data.positions(rows).numpy()
        X, y = take_rows(data.X, where), self.classes_[data.y.numpy()[where]]
        weight = None if data.sample_weight is None else data.sample_weight.numpy()[where]
        start = time.perf_counter()
        fitted, self.reweighted_by_ = fit_classifier(self._source(), X, y, weight, probability)
        known = {"epoch": 1, "phase": phase, "dur": time.perf_counter() - start, "batches": []}
        self.history_ = History([*self.history_, known])  # a copy may share what was there
        return fitted

    def _check_labels(self, data: TrainingRows, rows: Rows) -> None:
        """Refuse a classifier whose labels do not follow from its probabilities.

        Metrics are computed from these.
        """
        some = take_rows(data.X, data.positions(evenly_spaced(rows, N_COMPARED)).numpy())
        proba = np.exp(self._log_proba(some))
        ours = self.classes_[predicted_columns(proba, self._threshold)]
        best = np.sort(proba, axis=1)
        is_tie = np.isclose(best[:, -1], best[:, -2])
        if (~is_tie & (ours != np.ravel(self.estimator_.predict(some)))).any():
            raise ValueError(
                f"The labels that {type(self.estimator_).__name__} predicts are not those that its "
                "probabilities say: wrap it in sklearn.calibration.CalibratedClassifierCV."
            )

    def _log_proba(self, X: Any) -> NDArray[np.floating]:
        if self._takes_net:
            return super()._log_proba(X)
        return log_proba_of(self.estimator_, X, self.classes_)


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
    if isinstance(estimator, NeuralNet) or not hasattr(estimator, "get_params"):
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
            f"{type(_last_step(copy)).__name__} has no predict_proba, which metrics and attacks "
            "need: wrap it in sklearn.calibration.CalibratedClassifierCV."
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
    weights. For any other, rows are drawn. Of a pipeline, the last step is given the weights,
    whether metadata is routed or not.

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
        first = np.flatnonzero(~pd.Series(y).duplicated())
        rows = np.concatenate([rows, first[~np.isin(y[first], y[rows])]])  # of classes not drawn
        X, y = take_rows(X, rows), y[rows]
    weights = {} if sample_weight is None or name is None else {name: sample_weight}
    with config_context(enable_metadata_routing=False):  # which would ask every step
        return fitted.fit(X, y, **weights), how


def _last_step(estimator: Any) -> Any:
    return _last_step(estimator[-1]) if isinstance(estimator, Pipeline) else estimator


def _weight_parameter(estimator: Any) -> str | None:
    """Return by what name ``fit`` takes weights."""
    if not isinstance(estimator, Pipeline):
        return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None
    name, last = estimator.steps[-1]
    inner = _weight_parameter(last)
    return inner and f"{name}__{inner}"


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
        A probability of 0 counts as the smallest positive number.
    """
    found = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    where = [classes.tolist().index(label) for label in np.asarray(estimator.classes_).tolist()]
    proba = np.zeros((len(found), len(classes)))
    proba[:, where] = found
    return np.log(np.maximum(proba, np.finfo(np.float64).tiny))
