"""Parameters as JSON that is the same in every process, so that two runs can be compared by it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["describe", "nothing_more"]


def nothing_more(value: Any) -> dict[str, Any]:
    """Leave it at an object's class."""
    return {}


def describe(
    value: Any,
    of_object: Callable[[Any], Mapping[str, Any]] = nothing_more,
    *,
    with_source: bool = False,
) -> Any:
    """Describe a parameter by what it does, never by where in memory it lies.

    Parameters
    ----------
    value : object
        Numbers, text, collections, classes, functions, arrays, estimators, or other objects.
    of_object : callable, default=nothing_more
        What to say of an object without ``get_params``, beside its class: names and values, which
        are described in turn.
    with_source : bool, default=False
        Whether classes and functions come with a digest of their source, if it is to be had.

    Returns
    -------
    object
        What JSON can hold.
    """
    again = partial(describe, of_object=of_object, with_source=with_source)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return again(value.item())
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Path):
        return value.name
    if isinstance(value, torch.device | torch.dtype | np.dtype):
        return str(value)
    if isinstance(value, np.ndarray | torch.Tensor):
        return _of_array(value, again)
    if isinstance(value, Mapping):
        return {str(name): again(entry) for name, entry in value.items()}
    if isinstance(value, set | frozenset):  # whose order differs from process to process
        return sorted((again(entry) for entry in value), key=repr)
    if isinstance(value, list | tuple | range):
        return [again(entry) for entry in value]
    if isinstance(value, partial):
        parts = {"partial": value.func, "args": value.args, "keywords": value.keywords}
        return {name: again(part) for name, part in parts.items()}
    if hasattr(value, "__qualname__"):
        name = f"{value.__module__}.{value.__qualname__}"
        return {name: _source(value)} if with_source else name
    has_parameters = hasattr(value, "get_params")
    own = value.get_params(deep=False) if has_parameters else of_object(value)
    return {"class": again(type(value)), **again(own)}


def _of_array(value: Any, again: Callable[[Any], Any]) -> Any:
    array = value.detach().cpu() if isinstance(value, torch.Tensor) else value
    if array.dtype == object:
        return again(array.tolist())
    array = np.ascontiguousarray(array)
    return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]


def _source(value: Any) -> str:
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):  # built in, or typed at a prompt
        return ""
    return hashlib.sha256(source.encode()).hexdigest()
