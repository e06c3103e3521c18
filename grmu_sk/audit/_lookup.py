"""Look up many short byte patterns at every position of a buffer at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_TABLE_BITS = 20
_MIXER = {8: 0x9E3779B97F4A7C15, 4: 0x9E3779B1}


class Lookup:
    """A set of windows of 4 or 8 bytes, of which some bits count.

    Parameters
    ----------
    size : {4, 8}
        Bytes of a window.
    mask : int
        The bits that count, of the window read as a little-endian number.
    keys : ndarray of uint64 or uint32
        The windows to find.
    owners : ndarray of int64
        What each key belongs to; a key may have several.
    """

    def __init__(
        self, size: int, mask: int, keys: NDArray[np.unsignedinteger], owners: NDArray[np.int64]
    ) -> None:
        self.size = size
        self.dtype = np.dtype(f"<u{size}")
        self.mask = self.dtype.type(mask)
        masked = keys.astype(self.dtype) & self.mask
        order = np.argsort(masked, kind="stable")
        self.keys, self.owners = masked[order], owners[order]
        self.table = np.zeros(1 << _TABLE_BITS, dtype=bool)
        self.table[self._slots(self.keys)] = True

    def _slots(self, keys: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        mixed = keys * self.dtype.type(_MIXER[self.size])  # wraps around
        return mixed >> self.dtype.type(8 * self.size - _TABLE_BITS)

    def hits(
        self, buffer: NDArray[np.uint8], most: int = 1 << 16
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield positions and owners of what is found, some at a time.

        Parameters
        ----------
        buffer : ndarray of uint8
            Where to look; every byte may be the beginning of a window.
        most : int
            About how many to yield at once.
        """
        for phase in range(self.size):
            count = (len(buffer) - phase) // self.size
            if count <= 0:
                continue
            windows = np.frombuffer(buffer, self.dtype, count, phase) & self.mask
            likely = np.flatnonzero(self.table[self._slots(windows)])
            found = windows[likely]
            low = np.searchsorted(self.keys, found, "left")
            high = np.searchsorted(self.keys, found, "right")
            is_hit = high > low
            where = likely[is_hit] * self.size + phase
            yield from self._expanded(where, low[is_hit], high[is_hit], most)

    def _expanded(
        self, where: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64], most: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        ends = np.cumsum(high - low)
        start = 0
        while start < len(where):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + most, "right")))
            counts = (high - low)[start:stop]
            first = np.repeat(np.cumsum(counts) - counts, counts)
            owners = np.repeat(low[start:stop], counts) + np.arange(counts.sum()) - first
            yield np.repeat(where[start:stop], counts), self.owners[owners]
            start = stop
