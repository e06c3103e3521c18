"""Checks of arguments, in the terms of the function that was called.

A wrong kind of value is best refused where it comes in, under the name the caller knows it by:
deep inside it is an error about an array nobody has heard of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state

__all__ = [
    "LARGEST",
    "about",
    "as_random_state",
    "to_array",
    "to_numbers",
]

#: In single precision, with which optimizers compute.
LARGEST = float(np.finfo(np.float32).max)


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
    >>> from grmu_sk.utils.arguments import about
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


def as_random_state(value: Any, name: str = "random_state") -> np.random.RandomState:
    """Return a random number generator, as :func:`sklearn.utils.check_random_state` does.

    Parameters
    ----------
    value : int, RandomState instance or None
        Seed or generator; None means NumPy's global one.
    name : str, default="random_state"
        What to call the argument in error messages.

    Returns
    -------
    RandomState
        The generator.

    Raises
    ------
    ValueError
        If it is none of these, or a seed out of range.
    """
    try:
        return check_random_state(None if value is None else value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a whole number from 0 to 2**32 - 1, a RandomState or None, got "
            f"{value!r:.100}."
        ) from error


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
