"""The state of training as JSON and tensors: nested containers of numbers, text and arrays.

Reading one builds nothing but these, so that no code can come from a file.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["NotPlainError", "decode", "encode", "is_plain"]


class NotPlainError(TypeError):
    """A value is neither a number, text, an array nor a container of these."""


def encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a value as JSON; what :func:`decode` makes of it is the same to the last bit.

    Parameters
    ----------
    value : object
        None, numbers, text, tensors, NumPy's scalars and arrays, and lists, tuples, sets and
        dictionaries of these.
    tensors : dict
        Gets a copy of each tensor and array, on the CPU, by the name that the JSON has for it.

    Returns
    -------
    object
        What ``json.dumps`` takes.

    Raises
    ------
    NotPlainError
        If there is anything else in it.
    """
    if type(value) is list:
        return [encode(item, tensors) for item in value]
    if isinstance(value, dict) and type(value) in _DICTS.values():
        kind = next(kind for kind, cls in _DICTS.items() if cls is type(value))
        return {kind: [[encode(k, tensors), encode(v, tensors)] for k, v in value.items()]}
    if type(value) in (tuple, torch.Size):
        return {"tuple": [encode(item, tensors) for item in value]}
    if type(value) is set:
        return {"set": [encode(item, tensors) for item in sorted(value, key=repr)]}
    if not _is_leaf(value):
        raise NotPlainError(f"a {type(value).__name__}")
    if isinstance(value, torch.Tensor):
        return {"tensor": _encode_tensor(value.detach(), tensors)}
    if isinstance(value, np.ndarray | np.generic):
        return {"array": _encode_array(value, tensors)}
    return value


def is_plain(value: Any) -> bool:
    """Tell whether :func:`encode` takes a value; nothing is copied."""
    if isinstance(value, dict) and type(value) in _DICTS.values():
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple, set, torch.Size):
        return all(is_plain(item) for item in value)
    return _is_leaf(value)


def _is_leaf(value: Any) -> bool:
    if value is None or type(value) in (bool, int, float, str):
        return True
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcUS"
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


def decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return what :func:`encode` was given.

    Parameters
    ----------
    value : object
        What it returned.
    tensors : dict
        What it filled.

    Returns
    -------
    object
        The value; tensors are on the devices they were on.
    """
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind in _DICTS:
        return _DICTS[kind]({decode(k, tensors): decode(v, tensors) for k, v in inner})
    return _DECODERS[kind](inner, tensors)


_DICTS: dict[str, Any] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}


def _encode_tensor(value: torch.Tensor, tensors: dict[str, torch.Tensor]) -> list[Any]:
    name = f"{len(tensors)}"
    # a copy of its own, since safetensors takes neither views nor shared memory
    tensors[name] = value.cpu().clone(memory_format=torch.contiguous_format)
    # an order of memory of its own (channels last) is a matter of speed, not of values
    stride = None if value.is_contiguous() else list(value.stride())
    return [name, str(value.device), stride]


def _decode_tensor(inner: Any, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    name, device, stride = inner
    value = tensors.pop(name).to(device)  # each is named once, so that copies cannot multiply
    if stride is None or 0 in stride:
        return value.clone()
    reach = sum((size - 1) * step for size, step in zip(value.shape, stride, strict=True))
    if reach >= 64 * value.numel():  # gaps, which a forged file could fill the memory with
        return value.clone()
    return torch.empty_strided(value.shape, stride, dtype=value.dtype, device=value.device).copy_(
        value
    )


def _encode_array(
    value: np.ndarray[Any, Any] | np.generic, tensors: dict[str, torch.Tensor]
) -> list[Any]:
    name = f"{len(tensors)}"
    raw = bytearray(np.ascontiguousarray(value).tobytes())
    tensors[name] = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0)
    shape = list(value.shape) if isinstance(value, np.ndarray) else None
    return [name, value.dtype.str, shape]


def _decode_array(inner: Any, tensors: dict[str, torch.Tensor]) -> Any:
    name, dtype, shape = inner
    if np.dtype(dtype).kind not in "biufcUS":
        raise ValueError(f"values of type {dtype!r} are not expected here")
    array = np.frombuffer(tensors.pop(name).numpy().tobytes(), dtype=dtype)
    return array[0] if shape is None else array.reshape(shape).copy()


_DECODERS: dict[str, Callable[[Any, dict[str, torch.Tensor]], Any]] = {
    "tuple": lambda inner, tensors: tuple(decode(item, tensors) for item in inner),
    "set": lambda inner, tensors: {decode(item, tensors) for item in inner},
    "tensor": _decode_tensor,
    "array": _decode_array,
}
