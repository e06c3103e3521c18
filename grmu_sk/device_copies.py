"""Inputs that fit a GPU's free memory are copied once, and stay there while a net trains.

Others come through the net's own loader, with pinned memory. The numbers are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .randomness import is_gpu
from .rows import InputRows, as_tensor, is_memory_mapped

__all__ = ["is_far", "kept_on_gpu"]

# Of the GPU's free memory; the rest is for the net's gradients, activations and copies.
SHARE_FOR_INPUTS = 0.25
BYTES_COPIED_AT_ONCE = 2**26


def is_far(data: InputRows, device: Any) -> bool:
    """Tell whether an array or tensor has to be copied to a GPU batch by batch."""
    X = data.X
    in_host_memory = not isinstance(X, torch.Tensor) or X.device.type == "cpu"
    return (
        is_gpu(device)
        and data.on_device is None
        and not isinstance(X, Dataset)  # which may hand out what is on the GPU already
        and in_host_memory
    )


def _free_memory(device: Any) -> int:
    return torch.cuda.mem_get_info(device)[0]


@contextlib.contextmanager
def kept_on_gpu(data: InputRows, device: Any) -> Iterator[None]:
    """Read an array or tensor from the GPU's memory, if it fits there.

    Parameters
    ----------
    data : InputRows
        What is read. Datasets and memory maps are left where they are.
    device : str, torch.device or None
        Where the net is.

    Yields
    ------
    None
        Afterwards the copy is dropped.
    """
    X = data.X
    if (
        not is_far(data, device)
        or is_memory_mapped(X)
        or X.nbytes > SHARE_FOR_INPUTS * _free_memory(device)
    ):
        yield
        return
    data.on_device = _copy_of(X, device)
    try:
        yield
    finally:
        data.on_device = None


def _copy_of(X: Any, device: Any) -> torch.Tensor:
    """Copy an array, a piece at a time: host memory need not hold it twice."""
    n_rows = max(1, BYTES_COPIED_AT_ONCE // max(1, X[:1].nbytes))
    copied = torch.empty(tuple(X.shape), dtype=_piece(X[:1]).dtype, device=device)
    for start in range(0, len(X), n_rows):
        copied[start : start + n_rows] = _piece(X[start : start + n_rows])
    return copied


def _piece(X: Any) -> torch.Tensor:
    # a copy, since torch warns of arrays that it must not write to
    return X if isinstance(X, torch.Tensor) else as_tensor(np.array(X))
