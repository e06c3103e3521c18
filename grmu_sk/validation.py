"""Every check of an array or an argument that users hand over, each with one message.

A wrong value is refused where it comes in, under the caller's name for it; raised later, an error
would name an internal array. What is refused, or fails, changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch.utils.data import Dataset


@contextmanager
def unchanged_on_error(subject: Any) -> Iterator[None]:
    """Take back every change to an object if anything goes wrong, Ctrl-C included.

    A shallow copy is enough where attributes are always replaced, never changed in place.
    """
    before = dict(subject.__dict__)
    try:
        yield
    except BaseException:
        subject.__dict__.clear()
        subject.__dict__.update(before)
        raise


@contextmanager
def about(name: str) -> Iterator[None]:
    """Let errors about a value name the argument that it came in by.

    Parameters
    ----------
    name : str
        The argument.

    Raises
    ------
    TypeError, ValueError
        What is raised inside, with the name in front if its message does not have it.

    Examples
    --------
    >>> from grmu_sk.validation import about
    >>> with about("lam"):
    ...     float("x")
    Traceback (most recent call last):
        ...
    ValueError: lam: could not convert string to float: 'x'
    """
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def to_array(values: Any, name: str) -> NDArray[Any]:
    """Return an array; tensors come off their device, and bfloat16 (unknown to NumPy) is widened.

    Parameters
    ----------
    values : array-like or tensor
        Values of any type.
    name : str
        What to call the argument in error messages.

    Returns
    -------
    ndarray
        The same values.

    Raises
    ------
    ValueError
        If values are masked, or rows differ in length.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        is_narrow = values.dtype is torch.bfloat16 or values.element_size() < 2
        values = values.float() if is_narrow and values.is_floating_point() else values
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values: fill them in, or leave those rows out.")
    with about(name):
        array = np.asarray(values)
    # pandas reads no other byte order
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def to_numbers(values: Any, name: str) -> NDArray[np.float64]:
    """Return an array of real numbers.

    Parameters
    ----------
    values : array-like or tensor
        Numbers.
    name : str
        What to call the argument in error messages.

    Returns
    -------
    ndarray, float64
        The same numbers.

    Raises
    ------
    ValueError
        If they are not real numbers.
    """
    array = to_array(values, name)
    if array.dtype.kind in "cmMV":  # which would be cast, without their imaginary parts or units
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}.")
    with about(name):
        return array.astype(np.float64)


