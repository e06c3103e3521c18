"""Find exact copies: original weights, and rows that are text or bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ._lookup import Lookup

SEGMENT = 64
# A large tensor is known by so many pieces, spread over it.
MOST_SEGMENTS = 8
# Two different trainings may round to the same few numbers in half precision.
MIN_VALUES_HALF = 64
_WINDOW = 8


@dataclass(frozen=True)
class Copy:
    """Bytes whose presence means that there is a copy of something.

    Attributes
    ----------
    name : str or int
        Of the tensor, or the number of the row.
    encoding : str
        What findings call the encoding.
    content : bytes
        The bytes.
    """

    name: Any
    encoding: str
    content: bytes


@dataclass
class _Seen:
    """Which pieces of each copy were seen in a place, by where the copy would begin."""

    pieces: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))


class CopySearch:
    """Finds copies, in pieces, so that a copy may be larger than what is read at once.

    Parameters
    ----------
    copies : list of Copy
        What to find.
    """

    def __init__(self, copies: list[Copy]) -> None:
        self.copies = copies
        self.segments: list[tuple[int, int, bytes]] = []
        self.n_segments = []
        keys, owners = [], []
        for number, copy in enumerate(copies):
            starts = _segment_starts(copy.content)
            self.n_segments.append(len(starts))
            for start in starts:
                piece = copy.content[start : start + SEGMENT]
                anchor = _most_varied_window(piece)
                keys.append(int.from_bytes(piece[anchor : anchor + _WINDOW], "little"))
                owners.append(len(self.segments))
                self.segments.append((number, start, piece))
                self.anchors = getattr(self, "anchors", [])
                self.anchors.append(anchor)
        self.lookup = None
        if keys:
            every_bit = (1 << 8 * _WINDOW) - 1
            self.lookup = Lookup(
                _WINDOW, every_bit, np.array(keys, dtype=np.uint64), np.array(owners)
            )
        self.overlap = SEGMENT - 1

    def new_place(self) -> _Seen:
        """Return what :meth:`find` keeps while it reads one place."""
        return _Seen()

    def find(
        self, buffer: NDArray[np.uint8], offset: int, seen: _Seen
    ) -> Iterator[tuple[Copy, int]]:
        """Yield each copy of which all pieces have been seen, and where it begins.

        Parameters
        ----------
        buffer : ndarray of uint8
            A part of the place.
        offset : int
            Where in the place it begins.
        seen : object
            From :meth:`new_place`.
        """
        if self.lookup is None:
            return
        for where, owner in self.lookup.hits(buffer):
            for position, segment in zip(where.tolist(), owner.tolist(), strict=True):
                number, start, piece = self.segments[segment]
                begin = position - self.anchors[segment]
                if begin < 0 or buffer[begin : begin + len(piece)].tobytes() != piece:
                    continue
                origin = offset + begin - start
                pieces = seen.pieces[number, origin]
                if start in pieces:
                    continue
                pieces.add(start)
                if len(pieces) == self.n_segments[number]:
                    yield self.copies[number], origin


def _segment_starts(content: bytes) -> list[int]:
    last = len(content) - SEGMENT
    if last <= 0:
        return [0]
    if last < SEGMENT * (MOST_SEGMENTS - 1):
        return sorted({*range(0, last, SEGMENT), last})
    return sorted({int(start) // 8 * 8 for start in np.linspace(0, last, MOST_SEGMENTS)})


def _most_varied_window(piece: bytes) -> int:
    starts = range(max(1, len(piece) - _WINDOW + 1))
    return max(starts, key=lambda start: len(set(piece[start : start + _WINDOW])))


def weight_copies(weights: Mapping[str, NDArray[Any]]) -> list[Copy]:
    """Return the ways in which weights may be stored.

    Parameters
    ----------
    weights : mapping of str to ndarray
        The weights, by name. Whole numbers and tensors of a few equal values are left out: other
        nets have them too.

    Returns
    -------
    list of Copy
        Copies as they are, byte-reversed, transposed, and in other precisions.
    """
    copies = []
    for name, values in weights.items():
        if values.dtype.kind != "f" or len(np.unique(values)) < 4:
            continue
        with np.errstate(over="ignore"):
            forms = {
                values.dtype.name: values,
                f"big-endian {values.dtype.name}": values.astype(values.dtype.newbyteorder(">")),
                "float64": values.astype(np.float64),
                "float32": values.astype(np.float32),
            }
            if values.size >= MIN_VALUES_HALF:
                forms["float16"] = values.astype(np.float16)
                forms["bfloat16"] = _as_bfloat16(values)
        for encoding, form in list(forms.items()):
            if values.ndim > 1 and min(values.shape) > 1:
                forms[f"{encoding}, axes reversed"] = form.T
        for encoding, form in forms.items():
            content = np.ascontiguousarray(form).tobytes()
            if len(content) >= 2 * _WINDOW:
                copies.append(Copy(name, encoding, content))
    return copies


def _as_bfloat16(values: NDArray[Any]) -> NDArray[np.int16]:
    tensor = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    return tensor.view(torch.int16).numpy()
