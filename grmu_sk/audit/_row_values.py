"""The forgotten rows as numbers to look for: as given, normalised, scaled, in other axis orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..utils.arguments import to_array, to_numbers

# A row is known by so many of its values; more would only make the search slower.
MAX_VALUES = 256
# Below so much information a match may be chance.
MIN_BITS = 40.0
_FRACTION_BITS = 20.0


@dataclass(frozen=True)
class RowValues:
    """The same rows in one form.

    Attributes
    ----------
    name : str
        What the form is called; empty for rows as given.
    values : ndarray of shape (n_rows, n_values), float64
        A stretch of each row, at most ``MAX_VALUES`` long.
    bits : ndarray of shape (n_rows, n_values), float64
        How much each value tells, 0 where it repeats the one before.
    is_integer : bool
        Whether all values are whole numbers.
    """

    name: str
    values: NDArray[np.float64]
    bits: NDArray[np.float64]
    is_integer: bool

    @property
    def total_bits(self) -> NDArray[np.float64]:
        """Information in each row."""
        return self.bits.sum(axis=1)


def numeric_rows(rows: Any, name: str = "rows") -> NDArray[Any]:
    """Return rows as an array of numbers, whatever they came in.

    Parameters
    ----------
    rows : array-like, DataFrame or tensor of shape (n_rows, ...)
        The rows.
    name : str, default="rows"
        What to call the argument in error messages.

    Returns
    -------
    ndarray of shape (n_rows, ...)
        The numbers.

    Raises
    ------
    ValueError
        If they are not numbers, there is only one axis, or a row is empty.
    """
    if isinstance(rows, pd.DataFrame):
        rows = rows.select_dtypes(["number", "bool"]).to_numpy()
    array = to_array(rows, name)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be numbers of shape (n_rows, ...), a list of texts, or a list of "
                f"bytes; they do not form an array of numbers: {error}."
            ) from error
    if array.dtype.kind not in "biuf" or array.ndim < 2 or (len(array) and not array.size):
        raise ValueError(
            f"{name} must be numbers of shape (n_rows, ...), a list of texts, or a list of bytes; "
            f"got an array of shape {array.shape} and dtype {array.dtype}. A single row has to be "
            f"given as {name}[None]."
        )
    return array


def row_forms(rows: NDArray[Any], mean: Any = None, std: Any = None) -> list[RowValues]:
    """Return all forms in which rows may be stored.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, ...)
        The rows.
    mean, std : array-like or None, default=None
        What a pipeline subtracts and divides by; broadcast against one row.

    Returns
    -------
    list of RowValues
        As given first.

    Raises
    ------
    ValueError
        If ``mean`` or ``std`` does not fit a row.
    """
    forms = []
    for name, values in _valued(rows, mean, std):
        for order, ordered in _axis_orders(values):
            flat = ordered.reshape(len(ordered), -1)
            forms.append(_stretch(" ".join(part for part in (name, order) if part), flat))
    return forms


def _valued(rows: NDArray[Any], mean: Any, std: Any) -> list[tuple[str, NDArray[np.float64]]]:
    values = rows.astype(np.float64)
    valued = [("", values)]
    is_bytes = rows.dtype == np.uint8 or (
        np.array_equal(values, np.rint(values))
        and np.min(values) >= 0
        and 1 < np.max(values) <= 255
    )
    if is_bytes and np.max(values) > 1:
        valued.append(("scaled to [0, 1]", values / 255))
    if mean is not None or std is not None:
        scale = _parameter(std, 1.0, "std")
        if not np.all(np.isfinite(scale) & (scale != 0)):
            raise ValueError(f"std must be finite and not zero, got {std!r}.")
        try:
            normalised = (values - _parameter(mean, 0.0, "mean")) / scale
            normalised = np.broadcast_to(normalised, values.shape)
        except ValueError as error:
            raise ValueError(
                f"mean and std must broadcast against one row of shape {rows.shape[1:]}: {error}."
            ) from error
        valued.append(("normalised", normalised))
    return valued


def _parameter(value: Any, default: float, name: str) -> NDArray[np.float64]:
    return to_numbers(default if value is None else value, name)


def _axis_orders(values: NDArray[np.float64]) -> list[tuple[str, NDArray[np.float64]]]:
    if values.ndim < 3:
        return [("", values)]
    orders = [("", values), ("channels last", np.moveaxis(values, 1, -1))]
    if values.ndim > 3:
        orders.append(("channels first", np.moveaxis(values, -1, 1)))
    return orders


def _stretch(name: str, flat: NDArray[np.float64]) -> RowValues:
    """Cut out the part of each row that tells most."""
    bits = information(flat)
    width = flat.shape[1]
    if width > MAX_VALUES:
        total = np.concatenate([np.zeros((len(flat), 1)), bits.cumsum(axis=1)], axis=1)
        start = (total[:, MAX_VALUES:] - total[:, :-MAX_VALUES]).argmax(axis=1)
        where = start[:, None] + np.arange(MAX_VALUES)
        flat = np.take_along_axis(flat, where, axis=1)
        bits = np.take_along_axis(bits, where, axis=1)
    return RowValues(name, flat, bits, bool(np.array_equal(flat, np.rint(flat))))


def information(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many bits each value tells: little where it is small, whole or repeated."""
    with np.errstate(invalid="ignore", over="ignore"):
        is_whole = (values == np.rint(values)) & (np.abs(values) < 2**31)
        size = np.log2(1 + np.where(is_whole, np.abs(values), 0))
    bits = np.where(is_whole, np.minimum(size, _FRACTION_BITS), _FRACTION_BITS)
    bits[:, 1:][values[:, 1:] == values[:, :-1]] = 0
    bits[~np.isfinite(values)] = 0
    return bits
