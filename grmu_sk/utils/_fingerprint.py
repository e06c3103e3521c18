"""What a run of training depends on, in a form that two runs can be compared by."""

from __future__ import annotations

import hashlib
import inspect
import platform
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from ..rows import TrainingRows
from ._digest import add, add_weights, content

__all__ = ["described", "net_parameters", "rows_digest", "versions", "weights_digest"]

#: Rows of inputs that are read, evenly spaced, where reading all of them would take long.
N_SAMPLED = 256
PACKAGES = ("grmu_sk", "torch", "skorch", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of all that decides about a bit of the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def weights_digest(net: NeuralNet) -> str:
    """Return the digest of an initialised net's weights."""
    digest = hashlib.sha256()
    add_weights(digest, net)
    return digest.hexdigest()


def net_parameters(net: NeuralNet) -> dict[str, Any]:
    """Return a net's parameters as JSON, without those that only print."""
    parameters = net.get_params(deep=False)
    parameters.pop("verbose", None)
    return {name: described(value) for name, value in parameters.items()}


def described(value: Any) -> Any:
    """Return JSON that is the same in every process, for values that are.

    Classes and functions are described by name, objects by class and parameters: a name of a place
    in memory, as ``repr`` has it, would differ each time.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [described(part) for part in value]
    if isinstance(value, set | frozenset):  # whose order differs from process to process
        return sorted((described(part) for part in value), key=repr)
    if isinstance(value, dict):
        return {str(key): described(part) for key, part in value.items()}
    if isinstance(value, torch.device | torch.dtype | np.dtype):
        return str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
        return described(value.tolist())
    if isinstance(value, np.ndarray | torch.Tensor):
        return hashlib.sha256(content(torch.as_tensor(value))).hexdigest()
    if isinstance(value, partial):
        return [described(value.func), described(value.args), described(value.keywords)]
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    parameters = value.get_params(deep=False) if hasattr(value, "get_params") else {}
    return [f"{type(value).__module__}.{type(value).__qualname__}", described(parameters)]


def rows_digest(data: TrainingRows) -> str:
    """Return the digest of training rows.

    Inputs in memory are read as a whole. Of those that are read on demand a sample is; of a Dataset
    that may return the same row differently each time, none.
    """
    digest = hashlib.sha256()
    add(digest, "rows", np.asarray(data.rows, dtype="<i8").tobytes())
    for name in ("y", "g", "sample_weight"):
        add(digest, name, content(getattr(data, name)))
    add(digest, "inputs", f"{data.dtype} {data.is_lazy} {data.is_augmented}".encode())
    if not data.is_augmented:
        for where in _read(data):
            inputs = data.fetch(where if data.source is None else data.source[where])
            parts = inputs if isinstance(inputs, dict) else {"": inputs}
            for name, part in parts.items():
                add(digest, name, content(part))
    return digest.hexdigest()


def _read(data: TrainingRows) -> tuple[torch.Tensor, ...]:
    """Return the positions of the rows that are read, in portions."""
    if not data.is_lazy:
        return torch.arange(len(data)).split(N_SAMPLED)
    spaced = torch.linspace(0, len(data) - 1, min(N_SAMPLED, len(data)), dtype=torch.float64)
    return spaced.round().long().split(N_SAMPLED)
