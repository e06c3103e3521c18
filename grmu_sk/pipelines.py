"""Reaching the unlearner inside what the user holds: a pipeline, a search, a frozen estimator.

Whatever takes a fitted unlearner takes a Pipeline that ends in one, by these functions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .base import BaseUnlearner


def unlearner_of(estimator: Any, *, fitted: bool = True) -> BaseUnlearner:
    """Return the unlearner inside an estimator.

    Parameters
    ----------
    estimator : estimator
        An unlearner, a pipeline that ends with one, or a search or FrozenEstimator around either.
    fitted : bool, default=True
        Whether to return the fitted one (of a search, the best), or the one that was passed in.

    Returns
    -------
    BaseUnlearner
        The unlearner.

    Raises
    ------
    TypeError
        If there is no unlearner.
    NotFittedError
        If a fitted one is asked for and there is none yet.
    """
    *_, last = _from_outside_in(estimator, fitted)
    if not isinstance(last, BaseUnlearner):
        raise TypeError(
            "This needs an unlearner, a Pipeline whose last step is one, or a "
            f"{'fitted ' if fitted else ''}search over either; got {estimator!r}."
        )
    if fitted:
        check_is_fitted(last)
    return last


def _from_outside_in(estimator: Any, fitted: bool) -> Iterator[Any]:
    """Yield an estimator, what it wraps or ends in, and so on, down to the unlearner."""
    while estimator is not None:
        yield estimator
        if isinstance(estimator, BaseUnlearner):
            return
        is_pipeline = isinstance(estimator, Pipeline)
        estimator = estimator[-1] if is_pipeline else _wrapped(estimator, fitted)


def _wrapped(estimator: Any, fitted: bool) -> Any:
    if fitted and not isinstance(estimator, FrozenEstimator):
        return getattr(estimator, "best_estimator_", None)
    return getattr(estimator, "estimator", None)


def inputs_of_unlearner(estimator: Any, X: Any) -> Any:
    """Return inputs of a fitted estimator as the unlearner inside it gets them.

    Parameters
    ----------
    estimator : estimator
        As :func:`unlearner_of` takes it.
    X : array-like
        Inputs of the estimator.

    Returns
    -------
    array-like
        The inputs, after the steps of pipelines before the unlearner.
    """
    for step in _from_outside_in(estimator, fitted=True):
        if isinstance(step, Pipeline) and len(step) > 1:
            X = step[:-1].transform(X)
    return X


def with_unlearner(estimator: Any, unlearner: BaseUnlearner) -> Any:
    """Return what a fitted estimator predicts with, with another unlearner at its end.

    Parameters
    ----------
    estimator : estimator
        As :func:`unlearner_of` takes it.
    unlearner : BaseUnlearner
        What stands in the place of the one inside.

    Returns
    -------
    estimator
        The unlearner, or pipelines of the same steps before it.
    """
    if isinstance(estimator, BaseUnlearner):
        return unlearner
    if not isinstance(estimator, Pipeline):
        return with_unlearner(_wrapped(estimator, fitted=True), unlearner)
    *before, (name, last) = estimator.steps
    pipeline = copy.copy(estimator)
    pipeline.steps = [*before, (name, with_unlearner(last, unlearner))]
    return pipeline


def by_method(
    unlearner: BaseUnlearner, method: type[BaseUnlearner], **params: Any
) -> BaseUnlearner:
    """Return a copy of a fitted unlearner whose next request another method carries out.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted.
    method : type
        The class of the copy.
    **params : dict
        Its parameters.

    Returns
    -------
    BaseUnlearner
        What was fitted is shared; attributes are replaced by requests, never changed in place.
    """
    other = method(**params)
    own = {*unlearner.get_params(deep=False), *other.get_params(deep=False)}
    other.__dict__.update(
        {name: value for name, value in vars(unlearner).items() if name not in own}
    )
    return other
