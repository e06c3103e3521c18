"""Some rows of an array that lives in a file, read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset


class LazyRows(Dataset):
    """A Dataset of some rows of a memory map.

    Parameters
    ----------
    X : memory map of length n_rows
        The array; never copied as a whole.
    rows : ndarray of shape (n_samples,)
        Positions in X.
    """

    def __init__(self, X: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self.X = X
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> NDArray[Any]:
        return np.array(self.X[self.rows[i]])

    def __getitems__(self, positions: Sequence[int]) -> list[NDArray[Any]]:
        # one read a batch; a copy, since torch warns of arrays that cannot be written to
        return list(np.array(self.X[self.rows[list(positions)]]))
