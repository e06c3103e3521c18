"""How a number may be written in memory or in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

WINDOW = 8  # bytes that are looked up at once
WORD = 4


@dataclass(frozen=True)
class Encoding:
    """A number format.

    Attributes
    ----------
    name : str
        What findings call it.
    dtype : str
        NumPy's code; ``"bf16"`` for bfloat16, which NumPy does not have.
    dropped_bits : int
        Low bits of a value that the look-up ignores: arithmetic in another order or precision
        changes them.
    slack : int
        How far a value may be off, in units of its last bit.
    rtol : float
        Relative tolerance of the comparison that decides.
    bits : float
        Most that one value tells.
    """

    name: str
    dtype: str
    dropped_bits: int
    slack: int
    rtol: float
    bits: float

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return 2 if self.dtype == "bf16" else np.dtype(self.dtype).itemsize

    @property
    def is_integer(self) -> bool:
        """Whether only whole numbers can be written in it."""
        return self.dtype != "bf16" and np.dtype(self.dtype).kind in "iu"

    @property
    def is_big_endian(self) -> bool:
        """Whether the highest byte comes first."""
        return self.dtype.startswith(">")

    def mask(self, n_bytes: int) -> int:
        """Return the bits of a window that the look-up compares."""
        size = self.itemsize
        word = (1 << 8 * size) - (1 << self.dropped_bits)
        order: Literal["little", "big"] = "big" if self.is_big_endian else "little"
        return int.from_bytes(word.to_bytes(size, order) * (n_bytes // size), "little")

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the bytes of rows of values, shape (n_rows, n_values * itemsize)."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.dtype == "bf16":
                tensor = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
                words = tensor.view(torch.int16).numpy()
            else:
                words = values.astype(self.dtype)
        return np.ascontiguousarray(words).view(np.uint8).reshape(len(values), -1)

    def shifted(self, encoded: NDArray[np.uint8], units: int) -> NDArray[np.uint8]:
        """Return the same values, each moved by some units of its last bit."""
        order = ">" if self.is_big_endian else "<"
        words = np.ascontiguousarray(encoded).view(f"{order}u{self.itemsize}")
        moved = words + np.array(units % (1 << 8 * self.itemsize), dtype=words.dtype)
        return moved.astype(words.dtype).view(np.uint8).reshape(encoded.shape)

    def decode(self, encoded: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the values of rows of bytes."""
        encoded = np.ascontiguousarray(encoded)
        if self.dtype == "bf16":
            words = encoded.view("<u2").astype(np.uint32) << 16
            return words.view(np.float32).astype(np.float64)
        return encoded.view(self.dtype).astype(np.float64)

    def holds(self, values: NDArray[np.float64]) -> bool:
        """Tell whether these whole numbers fit."""
        limits = np.iinfo(self.dtype)
        return bool(np.min(values) >= limits.min and np.max(values) <= limits.max)


FLOAT32 = Encoding("float32", "<f4", 6, 8, 1e-5, 20)
# a float64 may be a float32 that was widened: half of its bits are then zero
FLOAT64 = Encoding("float64", "<f8", 32, 1 << 31, 1e-5, 20)
FLOAT64_BIG = Encoding("big-endian float64", ">f8", 32, 1 << 31, 1e-5, 20)
FLOAT_ENCODINGS = (
    FLOAT32,
    FLOAT64,
    Encoding("big-endian float32", ">f4", 6, 8, 1e-5, 20),
    FLOAT64_BIG,
    Encoding("float16", "<f2", 0, 0, 2e-3, 11),
    Encoding("bfloat16", "bf16", 0, 0, 1.6e-2, 10),
)
INTEGER_ENCODINGS = tuple(
    Encoding(np.dtype(code).name, code, 0, 0, 0.0, 20)
    for code in ("u1", "i1", "<i2", "<u2", "<i4", "<i8")
)
#: In which values are also found when they lie apart, as those of a table stored by column do.
STRIDED_ENCODINGS = (FLOAT32, FLOAT64, FLOAT64_BIG)
