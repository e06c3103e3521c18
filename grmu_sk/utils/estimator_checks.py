"""Checks that an unlearner keeps the promises of this package, for those who write their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..base import BaseUnlearner
from . import _unlearner_checks
from ._unlearner_checks import *  # noqa: F403

__all__ = ["check_unlearner", "parametrize_with_checks"]

Check = Callable[[BaseUnlearner], None]


def check_unlearner(
    unlearner: BaseUnlearner, generate_only: bool = False
) -> Iterator[tuple[BaseUnlearner, Check]] | None:
    """Check that an unlearner does what every unlearner of this package does.

    Among the promises are: after ``unlearn`` no forgotten row and no original weight is left in
    the object, its pickle or a saved file; requests add up, and naming a row again changes
    nothing; a mask means the same as row numbers; a request that is refused, fails or is
    interrupted leaves the state before it; one that is resumed from a checkpoint comes to the same
    result; equal seeds give equal bits, and the caller's random
    state and net stay as they are; rows to forget are read in no phase but those declared.

    Parameters
    ----------
    unlearner : BaseUnlearner
        An instance. Its parameters are kept, so few epochs make the checks fast, except that the
        checks bring their own nets and data, and set ``estimator``, ``feature_layer``,
        ``random_state``, ``store_data`` and ``keep_forgotten``. The instance is not modified.
    generate_only : bool, default=False
        Whether to return the checks instead of running them.

    Returns
    -------
    iterator of (unlearner, callable) or None
        With ``generate_only=True``, pairs to be run as ``check(unlearner)``.

    Raises
    ------
    AssertionError
        If a promise is broken; the message says which, and how to keep it. Other errors are those
        that the unlearner itself raises where it should work.
    TypeError
        If ``unlearner`` is not an instance of an unlearner.

    See Also
    --------
    parametrize_with_checks : The same as one test for each check, for pytest.
    sklearn.utils.estimator_checks.check_estimator : What scikit-learn promises of estimators in
        general. It is not repeated here: run both.

    Notes
    -----
    What a method cannot promise it declares, by attributes of its class:
    ``_phases_that_read_forgotten``, ``_keeps_weights``, ``_keeps_unaffected_weights`` and
    ``_accepts_trained_net``. They are held against what the method does.

    The class must be importable (the top level of a module will do), since its objects are pickled.

    The checks find mistakes, not intentions: passing them is no proof that a method forgets.

    Examples
    --------
    >>> from grmu_sk import RetrainUnlearner
    >>> from grmu_sk.utils.estimator_checks import check_unlearner
    >>> class PlainRetrainUnlearner(RetrainUnlearner):
    ...     def __init__(self, estimator=None, *, store_data=True, keep_forgotten=False):
    ...         super().__init__(estimator, store_data=store_data, keep_forgotten=keep_forgotten)
    >>> check_unlearner(PlainRetrainUnlearner())
    Traceback (most recent call last):
        ...
    AssertionError: PlainRetrainUnlearner: the constructor does not take ['random_state'].
    >>> check_unlearner(RetrainUnlearner())  # says nothing: all is well
    """
    checks = _checks_of(unlearner)
    if generate_only:
        return checks
    for one, check in checks:
        check(one)
    return None


def parametrize_with_checks(unlearners: Iterable[BaseUnlearner]) -> Any:
    """Return a pytest decorator that runs every check of every unlearner as a test of its own.

    Parameters
    ----------
    unlearners : iterable of BaseUnlearner
        Instances, as :func:`check_unlearner` takes them.

    Returns
    -------
    pytest.mark.parametrize
        For a test function with the arguments ``unlearner`` and ``check``.

    Raises
    ------
    TypeError
        If one is not an instance of an unlearner.

    See Also
    --------
    check_unlearner : Runs the checks without pytest, and says what they promise.

    Examples
    --------
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.utils.estimator_checks import parametrize_with_checks
    >>> @parametrize_with_checks([FineTuneUnlearner(max_epochs=1)])
    ... def test_my_unlearner(unlearner, check):
    ...     check(unlearner)
    """
    import pytest

    pairs = [pair for unlearner in unlearners for pair in _checks_of(unlearner)]
    ids = [f"{type(unlearner).__name__}-{check.func.__name__}" for unlearner, check in pairs]
    return pytest.mark.parametrize(("unlearner", "check"), pairs, ids=ids)


def _checks_of(unlearner: BaseUnlearner) -> Iterator[tuple[BaseUnlearner, partial[None]]]:
    if not isinstance(unlearner, BaseUnlearner):
        raise TypeError(
            "The checks take an instance of an unlearner (a subclass of "
            f"grmu_sk.base.BaseUnlearner); got {unlearner!r}."
        )
    name = type(unlearner).__name__
    return ((unlearner, partial(check, name)) for check in _unlearner_checks.ALL_CHECKS)
