"""What a run of training depends on, in a form that two runs can be compared by."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from ..rows import TrainingRows, map_tensors
from ._description import describe
from ._digest import add, add_weights, content

__all__ = ["net_parameters", "rows_digest", "versions", "weights_digest"]

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
    return {name: describe(value) for name, value in parameters.items()}


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
            map_tensors(lambda part: add(digest, "", content(part)), inputs)
    return digest.hexdigest()


def _read(data: TrainingRows) -> tuple[torch.Tensor, ...]:
    """Return the positions of the rows that are read, in portions."""
    if not data.is_lazy:
        return torch.arange(len(data)).split(N_SAMPLED)
    spaced = torch.linspace(0, len(data) - 1, min(N_SAMPLED, len(data)), dtype=torch.float64)
    return spaced.round().long().split(N_SAMPLED)
