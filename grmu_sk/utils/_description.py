"""Parameters as JSON that is the same in every process, so that two runs can be compared by it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch

from ._digest import content

__all__ = ["describe", "nothing_more"]


def nothing_more(value: Any) -> dict[str, Any]:
    """Leave it at an object's class."""
    return {}


def describe(
    value: Any,
    of_object: Callable[[Any], Mapping[str, Any]] = nothing_more,
    *,
    exact: bool = False,
) -> Any:
    """Describe a parameter by what it does, never by where in memory it lies.

    Parameters
    ----------
    value : object
        Numbers, text, collections, classes, functions, arrays, estimators, or other objects.
    of_object : callable, default=nothing_more
        What to say of an object without ``get_params``, beside its class: names and values, which
        are described in turn.
    exact : bool, default=False
        Whether to tell more apart than another file of settings would: kinds of collections and
        keys, where files lie, and what is in classes and functions, as far as their source is to
        be had.

    Returns
    -------
    object
        What JSON can hold.
    """
    again = partial(describe, of_object=of_object, exact=exact)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return again(value.item())
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Path):
        return {"path": str(value)} if exact else value.name
    if isinstance(value, torch.device | torch.dtype | np.dtype):
        return str(value)
    if isinstance(value, np.ndarray | torch.Tensor):
        return _of_array(value, again)
    if isinstance(value, Mapping):
        if exact:
            return {"mapping": [[again(name), again(entry)] for name, entry in value.items()]}
        return {str(name): again(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | range | set | frozenset):
        entries = [again(entry) for entry in value]
        if isinstance(value, set | frozenset):  # whose order differs from process to process
            entries.sort(key=repr)
        return {type(value).__name__: entries} if exact and type(value) is not list else entries
    if isinstance(value, partial):
        parts = {"partial": value.func, "args": value.args, "keywords": value.keywords}
        return {name: again(part) for name, part in parts.items()}
    if hasattr(value, "__qualname__"):
        name = f"{value.__module__}.{value.__qualname__}"
        if not exact:
            return name
        # what a method does depends on whose it is
        owner = [again(value.__self__)] if isinstance(value, MethodType) else []
        return [{name: _source(value)}, *owner]
    has_parameters = hasattr(value, "get_params")
    own = value.get_params(deep=False) if has_parameters else of_object(value)
    return {"class": again(type(value)), **{name: again(entry) for name, entry in own.items()}}


def _of_array(value: Any, again: Callable[[Any], Any]) -> Any:
    if isinstance(value, torch.Tensor):  # of any type, also one that NumPy does not have
        return hashlib.sha256(content(value)).hexdigest()
    if value.dtype == object:
        return again(value.tolist())
    array = np.ascontiguousarray(value)
    return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]


def _source(value: Any) -> str:
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):  # built in, or typed at a prompt
        return ""
    return hashlib.sha256(source.encode()).hexdigest()
