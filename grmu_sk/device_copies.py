"""Inputs from host memory on a GPU: all of them at once, or batch by batch ahead of their use.

Inputs that fit the GPU's free memory are copied once and stay while a net trains or unlearns. Of
others a thread fetches the next batches into pinned memory, from where the GPU copies them beside
its computations. The numbers are the same.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .rows import BYTES_AT_ONCE, InputRows, as_tensor, is_memory_mapped
from .utils._devices import is_gpu

__all__ = ["copied_ahead", "copies_pay", "kept_on_gpu", "to_gpu"]

# One batch is in use, one is ready, one is on its way.
N_AHEAD = 2
# Of the GPU's free memory; the rest is for the net's gradients, activations and copies.
SHARE_FOR_INPUTS = 0.25
BYTES_COPIED_AT_ONCE = 2**26

Fetched = tuple[Any, torch.Tensor, torch.Tensor]


def _is_in_host_memory(X: Any) -> bool:
    return not isinstance(X, Dataset) and (
        not isinstance(X, torch.Tensor) or X.device.type == "cpu"
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
        not is_gpu(device)
        or not _is_in_host_memory(X)
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


def copies_pay(data: InputRows, batch_size: int, device: Any) -> bool:
    """Tell whether batches should be copied ahead.

    They should if they lie in host memory, go to a GPU, and are not so small that handing them
    from thread to thread takes longer than copying them. A Dataset is left to the net's loader:
    its transforms may draw random numbers, which have to be drawn in the order of the steps.

    Parameters
    ----------
    data : InputRows
        What is read.
    batch_size : int
        Rows of a batch.
    device : str, torch.device or None
        Where the net is.

    Returns
    -------
    bool
    """
    return (
        is_gpu(device)
        and data.on_device is None
        and _is_in_host_memory(data.X)
        and data.bytes_of_batch(batch_size) >= BYTES_AT_ONCE
    )


def copied_ahead(
    batches: Iterator[Fetched], copy: Callable[[torch.Tensor], Callable[[], torch.Tensor]]
) -> Iterator[Fetched]:
    """Yield the batches, each copied while the caller works with those before.

    Parameters
    ----------
    batches : iterator of (X, y, positions)
        Is run in a thread, and must not draw random numbers.
    copy : callable
        Starts the copy of a tensor, and returns what waits for it.

    Yields
    ------
    tuple of (X, y, positions)
        X is the copy; nothing else is copied.
    """

    def fetch() -> tuple[Callable[[], torch.Tensor], torch.Tensor, torch.Tensor] | None:
        fetched = next(batches, None)
        return None if fetched is None else (copy(fetched[0]), *fetched[1:])

    with ThreadPoolExecutor(1, thread_name_prefix="grmu_sk-copies") as thread:
        pending = deque(thread.submit(fetch) for _ in range(N_AHEAD))
        while (fetched := pending.popleft().result()) is not None:
            pending.append(thread.submit(fetch))
            waited, y, positions = fetched
            yield waited(), y, positions


def to_gpu(device: Any) -> Callable[[torch.Tensor], Callable[[], torch.Tensor]]:
    """Return what starts copies to a GPU beside its other work.

    Parameters
    ----------
    device : str or torch.device
        The GPU.

    Returns
    -------
    callable
        From a tensor in host memory to a callable that lets the GPU's other work wait for the
        copy, and returns it.
    """
    copies = torch.cuda.Stream(device)

    def start(inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
        with torch.cuda.stream(copies):
            copied = inputs.pin_memory().to(device, non_blocking=True)
            is_copied = copies.record_event()

        def wait() -> torch.Tensor:
            computing = torch.cuda.current_stream(device)
            computing.wait_event(is_copied)
            copied.record_stream(computing)  # or its memory could be used again too early
            return copied

        return wait

    return start
