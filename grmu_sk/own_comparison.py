"""One's own rows for a comparison of methods: cut them and prepare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Bunch

from .classifiers import is_plain_classifier
from .comparison import Splits
from .datasets.labels import SPLIT_NAMES
from .groups import Pair, attribute_column
from .metrics.evaluate import Split

__all__ = ["preparation", "prepared", "split_rows"]

FEWEST_OF_CLASS, FEWEST_OF_VALUE = 5, 10


def split_rows(
    rows: Bunch, name: str, seed: int, forget_group: Sequence[str] | None = None
) -> Splits:
    """Cut rows for a comparison.

    Parameters
    ----------
    rows : Bunch
        As :func:`grmu_sk.datasets.read_rows` returns them. Without ``split``, a fifth of each group
        is for tests and a fifth for validation, drawn anew for each seed; rows to forget, and
        groups of which fewer than five others are left, are always training rows. Without
        validation rows in ``split``, a fifth of the training rows is.
    name : str
        What tables call the data.
    seed : int
        Of the cut.
    forget_group : sequence of str or None, default=None
        Label and attribute(s) of the group that asks to be forgotten, where ``rows.forget`` does
        not say which rows do.

    Returns
    -------
    Splits
        The cut.

    Raises
    ------
    ValueError
        If labels or groups are missing, a class is too small, nothing or a whole class is to be
        forgotten, or a split is missing.
    """
    y, a = np.asarray(rows.y), attribute_column(_complete(rows.groups, "groups"))
    labels, counts = np.unique(_complete(y, "labels"), return_counts=True)
    if few := labels[counts < FEWEST_OF_CLASS].tolist():
        raise ValueError(
            f"The classes {few} have fewer than {FEWEST_OF_CLASS} rows: leave them out, or merge "
            "them with others."
        )
    pairs = list(zip(y.tolist(), a.tolist(), strict=True))
    forget = np.zeros(len(y), dtype=bool) if rows.forget is None else rows.forget
    if rows.forget is None:
        asked = [_asked_group(forget_group, pairs)]
    else:
        asked = sorted({pairs[row] for row in np.flatnonzero(forget)}, key=str)
        if not asked:
            raise ValueError("No row is to be forgotten.")
    part = (
        _drawn_parts(pairs, forget, seed) if rows.split is None else _given_parts(rows.split, seed)
    )
    if n_elsewhere := int((forget & (part != 0)).sum()):
        raise ValueError(f"{n_elsewhere} rows to forget are no training rows.")
    if lost := set(y) - set(y[(part == 0) & ~forget]):
        raise ValueError(f"No training row of the class(es) {sorted(lost)} would remain.")
    if untested := set(asked) - {pairs[row] for row in np.flatnonzero(part == 2)}:
        raise ValueError(
            f"There is no test row of the group(s) to forget {sorted(untested, key=str)}."
        )
    everything = Split(rows.X, y, a)
    train, validation, test = (everything.some(np.flatnonzero(part == n)) for n in range(3))
    mask = None if rows.forget is None else forget[part == 0]
    return Splits(name, train, validation, test, asked, forget=mask)


def _complete(values: Any, what: str) -> Any:
    if values is None:
        raise ValueError("Which column holds the protected attribute (groups, or --group-column)?")
    for name, column in pd.DataFrame(values).items():
        if n_missing := int((column.isna() | (column.astype(str) == "")).sum()):
            where = what if np.ndim(values) == 1 else repr(name)
            raise ValueError(f"{n_missing} values of {where} are missing: fill in or leave out.")
    return values


def _asked_group(group: Sequence[str] | None, pairs: list[Pair]) -> Pair:
    names = {(str(y), *map(str, a if isinstance(a, tuple) else (a,))): (y, a) for y, a in pairs}
    if group is None:
        raise ValueError("Say who is to be forgotten: a column of rows, or a group.")
    if tuple(group) not in names:
        there = "; ".join(sorted(",".join(name) for name in names))
        raise ValueError(f"There is no group {','.join(group)!r}, but: {there}.")
    return names[tuple(group)]


def _drawn_parts(pairs: list[Pair], forget: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return 0, 1 or 2 for each row: for training, validation or test."""
    codes = pd.factorize(pd.Series(pairs))[0]
    part = np.zeros(len(pairs), dtype=np.int64)
    free = np.flatnonzero(~forget)
    free = free[np.bincount(codes[free])[codes[free]] >= FEWEST_OF_CLASS]
    folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(free, codes[free])
    for number in (2, 1):
        part[free[next(folds)[1]]] = number
    return part


