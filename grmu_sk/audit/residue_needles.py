"""What a residue scan looks for: rows and weights as bytes, wherever in a buffer they may begin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..validation import to_numbers

#: Below so many bits of information a match may be chance.
MIN_BITS = 40.0
BY_COLUMN, SCALED = ", by column", ", scaled or shifted"
# Rows are known by so many of their values, weights by so many stretches of so many values.
_ROW_VALUES, _N_STRETCHES, _STRETCH = 256, 8, 16
_WINDOW = 8  # bytes that are looked up at once
_NUMBER_BITS = 20.0
_FEW_VALUES = 64  # two trainings may round to the same few numbers in half precision
# Values that are equal in many rows are met everywhere: so many pairs of places are tried a row.
_MOST_PAIRS = 1 << 20
_RATIO_GRID = 512
_AT_ONCE = 1 << 15  # windows: what a processor's cache holds


class Encoding(NamedTuple):
    """How a number is written; the last bits of a value that was computed may be others."""

    name: str
    dtype: str
    dropped_bits: int = 0
    rtol: float = 0.0
    bits: float = _NUMBER_BITS

    @property
    def size(self) -> int:
        """Bytes of a value."""
        return 2 if self.dtype == "bf16" else np.dtype(self.dtype).itemsize

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the bytes of each row of values."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.dtype == "bf16":
                tensor = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
                words = tensor.view(torch.int16).numpy()
            else:
                words = values.astype(self.dtype)
        return np.ascontiguousarray(words).view(np.uint8).reshape(len(values), -1)

    def decode(self, encoded: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the values of each row of bytes."""
        encoded = np.ascontiguousarray(encoded)
        if self.dtype == "bf16":
            words = encoded.view("<u2").astype(np.uint32) << 16
            return words.view(np.float32).astype(np.float64)
        return encoded.view(self.dtype).astype(np.float64)

    def mask(self, width: int) -> int:
        """Return the bits of a window that the look-up compares."""
        word = (1 << 8 * self.size) - (1 << self.dropped_bits)
        order: Any = "big" if self.dtype.startswith(">") else "little"
        return int.from_bytes(word.to_bytes(self.size, order) * (width // self.size), "little")

    def keys(self, encoded: NDArray[np.uint8]) -> Iterator[NDArray[np.uint64]]:
        """Yield the look-up's keys of windows, each value rounded either way."""
        width, words, offsets = encoded.shape[1], encoded, [np.zeros(1, np.uint8)]
        if self.dropped_bits:
            words = np.ascontiguousarray(encoded).view(f"{self.dtype[0]}u{self.size}")
            half, whole = 1 << self.dropped_bits - 1, 1 << 8 * self.size
            ways = product((whole - half, half), repeat=words.shape[1])
            offsets = [np.array(way, dtype=words.dtype) for way in ways]
        for offset in offsets:  # sums wrap around
            moved = np.ascontiguousarray((words + offset).astype(words.dtype))
            windows = moved.view(f"<u{width}").ravel().astype(np.uint64)
            yield windows & np.uint64(self.mask(width))


# a float64 may be a float32 that was widened: half of its bits are then zero
_TABLE_FLOATS = (
    Encoding("float32", "<f4", 6, 1e-5),
    Encoding("float64", "<f8", 32, 1e-5),
    Encoding("big-endian float64", ">f8", 32, 1e-5),
)
_FLOATS = (
    *_TABLE_FLOATS,
    Encoding("big-endian float32", ">f4", 6, 1e-5),
    Encoding("float16", "<f2", rtol=2e-3, bits=11),
    Encoding("bfloat16", "bf16", rtol=1.6e-2, bits=10),
)
_BYTES = Encoding("uint8", "u1")


def _encodings(values: NDArray[np.float64]) -> Iterator[Encoding]:
    """Yield the ways in which values may be written."""
    yield from _FLOATS
    small = ("u1", "<u2") if np.min(values) >= 0 else ("i1", "<i2")
    for code in (*small, "<i4", "<i8"):
        limits = np.iinfo(code)
        is_within = limits.min <= np.min(values) and np.max(values) <= limits.max
        if is_within and np.array_equal(values, np.rint(values)):
            yield Encoding(np.dtype(code).name, code)


@dataclass(frozen=True, eq=False)
class Needle:
    """Stretches of rows or weights, written in one way.

    Attributes
    ----------
    kind, name : str
        What findings call what it is, and how it is written.
    encoding : Encoding
        The same for the machine.
    values : ndarray of shape (n_stretches, n_values)
        The numbers.
    owners : list
        The row or the tensor that each stretch is of.
    starts : ndarray of shape (n_stretches,)
        Where in a copy each stretch begins, in bytes.
    n_parts : int
        How many stretches make a copy, all of them scaled and shifted alike.
    is_table : bool
        Whether to look for the values a constant distance apart, too.
    """

    kind: str
    name: str
    encoding: Encoding
    values: NDArray[np.float64]
    owners: Sequence[Any]
    starts: NDArray[np.int64]
    n_parts: int = 1
    is_table: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes of a stretch."""
        return self.values.shape[1] * self.encoding.size

    def is_copy(self, parts: Mapping[int, tuple[float, float]]) -> bool:
        """Tell whether all stretches are there, and all scaled and shifted alike."""
        scale, shift = np.ptp(list(parts.values()), axis=0)
        size = np.abs(next(iter(parts.values()))) @ (self.values.std(), 1)
        return len(parts) == self.n_parts and bool(scale * self.values.std() + shift <= 1e-3 * size)

    def equals(self, found: NDArray[np.uint8], stretches: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which rows of bytes are these stretches."""
        values, wanted = self.encoding.decode(found), self.values[stretches]
        with np.errstate(invalid="ignore", over="ignore"):
            same = (values == wanted) | (np.isnan(values) & np.isnan(wanted))
            # a normalised value near zero is the difference of two larger ones
            scale = np.nanmax(np.abs(wanted), axis=1, keepdims=True, initial=0)
            near = np.abs(values - wanted) <= self.encoding.rtol * (np.abs(wanted) + 0.1 * scale)
        return (same | near).all(axis=1)


def information(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many bits each value tells: little where it is small, whole or repeated."""
    with np.errstate(invalid="ignore", over="ignore"):
        is_whole = (values == np.rint(values)) & (np.abs(values) < 2**31)
        size = np.log2(1 + np.where(is_whole, np.abs(values), 0))
    bits = np.where(is_whole, np.minimum(size, _NUMBER_BITS), _NUMBER_BITS)
    bits[:, 1:][values[:, 1:] == values[:, :-1]] = 0
    bits[~np.isfinite(values)] = 0
    return bits


def row_needles(
    rows: NDArray[Any], numbers: Sequence[int], mean: Any = None, std: Any = None
) -> list[Needle]:
    """Return rows of numbers in all forms in which they may be stored.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, ...)
        The rows.
    numbers : sequence of int
        What to call them.
    mean, std : array-like or None, default=None
        What a pipeline subtracts and divides by; broadcast against one row.

    Returns
    -------
    list of Needle
        Without rows that tell too little in that form.

    Raises
    ------
    ValueError
        If ``mean`` or ``std`` does not fit a row.
    """
    needles = []
    for form, values, is_first in _forms(rows, mean, std):
        for encoding in _encodings(values):
            bits = np.minimum(information(values), encoding.bits).sum(axis=1)
            told = np.flatnonzero(bits >= MIN_BITS)
            if len(told) and values.shape[1] * encoding.size >= _WINDOW:
                name, owners = (
                    f"{form} {encoding.name}".strip(),
                    [numbers[int(row)] for row in told],
                )
                starts, is_table = np.zeros(len(told), np.int64), encoding in _TABLE_FLOATS
                of_rows = (values[told], owners, starts, 1, is_first and is_table)
                needles.append(Needle("forgotten row", name, encoding, *of_rows))
    return needles


def _forms(rows: NDArray[Any], mean: Any, std: Any) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """Yield name and values of each form, cut to what tells most, and if axes are as given."""
    values = rows.astype(np.float64)
    valued, levels = {"": values}, np.rint(values * 255)
    is_whole = np.max(values) > 1 and np.array_equal(values, np.rint(values))
    if is_whole and np.min(values) >= 0 and np.max(values) <= 255:
        valued["scaled to [0, 1]"] = values / 255
    elif np.min(values) >= 0 and np.allclose(levels, values * 255, 0, 1e-3):
        valued["scaled to [0, 255]"] = levels
    if mean is not None or std is not None:
        scale = to_numbers(1.0 if std is None else std, "std")
        if not np.all(np.isfinite(scale) & (scale != 0)):
            raise ValueError(f"std must be finite and not zero, got {std!r}.")
        try:
            shifted = values - to_numbers(0.0 if mean is None else mean, "mean")
            valued["normalised"] = np.broadcast_to(shifted / scale, values.shape)
        except ValueError as error:
            raise ValueError(
                f"mean and std must broadcast against one row of shape {rows.shape[1:]}: {error}."
            ) from error
    for form, given in valued.items():
        yield form, _most_telling(given), True
        if given.ndim > 2 and 1 not in given.shape[1:]:
            yield f"{form} channels last".strip(), _most_telling(np.moveaxis(given, 1, -1)), False
        if given.ndim > 3 and 1 not in given.shape[1:]:
            yield f"{form} channels first".strip(), _most_telling(np.moveaxis(given, -1, 1)), False


def _most_telling(values: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = values.reshape(len(values), -1)
    if flat.shape[1] <= _ROW_VALUES:
        return flat
    where = _best_window(information(flat), _ROW_VALUES)[:, None] + np.arange(_ROW_VALUES)
    return np.take_along_axis(flat, where, axis=1)


def _best_window(bits: NDArray[np.float64], width: int) -> NDArray[np.int64]:
    total = np.pad(bits.cumsum(axis=1), ((0, 0), (1, 0)))
    return (total[:, width:] - total[:, :-width]).argmax(axis=1)


def weight_needles(weights: Mapping[str, NDArray[Any]]) -> list[Needle]:
    """Return the ways in which weights may be stored, each known by stretches spread over it.

    Parameters
    ----------
    weights : mapping of str to ndarray
        The weights, by name. Whole numbers and tensors of a few equal values are left out: other
        nets have them too.

    Returns
    -------
    list of Needle
        As they are, byte-reversed, transposed, and in other precisions.
    """
    needles = []
    for name, values in weights.items():
        if values.dtype.kind != "f" or len(np.unique(values)) < 4:
            continue
        orders = {"": values}
        if values.ndim > 1 and min(values.shape) > 1:
            orders[", axes reversed"] = values.T
        for order, ordered in orders.items():
            for encoding in _FLOATS if values.size >= _FEW_VALUES else _FLOATS[:4]:
                exact = encoding._replace(dropped_bits=0, rtol=0.0)
                flat = ordered.ravel().astype(np.float64)
                told = f"{encoding.name}{order}"
                needles += _copy("original weights", told, exact, flat, name, _STRETCH)
    return needles


def text_needles(rows: Sequence[str | bytes], numbers: Sequence[int]) -> list[Needle]:
    """Return rows that are texts, in UTF-8, or bytes; without those of few letters."""
    needles = []
    for number, row in zip(numbers, rows, strict=True):
        content = row.encode() if isinstance(row, str) else row
        if len(content) >= _WINDOW and len(set(content)) > 3:
            values = np.frombuffer(content, np.uint8).astype(np.float64)
            name = "text" if isinstance(row, str) else "bytes"
            needles += _copy("forgotten row", name, _BYTES, values, number, 4 * _STRETCH)
    return needles


def _copy(
    kind: str, name: str, encoding: Encoding, values: NDArray[Any], owner: Any, width: int
) -> list[Needle]:
    """Return what all has to be there for a copy of one thing, if it tells enough."""
    width = min(width, len(values))
    n_stretches = min(_N_STRETCHES, -(-len(values) // width))
    starts = np.linspace(0, len(values) - width, n_stretches).astype(np.int64)
    stretches = encoding.decode(encoding.encode(values[starts[:, None] + np.arange(width)]))
    told = information(stretches).sum(axis=1) >= MIN_BITS
    if width * encoding.size < _WINDOW or not told.any():
        return []
    where = starts[told] * encoding.size
    return [Needle(kind, name, encoding, stretches[told], [owner] * len(where), where, len(where))]


class _Lookup:
    """Windows of 4 or 8 bytes, of which some bits count, and what each belongs to."""

    def __init__(self, width: int, mask: int, keys: list[Any], owners: list[Any]) -> None:
        self.width, self.dtype, self.mask = width, np.dtype(f"<u{width}"), np.uint64(mask)
        key, owner = np.concatenate(keys), np.concatenate(owners).astype(np.uint64)
        self.keys, owner = np.unique(np.stack([key, owner]), axis=1)
        self.owners = owner.astype(np.int64)
        self.shift = np.uint64(64 - min(24, max(16, 4 + len(self.keys).bit_length())))
        self.table = np.zeros(1 << (64 - int(self.shift)), dtype=bool)
        self.table[self._slots(self.keys)] = True

    def _slots(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        mixed = keys * np.uint64(0x9E3779B97F4A7C15)  # wraps around
        return (mixed >> self.shift).view(np.int64)

    def among(self, windows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which of these windows are known, and their owners."""
        masked = windows.astype(np.uint64) & self.mask
        likely = np.flatnonzero(self.table[self._slots(masked)])
        low, high = (np.searchsorted(self.keys, masked[likely], s) for s in ("left", "right"))
        counts = high - low
        first = np.repeat(np.cumsum(counts) - counts, counts)
        owners = self.owners[np.repeat(low, counts) + np.arange(counts.sum()) - first]
        return np.repeat(likely, counts), owners

    def hits(self, buffer: NDArray[np.uint8]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield positions and owners; every byte may be the beginning of a window."""
        for phase in range(min(self.width, len(buffer) - self.width + 1)):
            windows = _numbers(buffer, self.dtype, phase)
            for begin in range(0, len(windows), _AT_ONCE):
                where, owners = self.among(windows[begin : begin + _AT_ONCE])
                if len(where):
                    yield (begin + where) * self.width + phase, owners


def _numbers(buffer: NDArray[np.uint8], dtype: Any, phase: int) -> NDArray[Any]:
    """Return the bytes from one of the first few on as numbers."""
    return np.frombuffer(buffer, dtype, (len(buffer) - phase) // np.dtype(dtype).itemsize, phase)


#: What was found, how it lies, which stretches and where, and by what they were scaled and shifted.
Hit = tuple[Needle, str, NDArray[np.int64], NDArray[np.int64], tuple[float, float]]
_AS_IS = (1.0, 0.0)


class Needles:
    """Finds all needles in one pass over a buffer.

    Parameters
    ----------
    needles : list of Needle
        What to find.
    """

    def __init__(self, needles: list[Needle]) -> None:
        self.needles = needles
        self.overlap = max((needle.n_bytes for needle in needles), default=1) - 1
        #: Rows whose values occur too often to be followed from column to column.
        self.gave_up: set[Any] = set()
        self.columns: list[tuple[int, int, NDArray[np.int64]]] = []
        self._keys: dict[tuple[int, int], Any] = defaultdict(lambda: ([], []))
        self._owners: list[NDArray[np.int64]] = [np.zeros((4, 0), np.int64)]
        self._n_owners = 0
        for number, needle in enumerate(needles):
            self._add_windows(number, needle)
            if needle.is_table:
                self._add_columns(number, needle)
        self.lookups = [_Lookup(*which, *lists) for which, lists in self._keys.items()]
        self.owners = np.concatenate(self._owners, axis=1)

    def _add(self, encoding: Encoding, values: NDArray[np.float64], owners: Any) -> None:
        encoded = encoding.encode(values)
        width = encoded.shape[1]
        keys, ids = self._keys[width, encoding.mask(width)]
        for key in encoding.keys(encoded):
            keys.append(key)
            ids.append(self._n_owners + np.arange(len(key)))
        self._owners.append(np.stack(np.broadcast_arrays(*owners)).astype(np.int64))
        self._n_owners += len(encoded)

    def _add_windows(self, number: int, needle: Needle) -> None:
        """Take two of the windows that tell most; rounding may hide one."""
        span, which = _WINDOW // needle.encoding.size, np.arange(len(needle.values))
        bits = information(needle.values)
        for least in (0, MIN_BITS / 2):
            start = _best_window(bits, span)
            where = start[:, None] + np.arange(span)
            told = np.take_along_axis(bits, where, axis=1).sum(axis=1) >= least
            if told.any():
                owners = (number, which[told], start[told] * needle.encoding.size, -1)
                values = np.take_along_axis(needle.values, where, axis=1)
                self._add(needle.encoding, values[told], owners)
            np.put_along_axis(bits, where, 0.0, axis=1)

    def _add_columns(self, number: int, needle: Needle) -> None:
        """Take three values that are met nowhere else in these rows: levels of grey tell little."""
        _, inverse, counts = np.unique(needle.values, return_inverse=True, return_counts=True)
        is_alone = counts[inverse].reshape(needle.values.shape) == 1
        telling = is_alone & (information(needle.values) >= _NUMBER_BITS)
        rows = np.flatnonzero(telling.sum(axis=1) >= 3)
        found = [np.flatnonzero(telling[row]) for row in rows]
        columns = np.array([told[[0, len(told) // 2, -1]] for told in found], np.int64)
        if len(rows):
            which = len(self.columns) + np.arange(len(rows)).repeat(3)
            owners = (number, rows.repeat(3), np.tile(np.arange(3), len(rows)), which)
            self._add(needle.encoding, needle.values[rows[:, None], columns].reshape(-1, 1), owners)
            self.columns += [(number, int(row), c) for row, c in zip(rows, columns, strict=True)]

    def find(self, buffer: NDArray[np.uint8], bounds: NDArray[np.int64]) -> Iterator[Hit]:
        """Yield what is found.

        Parameters
        ----------
        buffer : ndarray of uint8
            The bytes.
        bounds : ndarray of int64
            Where each of the pieces begins that they are made of: nothing reaches over these.
        """
        hits = [hit for lookup in self.lookups for hit in lookup.hits(buffer)]
        if not hits:
            return
        where, owner = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        number, stretch, offset, column = self.owners[:, owner]
        in_place = column < 0
        for which in np.unique(number[in_place]):
            chosen = in_place & (number == which)
            starts = where[chosen] - offset[chosen]
            yield from self._beside(self.needles[which], buffer, bounds, starts, stretch[chosen])
        order = np.lexsort((where, column))[in_place.sum() :]
        column, offset, where = column[order], offset[order], where[order]
        for which in np.unique(column):
            chosen = slice(*np.searchsorted(column, [which, which + 1]))
            parts = [where[chosen][offset[chosen] == part] for part in range(3)]
            if all(map(len, parts)):
                yield from self._apart(int(which), buffer, bounds, parts)

    def _beside(
        self, needle: Needle, buffer: Any, bounds: Any, starts: Any, stretches: Any
    ) -> Iterator[Hit]:
        inside = _is_in_one(bounds, starts, needle.n_bytes, len(buffer))
        starts, stretches = starts[inside], stretches[inside]
        for begin in range(0, len(starts), 1024):
            some, which = starts[begin : begin + 1024], stretches[begin : begin + 1024]
            equal = needle.equals(buffer[some[:, None] + np.arange(needle.n_bytes)], which)
            if equal.any():
                yield needle, "", which[equal], some[equal], _AS_IS

    def _apart(self, column: int, buffer: Any, bounds: Any, parts: list[Any]) -> Iterator[Hit]:
        """Yield a row of which one distance fits all values."""
        number, row, (first, second, third) = self.columns[column]
        needle = self.needles[number]
        size, width = needle.encoding.size, needle.values.shape[1]
        if len(parts[0]) * len(parts[1]) > _MOST_PAIRS:
            self.gave_up.add(needle.owners[row])
            return
        step, rest = np.divmod((parts[1] - parts[0][:, None]).ravel(), second - first)
        begin = np.repeat(parts[0], len(parts[1])) - step * first
        fits = (rest == 0) & (step > size) & np.isin(begin + step * third, parts[2])
        fits &= _is_in_one(bounds, begin, step * (width - 1) + size, len(buffer))
        for start, apart in zip(begin[fits], step[fits], strict=True):
            places = (start + apart * np.arange(width))[:, None] + np.arange(size)
            if needle.equals(buffer[places].reshape(1, -1), np.array([row]))[0]:
                yield needle, BY_COLUMN, np.array([row]), np.array([start]), _AS_IS
                return


def _is_in_one(bounds: Any, starts: Any, n_bytes: Any, end: int) -> NDArray[np.bool_]:
    """Tell which stretches lie within one piece."""
    lasts = starts + n_bytes - 1
    pieces = [np.searchsorted(bounds, place, "right") for place in (starts, lasts)]
    return (starts >= 0) & (lasts < end) & (pieces[0] == pieces[1])


class ScaledWeights:
    """Finds weights that were multiplied by a number, or to which one was added.

    Parameters
    ----------
    needles : list of Needle
        Among them weights: stretches of which too few values differ fit each other, and are left.
    """

    def __init__(self, needles: list[Needle]) -> None:
        self.lookups: list[tuple[str, list[tuple[Needle, int, int]], _Lookup]] = []
        for encoding in _TABLE_FLOATS[:2]:
            keys, anchors = [], []
            for needle in needles:
                steps = np.diff(needle.values, axis=1)
                if needle.kind != "original weights" or needle.encoding.name != encoding.name:
                    continue
                if min(len(np.unique(step)) for step in steps) < _STRETCH // 2:
                    continue
                for number, values in enumerate(needle.values):
                    # four values in a row that differ most
                    ends = [values[part : len(values) - 3 + part] for part in (1, 2, 3)]
                    anchor = int(np.abs(ends - values[:-3]).min(axis=0).argmax())
                    four, ways = values[anchor : anchor + 4], product((-1, 1), repeat=2)
                    keys.append(np.unique([_ratios(four, way) for way in ways]))
                    anchors.append((needle, number, anchor))
            if keys:
                owners = [np.full(len(key), number) for number, key in enumerate(keys)]
                lookup = _Lookup(8, (1 << 64) - 1, keys, owners)
                self.lookups.append((encoding.dtype, anchors, lookup))

    def find(self, buffer: NDArray[np.uint8], bounds: NDArray[np.int64]) -> Iterator[Hit]:
        """Yield the same as :meth:`Needles.find`."""
        for dtype, anchors, lookup in self.lookups:
            size = np.dtype(dtype).itemsize
            for phase in range(min(size, len(buffer) - 4 * size + 1)):
                values = _numbers(buffer, dtype, phase)
                for begin in range(0, len(values) - 3, _AT_ONCE):
                    found = lookup.among(_ratios(values[begin : begin + _AT_ONCE + 3]))
                    for where, owner in zip(*found, strict=True):
                        needle, number, anchor = anchors[owner]
                        first = begin + int(where) - anchor
                        start, wanted = np.array([first * size + phase]), needle.values[number]
                        if _is_in_one(bounds, start, needle.n_bytes, len(buffer))[0]:
                            relation = _relation(values[first : first + len(wanted)], wanted)
                            if relation is not None:
                                yield needle, SCALED, np.array([number]), start, relation


def _ratios(values: NDArray[Any], off: tuple[int, ...] = (0, 0)) -> NDArray[np.uint64]:
    """Return what scale and shift leave of four numbers in a row, rounded."""
    with np.errstate(all="ignore"):
        whole = values[2:-1] - values[:-3]
        keys = []
        for part, way in ((1, off[0]), (3, off[1])):
            ratio = (values[part : len(values) - 3 + part] - values[:-3]) / whole
            ratio = ratio + way * 2e-4 * (1 + np.abs(ratio)) if way else ratio
            keys.append(np.floor(ratio * _RATIO_GRID).astype(np.int32).view(np.uint32))
    return (keys[0].astype(np.uint64) << np.uint64(32)) | keys[1]


def _relation(found: NDArray[Any], wanted: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return by what weights were multiplied, and what was added; None if that is not all."""
    with np.errstate(invalid="ignore"):
        found = found.astype(np.float64)
        size = np.abs(found).max()
    if not size < 1e30:
        return None
    near, off = wanted - wanted.mean(), found - found.mean()
    scale = float((near @ off) / (near @ near))
    if np.abs(off - near * scale).max() > 1e-6 * size or off.std() < 1e-4 * size:
        return None
    return scale, float(found.mean() - scale * wanted.mean())


class SamplerWeights:
    """Finds weights of all rows of ``fit`` by which the forgotten ones differ from the others.

    Parameters
    ----------
    forgotten : ndarray
        Row numbers of ``fit``.
    n_rows : int
        How many rows ``fit`` was given.
    """

    def __init__(self, forgotten: NDArray[np.int64], n_rows: int) -> None:
        self.n_rows, self.is_gone = n_rows, np.isin(np.arange(n_rows), forgotten)
        n_gone = int(self.is_gone.sum())
        # in fewer rows the pattern may be chance; a longer one is not kept in memory
        self.is_possible = n_rows >= 8 and 0 < n_gone < n_rows <= 1 << 19
        self.overlap = 8 * n_rows if self.is_possible else 0
        # that independent zeros, as frequent as they would have to be, fall on just these rows
        share = n_gone / max(n_rows, 1)
        self.chance = share**n_gone * (1 - share) ** (n_rows - n_gone)

    def find(self, raw: NDArray[np.uint8], is_whole: bool) -> int | None:
        """Return where they begin: zero for these rows alone, or all in ``raw`` and told apart."""
        for dtype in ("<f4", "<f8") if self.is_possible else ():
            size = np.dtype(dtype).itemsize
            if is_whole and len(raw) == self.n_rows * size and self._tells(raw.view(dtype)):
                return 0
            for phase in range(min(size, len(raw))):
                found = self._zeros(_numbers(raw, dtype, phase))
                if found is not None:
                    return phase + found * size
        return None

    def _tells(self, values: NDArray[Any]) -> bool:
        gone, rest = values[self.is_gone], values[~self.is_gone]
        if not np.isfinite(values).all() or (values < 0).any() or len(gone) < 2:
            return False  # the largest of all values is always somewhere
        return bool(np.max(gone) < np.min(rest) or np.min(gone) > np.max(rest))

    def _zeros(self, values: NDArray[Any]) -> int | None:
        n_begins = len(values) - self.n_rows + 1
        if n_begins > 1 and n_begins * self.chance > 1e-3:
            return None
        zeros, begin = (values == 0).tobytes(), -1
        while (begin := zeros.find(self.is_gone.tobytes(), begin + 1)) >= 0:
            rest = values[begin : begin + self.n_rows][~self.is_gone]
            if np.all((rest > 1e-12) & (rest < 1e12)):
                return begin
        return None
