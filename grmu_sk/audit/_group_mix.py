"""How many rows of each group there were, are to be forgotten, and remain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..base import BaseUnlearner

COLUMNS = ["label", "attribute", "trained", "present", "requested", "remaining"]


def group_of_rows(
    unlearner: BaseUnlearner, y: ArrayLike | None = None, groups: Any = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return row numbers of ``fit`` and the group number of each.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted.
    y, groups : array-like of shape (n_samples,), default=None
        As given to ``fit``, if the rows are not stored.

    Returns
    -------
    tuple of ndarray, or None
        None if the rows are neither stored nor given.

    Raises
    ------
    ValueError
        If they are given, and are not those that ``fit`` was given.
    """
    n_rows = len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
    if y is not None:
        if len(np.asarray(y)) != n_rows:
            raise ValueError(
                f"The training labels have {len(np.asarray(y))} rows, but fit was given {n_rows}."
            )
        if unlearner._has_groups and groups is None:
            raise ValueError("The labels were passed without groups, which fit was given.")
        known = groups if unlearner._has_groups else None
        numbers = unlearner._encoder.transform(y, known)
        unlearner._check_same_columns(numbers)
        return np.arange(n_rows), numbers
    data = unlearner._data
    return None if data is None else (data.rows, data.g.numpy())


def group_mix(
    unlearner: BaseUnlearner,
    forget: NDArray[np.int64],
    y: ArrayLike | None = None,
    groups: Any = None,
) -> pd.DataFrame | None:
    """Count the rows of each group that occurs.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted.
    forget : ndarray
        Row numbers that are to be forgotten, or were.
    y, groups : array-like of shape (n_samples,), default=None
        As given to ``fit``, if the rows are not stored.

    Returns
    -------
    DataFrame or None
        A row for each group (y, a) with the rows of ``fit``, those still present, those of the
        request, and those that remain after it. None if the rows are not known.
    """
    known = group_of_rows(unlearner, y, groups)
    if known is None:
        return None
    rows, numbers = known
    pairs, n_groups = unlearner._encoder.pairs_, unlearner._encoder.n_groups_

    def count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(numbers[which], minlength=n_groups)

    remaining = count(np.isin(rows, np.setdiff1d(unlearner.remaining_idx_, forget)))
    present = count(np.isin(rows, unlearner.remaining_idx_))
    trained = np.asarray(unlearner._group_counts)
    # rows that are forgotten already have been dropped, and are known by what is missing
    is_done = len(np.setdiff1d(forget, unlearner.forget_idx_)) == 0
    requested = trained - present if is_done else present - remaining
    mix = pd.DataFrame(
        {
            "label": pd.Series([pair[0] for pair in pairs], dtype=object),
            "attribute": pd.Series([pair[1] for pair in pairs], dtype=object),
            "trained": trained,
            "present": present,
            "requested": requested,
            "remaining": remaining,
        }
    )
    if not unlearner._has_groups:
        mix["attribute"] = ""
    return mix[mix["trained"] > 0].reset_index(drop=True)