def _given_parts(split: Any, seed: int) -> NDArray[np.int64]:
    text = pd.Series(np.asarray(split)).astype(str).str.lower()
    if unknown := sorted(set(text) - set(SPLIT_NAMES)):
        raise ValueError(f"The split {unknown[0]!r} is none of {', '.join(SPLIT_NAMES)}.")
    part = text.map(SPLIT_NAMES).to_numpy(copy=True)
    if not (part == 2).any() or not (part == 0).any():
        raise ValueError("The split column names no training rows, or no test rows.")
    if not (part == 1).any():
        training = np.flatnonzero(part == 0)
        part[train_test_split(training, test_size=0.2, random_state=seed)[1]] = 1
    return part


def preparation(X: pd.DataFrame) -> ColumnTransformer:
    """Return what makes numbers of the columns of a table.

    Numbers are scaled, missing ones filled with the median and marked in a column of their own;
    each value of a text that ten rows or more have gets a column.

    Parameters
    ----------
    X : DataFrame
        All rows. What columns come out depends on them; what is learned from values does not.

    Returns
    -------
    ColumnTransformer
        Not fitted.
    """
    numbers = X.select_dtypes(["number", "bool"]).columns
    texts = X.columns.difference(numbers, sort=False)
    counts = [X[name].value_counts() for name in texts]
    common = [sorted(count.index[count >= FEWEST_OF_VALUE], key=str) for count in counts]
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    encode = OneHotEncoder(
        categories=[np.array(values, dtype=object) for values in common],
        handle_unknown="ignore",
        sparse_output=False,
    )
    steps = [
        ("scaled", make_pipeline(fill, StandardScaler()), numbers),
        ("is missing", MissingIndicator(features="all"), numbers[X[numbers].isna().any()]),
        ("one column a value", encode, texts),
    ]
    return ColumnTransformer([(name, step, list(columns)) for name, step, columns in steps])


def prepared(
    estimator: Any, rows: Bunch
) -> tuple[Any, Callable[[Splits], Splits], ColumnTransformer | None]:
    """Return an estimator, and what is done to cut rows, so that they fit together.

    A classifier gets the preparation of a table as its first step, so that it is fitted anew, to
    what remains, by each retraining; a Pipeline is taken to have its own. For a net the table
    becomes numbers by what is fitted to the training rows, those to forget among them.

    Parameters
    ----------
    estimator : classifier, net, module or None
        Not fitted.
    rows : Bunch
        All rows.

    Returns
    -------
    classifier, net, module or None
        What is to be compared.
    callable
        From splits to splits.
    ColumnTransformer or None
        The preparation, if there is one.
    """
    if not isinstance(rows.X, pd.DataFrame) or isinstance(estimator, Pipeline):
        return estimator, lambda splits: splits, None
    steps = preparation(rows.X)
    if is_plain_classifier(estimator):
        return make_pipeline(steps, clone(estimator)), lambda splits: splits, steps

    def in_numbers(splits: Splits) -> Splits:
        fitted = clone(steps).fit(splits.train.X)
        parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
        for name, part in parts.items():
            parts[name] = part._replace(X=fitted.transform(part.X).astype(np.float32))
        return replace(splits, **parts)

    return estimator, in_numbers, steps
