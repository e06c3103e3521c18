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
import scipy.sparse
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
    TypeError
        If it is a sparse matrix, or a tensor without values.
    ValueError
        If no array can be made of it, since rows differ in length for instance.
    """
    if scipy.sparse.issparse(values):
        raise TypeError(f"{name} is a sparse matrix: pass {name}.toarray().")
    if isinstance(values, torch.Tensor):
        return _from_tensor(values, name)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values: fill them in, or leave those rows out.")
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever __array__ and __len__ of somebody else's class raise
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    if array.dtype.kind == "V":
        raise ValueError(f"{name} must hold single values, got records ({array.dtype}).")
    # pandas reads no other byte order
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _from_tensor(tensor: torch.Tensor, name: str) -> NDArray[Any]:
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        raise TypeError(
            f"{name} is a tensor of layout {tensor.layout} on {tensor.device}: a dense one with "
            "values is needed."
        )
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    is_unknown = tensor.dtype is torch.bfloat16 or tensor.element_size() < 2
    return np.asarray(tensor.double() if is_unknown and tensor.is_floating_point() else tensor)


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
    TypeError
        If it is a sparse matrix, or a tensor without values.
    ValueError
        If they are not real numbers.
    """
    array = to_array(values, name)
    if array.dtype.kind in "cmMV":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}.")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must hold real numbers: {error}") from error
