"""A text that says how a net is trained, the same in every process, to recognise it again."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import types
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from ..utils._digest import add, add_weights, content

__all__ = ["describe", "net_digest"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device, np.generic)


def net_digest(net: NeuralNet) -> str:
    """Return SHA-256 of an initialised net's parameters, code and weights.

    Parameters
    ----------
    net : NeuralNet
        Initialised.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        If a parameter looks different in every process, such as an object without a repr.
    """
    digest = hashlib.sha256()
    add(digest, "class", describe(type(net)).encode())
    for name, value in sorted(net.get_params(deep=False).items()):
        try:
            add(digest, name, describe(value).encode())
        except ValueError as error:
            raise ValueError(
                f"The net's parameter {name} cannot be told from another one in the next process "
                f"({error}), so that a cache might hold answers of other nets. Leave cache out, or "
                "give that object a __repr__ that says what it does."
            ) from error
    add_weights(digest, net)
    return digest.hexdigest()


def describe(value: Any) -> str:
    """Describe a parameter by what it does, never by where in memory it lies.

    Parameters
    ----------
    value : object
        The parameter.

    Returns
    -------
    str
        The description; classes and functions come with their source, if it is to be had.

    Raises
    ------
    ValueError
        If nothing about the object stays the same in another process.
    """
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, dict):
        parts = [f"{describe(key)}: {describe(part)}" for key, part in value.items()]
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(describe(part) for part in value)})"
    if isinstance(value, np.ndarray | torch.Tensor):
        return hashlib.sha256(content(torch.as_tensor(value))).hexdigest()
    if isinstance(value, functools.partial):
        return (
            f"partial({describe(value.func)}, {describe(value.args)}, {describe(value.keywords)})"
        )
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__} {_source(value)}"
    if hasattr(value, "get_params"):
        return describe(type(value)) + describe(value.get_params(deep=False))
    text = repr(value)
    if _ADDRESS.search(text):
        raise ValueError(f"all that is known of it is {text}")
    return f"{type(value).__module__}.{type(value).__qualname__} {text}"


def _source(value: Any) -> str:
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):  # built in, or typed at a prompt
        return ""
    return hashlib.sha256(source.encode()).hexdigest()