def check_inputs(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Check inputs of any kind without copying them.

    Parameters
    ----------
    estimator : estimator
        Remembers the number and names of features.
    X : array-like, DataFrame, tensor or Dataset
        Inputs.
    reset : bool
        Whether to remember or to compare.

    Returns
    -------
    ndarray, tensor or Dataset
        The inputs, numeric and finite (a Dataset's items are not looked at).

    Raises
    ------
    ValueError
        If X is empty, not numeric, holds NaN or infinity, or has another number of features.
    """
    if isinstance(X, Dataset):
        return X
    if isinstance(X, torch.Tensor):
        if X.is_floating_point() and not torch.isfinite(X).all():
            raise ValueError("Input X contains NaN or infinity.")
        return validate_data(estimator, X.detach(), reset=reset, skip_check_array=True)
    with about("X"):
        checked = validate_data(estimator, X, reset=reset, dtype="numeric", allow_nd=True)
    if checked.dtype.kind not in "biuf":
        raise ValueError(f"X must hold numbers, got {checked.dtype}: encode it first.")
    # validation turns a memory map into a plain view; the map itself is what can be told apart
    return X if isinstance(X, np.memmap) else checked


def check_targets(y: Any, n_rows: int) -> NDArray[Any]:
    """Check labels: one a row, none missing, and classes.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Labels of any type.
    n_rows : int
        Number of rows of X.

    Returns
    -------
    ndarray of shape (n_rows,)
        The labels.

    Raises
    ------
    ValueError
        If the shape or length is wrong, a label is missing, or these are no classes.
    """
    is_table = isinstance(y, pd.DataFrame | pd.Series | pd.Index)
    with about("y"):
        labels: NDArray[Any] = column_or_1d(y if is_table else to_array(y, "y"), warn=True)
    if pd.isna(labels).any():
        raise ValueError("Input y contains NaN or None: every row needs a label.")
    check_consistent_length(range(n_rows), labels)
    check_class_labels(labels)
    return labels


def label_column(values: Any, *, name: str) -> NDArray[Any]:
    """Return class labels as one column.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Any hashable labels.
    name : str
        What to call the argument in error messages.

    Returns
    -------
    ndarray of shape (n_samples,)
        The labels.

    Raises
    ------
    ValueError
        If the labels are not one column, none, missing, unhashable or continuous.
    """
    if not hasattr(values, "__array__"):
        # through pandas, so that ["f", 1] keeps its types and tuples stay elements
        values = pd.Series(list(values)).to_numpy()
    labels = to_array(values, name)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{name} must hold one class label a row (1-D), got {labels.shape}.")
    if pd.isna(labels).any():
        raise ValueError(f"{name} has a missing label (NaN or None).")
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(f"{name} holds fractions: pass class labels, not probabilities or scores.")
    return labels


def label_pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Check true and predicted labels against one another.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_pred : array-like of shape (n_samples,)
        Predicted labels.

    Returns
    -------
    tuple of two ndarrays of shape (n_samples,)
        Both columns.

    Raises
    ------
    ValueError
        If their lengths differ, or one holds strings or dates and the other does not.
    """
    true, pred = label_column(y_true, name="y_true"), label_column(y_pred, name="y_pred")
    if len(true) != len(pred):
        raise ValueError(f"y_true has {len(true)} rows but y_pred has {len(pred)}.")
    are_texts = [
        {isinstance(value, str) for value in pd.unique(pd.Series(y))} for y in (true, pred)
    ]
    if are_texts[0].isdisjoint(are_texts[1]):
        # compared as they are, 1 and "1" never agree: an accuracy of 0 would hide the mistake
        raise ValueError(
            f"y_true and y_pred mix texts with other labels: {true.tolist()[0]!r} against "
            f"{pred.tolist()[0]!r}. Encode both the same way."
        )
    return true, pred


def check_same_index(rows: dict[str, Any], about_rows: dict[str, Any]) -> None:
    """Check that what is said about rows has the rows' index, where both are of pandas.

    A sampler of imbalanced-learn draws rows, numbers them anew, and leaves alone what a pipeline
    hands to the steps behind it.

    Parameters
    ----------
    rows : dict
        Inputs and labels, by name.
    about_rows : dict
        What else there is of each row, by name.

    Raises
    ------
    ValueError
        If an index differs.
    """
    kinds = (pd.DataFrame, pd.Series)
    pairs = [(name, other) for name in rows for other in about_rows]
    for name, other in pairs:
        one, two = rows[name], about_rows[other]
        if isinstance(one, kinds) and isinstance(two, kinds) and not one.index.equals(two.index):
            raise ValueError(
                f"{name} and {other} have different indices, so they may be of different rows "
                f"(a sampler draws no {other}). If both are in order, pass {other}.to_numpy()."
            )


def check_class_labels(y: Any) -> None:
    """Check that targets are classes, as scikit-learn does.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Labels.

    Raises
    ------
    ValueError
        If they are numbers to regress on, or of several outputs.
    """
    with about("y"), np.errstate(invalid="ignore"):  # it compares with whole numbers
        check_classification_targets(y)


def row_weights(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    """Return one finite weight, not negative, for each row.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
        Weights; None gives ones.
    n_rows : int
        Number of labels.

    Returns
    -------
    ndarray of shape (n_samples,)
        Weights.

    Raises
    ------
    ValueError
        If the shape is wrong, or a weight is negative, infinite or NaN.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weights = to_numbers(sample_weight, "sample_weight")
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), got {weights.shape}.")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must be finite and not negative.")
    return weights


def check_sample_weight(sample_weight: Any, n_rows: int) -> NDArray[np.float32]:
    """Check the weights of rows.

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,)
        A weight for each row.
    n_rows : int
        Rows given to ``fit``.

    Returns
    -------
    ndarray of shape (n_rows,), float32
        The weights.

    Raises
    ------
    ValueError
        If there is not one for each row, or one is negative or not finite, or all are zero.
    """
    with np.errstate(over="ignore"):  # infinity is refused
        weight = row_weights(sample_weight, n_rows).astype(np.float32)
    if not np.isfinite(weight).all() or not weight.any():
        raise ValueError("sample_weight must be finite in single precision, and not all zero.")
    return weight


def check_forget_mask(forget: Any, n_rows: int) -> NDArray[np.bool_]:
    """Check the ``forget`` argument of ``fit``: a mask.

    Parameters
    ----------
    forget : bool array-like of shape (n_rows,) or None
        True marks a row to forget; None marks none.
    n_rows : int
        Rows given to ``fit``.

    Returns
    -------
    ndarray of shape (n_rows,)
        The mask.

    Raises
    ------
    ValueError
        If it is not boolean, or its length is wrong.
    """
    array = np.zeros(n_rows, dtype=bool) if forget is None else to_array(forget, "forget")
    if array.dtype != bool or array.shape != (n_rows,):
        # model selection cuts masks by fold, but passes row numbers on whole
        raise ValueError(f"In fit, forget must be a boolean mask of length {n_rows}.")
    return array


def check_forget_rows(forget: Any, n_rows: int, name: str = "forget") -> NDArray[np.int64]:
    """Check the rows of a request: a mask or row numbers.

    Parameters
    ----------
    forget : array-like
        A boolean mask of length ``n_rows``, or distinct row numbers.
    n_rows : int
        Rows given to ``fit``.
    name : str, default="forget"
        What to call the argument in error messages.

    Returns
    -------
    ndarray
        Row numbers, ascending.

    Raises
    ------
    IndexError
        If a row number is out of range.
    ValueError
        If numbers are not integers, negative or duplicated, or a mask's length is wrong.
    """
    array = to_array(forget, name)
    is_mask = array.dtype == bool and array.shape == (n_rows,)
    is_empty = array.shape == (0,)
    if not is_mask and not is_empty and (array.ndim != 1 or array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must hold integers or be a boolean mask of length {n_rows}.")
    rows, counts = np.unique(np.flatnonzero(array) if is_mask else array, return_counts=True)
    if rows.min(initial=0) < 0:
        raise ValueError(f"{name} holds the negative row number {rows[0]}: rows count from 0.")
    if rows.max(initial=0) >= n_rows:
        raise IndexError(f"{name} holds row {rows[-1]}, but fit was given {n_rows} rows.")
    if (counts > 1).any():
        raise ValueError(f"{name} names row {rows[counts > 1][0]} more than once.")
    return rows.astype(np.int64)


def check_option(value: object, allowed: Collection[str], *, name: str) -> None:
    """Refuse an option that does not exist.

    Parameters
    ----------
    value : object
        What the caller gave.
    allowed : collection of str
        What there is.
    name : str
        What to call the argument in the error message.

    Raises
    ------
    ValueError
        If ``value`` is not allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {sorted(allowed)}, got {value!r}.")
