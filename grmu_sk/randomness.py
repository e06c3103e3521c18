"""Randomness that is fixed by a seed and leaves the caller's generators alone.

What draws numbers is one for the whole process: modules, transforms and dropout take them from the
global generators. So one thread at a time may seed them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

RandomState = int | np.random.RandomState | None

_ONE_THREAD = threading.RLock()
# torch.multinomial refuses more categories.
MOST_CATEGORIES = 2**24


def resolve_seed(random_state: RandomState) -> int:
    """Turn ``random_state`` into one integer seed.

    None means fresh entropy from the operating system: NumPy's global generator, which belongs to
    the caller, is neither read nor advanced.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def derive_seed(seed: int, *path: int) -> int:
    """Return a seed for one step of the work, independent of the seeds of the other steps."""
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1)[0])


@contextmanager
def isolated_rng(seed: int, device: object = "cpu") -> Iterator[None]:
    """Seed Python, NumPy and torch inside the block and restore the caller's state after it.

    Other threads wait until the block has ended.
    """
    with _ONE_THREAD:
        states = random_states(device)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (for augmentations that use the global generator)
        try:
            yield
        finally:
            set_random_states(states)


def draw_by_weight(weights: torch.Tensor, n_draws: int) -> torch.Tensor:
    """Draw positions with replacement, with torch's generator, from any number of weights."""
    if len(weights) <= MOST_CATEGORIES:
        return torch.multinomial(weights, n_draws, replacement=True)
    ends = weights.double().cumsum(0)
    points = torch.rand(n_draws, dtype=torch.double) * ends[-1]
    return torch.searchsorted(ends, points, right=True)  # past every weight of zero


def random_states(device: object = "cpu") -> dict[str, Any]:
    """Return the states of the generators of Python, NumPy and torch, see :func:`isolated_rng`."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "gpus": torch.cuda.get_rng_state_all() if is_gpu(device) else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what :func:`random_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state_all(states["gpus"])


def is_gpu(device: Any) -> bool:
    """Tell whether a device, or None for none in particular, is a GPU of CUDA's kind."""
    return device is not None and torch.device(device).type == "cuda"
