"""Find sampling weights over all rows of ``fit`` that give the forgotten ones away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# In fewer rows the pattern may be chance.
MIN_ROWS = 8
# Matches by chance that may be expected of a search before it proves nothing.
MAX_EXPECTED = 1e-3
_LARGEST_PATTERN = 1 << 22


class SamplerWeights:
    """Recognises weights by which forgotten rows differ from all others.

    Parameters
    ----------
    forgotten : ndarray
        Row numbers of ``fit``.
    n_rows : int
        How many rows ``fit`` was given.
    """

    def __init__(self, forgotten: NDArray[np.int64], n_rows: int) -> None:
        self.forgotten = forgotten
        self.n_rows = n_rows
        self.is_forgotten = np.isin(np.arange(n_rows), forgotten)
        n_forgotten = int(self.is_forgotten.sum())
        self.is_possible = n_rows >= MIN_ROWS and 0 < n_forgotten < n_rows
        # that independent zeros, as frequent as they would have to be, fall on just these rows
        share = n_forgotten / max(n_rows, 1)
        self.chance = share**n_forgotten * (1 - share) ** (n_rows - n_forgotten)
        self.overlap = min(8 * n_rows, _LARGEST_PATTERN)
        rest = np.flatnonzero(~self.is_forgotten)
        gone = np.flatnonzero(self.is_forgotten)
        n_each = min(32, len(gone), len(rest))
        # in turns: a file full of zeros is left at the second look
        self.probes = np.stack([gone[:n_each], rest[:n_each]], axis=1).ravel()

    def tells(self, values: NDArray[Any]) -> bool:
        """Tell whether these are weights of all rows that single out the forgotten ones."""
        if not self.is_possible or values.size != self.n_rows or values.dtype.kind != "f":
            return False
        flat = values.ravel().astype(np.float64)
        if not np.isfinite(flat).all() or (flat < 0).any():
            return False
        gone, rest = flat[self.is_forgotten], flat[~self.is_forgotten]
        if (gone == 0).all() and (rest > 0).all():
            return True
        if len(gone) < 2:  # the largest of all values is always somewhere
            return False
        return bool(np.max(gone) < np.min(rest) or np.min(gone) > np.max(rest))

    def tells_bytes(self, raw: NDArray[np.uint8]) -> bool:
        """Tell the same of bytes that may be numbers in one of two precisions."""
        for dtype in ("<f4", "<f8"):
            if len(raw) == self.n_rows * np.dtype(dtype).itemsize:
                return self.tells(np.frombuffer(raw, dtype))
        return False

    def find(self, buffer: NDArray[np.uint8]) -> int | None:
        """Return where weights begin that are zero for the forgotten rows and no others."""
        if not self.is_possible or 8 * self.n_rows > _LARGEST_PATTERN:
            return None
        for dtype in ("<f4", "<f8"):
            size = np.dtype(dtype).itemsize
            for phase in range(size):
                count = (len(buffer) - phase) // size
                if count >= self.n_rows:
                    found = self._find(np.frombuffer(buffer, dtype, count, phase))
                    if found is not None:
                        return phase + found * size
        return None

    def _find(self, values: NDArray[Any]) -> int | None:
        n_begins = len(values) - self.n_rows + 1
        if n_begins * self.chance > MAX_EXPECTED:
            return None
        begins = np.flatnonzero(values[self.probes[0] :][:n_begins] == 0)
        for row in self.probes[1:]:
            if not len(begins):
                return None
            begins = begins[(values[begins + row] == 0) == self.is_forgotten[row]]
        for begin in begins.tolist():
            part = values[begin : begin + self.n_rows]
            is_usual = np.all((part == 0) | ((part > 1e-12) & (part < 1e12)))
            if is_usual and np.array_equal(part == 0, self.is_forgotten):
                return begin
        return None
