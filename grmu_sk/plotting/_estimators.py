"""What the figures ask of an unlearner."""

from __future__ import annotations

from typing import Any

from ..base import BaseUnlearner
from ..pipelines import unlearner_of

__all__ = ["forgetful_unlearner_of", "unlearner_of"]


def forgetful_unlearner_of(estimator: Any) -> BaseUnlearner:
    """Return the unlearner inside an estimator, if it has forgotten something.

    Parameters
    ----------
    estimator : BaseUnlearner, Pipeline or search
        A fitted estimator.

    Returns
    -------
    BaseUnlearner
        The unlearner.

    Raises
    ------
    TypeError
        If there is no unlearner in it.
    NotFittedError
        If it is not fitted.
    ValueError
        If it has forgotten no row.
    """
    unlearner = unlearner_of(estimator)
    if len(unlearner.forget_idx_) == 0:
        raise ValueError(
            f"{type(unlearner).__name__} has forgotten no row, and this figure is about forgotten "
            "rows. Call fit(..., forget=mask) or unlearn(rows) first."
        )
    return unlearner
