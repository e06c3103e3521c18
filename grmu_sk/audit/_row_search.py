"""Find rows of numbers in bytes: next to each other, or a constant distance apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._encodings import (
    FLOAT_ENCODINGS,
    INTEGER_ENCODINGS,
    STRIDED_ENCODINGS,
    WINDOW,
    WORD,
    Encoding,
)
from ._lookup import Lookup
from ._row_values import MIN_BITS, RowValues

# Values that are equal in many rows are met everywhere: so many pairs of places are tried a row.
MOST_PAIRS = 4096
BY_COLUMN = ", by column"
_N_ANCHORS = 2
_N_APART = 3

Hit = tuple[str, NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class RowPattern:
    """Rows in one form and one encoding."""

    form: RowValues
    encoding: Encoding
    rows: NDArray[np.int64]

    @property
    def name(self) -> str:
        """What findings call it."""
        return " ".join(part for part in (self.form.name, self.encoding.name) if part)

    @property
    def n_bytes(self) -> int:
        """Bytes of a row."""
        return self.form.values.shape[1] * self.encoding.itemsize


def row_patterns(forms: list[RowValues]) -> list[RowPattern]:
    """Return every form in every encoding in which it tells rows from chance."""
    patterns = []
    for form in forms:
        for encoding in (*FLOAT_ENCODINGS, *INTEGER_ENCODINGS):
            if encoding.is_integer and not (form.is_integer and encoding.holds(form.values)):
                continue
            if encoding.dtype in ("i1", "<i2") and np.min(form.values) >= 0:
                continue  # the same bytes as unsigned
            bits = np.minimum(form.bits, encoding.bits).sum(axis=1)
            is_wide = form.values.shape[1] * encoding.itemsize >= WINDOW
            rows = np.flatnonzero(bits >= MIN_BITS)
            if is_wide and len(rows):
                patterns.append(RowPattern(form, encoding, rows))
    return patterns


class ContiguousRows:
    """Finds rows whose values lie next to each other.

    Parameters
    ----------
    patterns : list of RowPattern
        What to find.
    """

    def __init__(self, patterns: list[RowPattern]) -> None:
        self.patterns = patterns
        self.overlap = max((pattern.n_bytes for pattern in patterns), default=1) - 1
        keys: dict[int, list[NDArray[np.uint64]]] = defaultdict(list)
        owners: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
        entries: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        n_entries = 0
        for number, pattern in enumerate(patterns):
            mask = pattern.encoding.mask(WINDOW)
            row, offset, key = _anchors(pattern)
            keys[mask].append(key)
            owners[mask].append(n_entries + np.arange(len(key)))
            entries.append((np.full(len(key), number), row, offset))
            n_entries += len(key)
        self.lookups = [
            Lookup(WINDOW, mask, np.concatenate(keys[mask]), np.concatenate(owners[mask]))
            for mask in keys
        ]
        if entries:
            self.pattern, self.row, self.offset = map(np.concatenate, zip(*entries, strict=True))

    def find(self, buffer: NDArray[np.uint8]) -> Iterator[Hit]:
        """Yield the pattern's name, row numbers and positions of what is found."""
        for lookup in self.lookups:
            for where, owner in lookup.hits(buffer):
                for number in np.unique(self.pattern[owner]):
                    chosen = self.pattern[owner] == number
                    starts = where[chosen] - self.offset[owner[chosen]]
                    yield from _verified(
                        self.patterns[number], buffer, starts, self.row[owner[chosen]]
                    )


def _anchors(
    pattern: RowPattern,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Return row, offset and key of the windows by which rows are found."""
    encoding, size = pattern.encoding, pattern.encoding.itemsize
    span = WINDOW // size
    values, bits = pattern.form.values[pattern.rows], pattern.form.bits[pattern.rows].copy()
    rows, offsets, keys = [], [], []
    for _ in range(_N_ANCHORS):
        total = np.concatenate([np.zeros((len(bits), 1)), bits.cumsum(axis=1)], axis=1)
        start = (total[:, span:] - total[:, :-span]).argmax(axis=1)
        where = start[:, None] + np.arange(span)
        encoded = encoding.encode(np.take_along_axis(values, where, axis=1))
        for key in _near_keys(encoding, encoded):
            rows.append(pattern.rows)
            offsets.append(start * size)
            keys.append(key)
        np.put_along_axis(bits, where, 0.0, axis=1)
    row, offset, key = map(np.concatenate, (rows, offsets, keys))
    unique = np.unique(np.stack([row.astype(np.uint64), offset.astype(np.uint64), key]), axis=1)
    return unique[0].astype(np.int64), unique[1].astype(np.int64), unique[2]


def _near_keys(encoding: Encoding, encoded: NDArray[np.uint8]) -> Iterator[NDArray[np.uint64]]:
    """Yield the window's keys, rounded either way."""
    mask = np.uint64(encoding.mask(WINDOW))
    if not encoding.slack:
        yield encoded.view("<u8").ravel() & mask
        return
    near = [encoding.shifted(encoded, units) for units in (-encoding.slack, encoding.slack)]
    size = encoding.itemsize
    for first in near:
        for second in near if size == WORD else [first]:
            yield np.hstack([first[:, :size], second[:, size:]]).view("<u8").ravel() & mask


def _verified(
    pattern: RowPattern,
    buffer: NDArray[np.uint8],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> Iterator[Hit]:
    inside = (starts >= 0) & (starts + pattern.n_bytes <= len(buffer))
    starts, rows = starts[inside], rows[inside]
    for begin in range(0, len(starts), 1024):
        some, numbers = starts[begin : begin + 1024], rows[begin : begin + 1024]
        found = buffer[some[:, None] + np.arange(pattern.n_bytes)]
        is_equal = _is_close(
            pattern.encoding, pattern.encoding.decode(found), pattern.form.values[numbers]
        )
        if is_equal.any():
            yield pattern.name, numbers[is_equal], some[is_equal]


def _is_close(
    encoding: Encoding, found: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        # a normalised value near zero is the difference of two larger ones
        scale = np.nanmax(np.abs(wanted), axis=1, keepdims=True, initial=0)
        near = np.abs(found - wanted) <= encoding.rtol * (np.abs(wanted) + 0.1 * scale)
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return (near | same).all(axis=1)


class ScatteredRows:
    """Finds rows whose values lie a constant distance apart: in a table stored by column.

    Parameters
    ----------
    patterns : list of RowPattern
        What to find; those in an encoding that is not of ``STRIDED_ENCODINGS`` are left out.
    """

    def __init__(self, patterns: list[RowPattern]) -> None:
        self.searches = []
        for pattern in patterns:
            if pattern.encoding in STRIDED_ENCODINGS:
                search = _ScatteredPattern(pattern)
                if len(search.rows):
                    self.searches.append(search)
        #: Rows that occur too often by their values to be followed.
        self.gave_up: set[int] = set()

    def find(self, buffer: NDArray[np.uint8]) -> Iterator[Hit]:
        """Yield the pattern's name, row numbers and positions of what is found."""
        for search in self.searches:
            yield from search.find(buffer, self.gave_up)


class _ScatteredPattern:
    def __init__(self, pattern: RowPattern) -> None:
        self.pattern = pattern
        self.encoding = pattern.encoding
        size = self.encoding.itemsize
        # whole numbers and zeros are met everywhere
        telling = pattern.form.bits >= min(20, self.encoding.bits)
        self.rows = np.flatnonzero(telling.sum(axis=1) >= _N_APART)
        if not len(self.rows):
            return
        columns = [np.flatnonzero(telling[row]) for row in self.rows]
        self.columns = np.array([[c[0], c[len(c) // 2], c[-1]] for c in columns])
        values = np.take_along_axis(pattern.form.values[self.rows], self.columns, axis=1)
        keys, owners = [], []
        for part in range(_N_APART):
            encoded = self.encoding.encode(values[:, part : part + 1])
            for units in (-self.encoding.slack, self.encoding.slack):
                keys.append(self.encoding.shifted(encoded, units).view(f"<u{size}").ravel())
                owners.append(np.arange(len(values)) * _N_APART + part)
        key, owner = np.concatenate(keys), np.concatenate(owners)
        key = key & key.dtype.type(self.encoding.mask(size))
        unique = np.unique(np.stack([key.astype(np.uint64), owner.astype(np.uint64)]), axis=1)
        self.lookup = Lookup(size, self.encoding.mask(size), unique[0], unique[1].astype(np.int64))

    def find(self, buffer: NDArray[np.uint8], gave_up: set[int]) -> Iterator[Hit]:
        hits = list(self.lookup.hits(buffer))
        if not hits:
            return
        where, owner = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        order = np.lexsort((where, owner))
        where, owner = where[order], owner[order]
        bounds = np.searchsorted(owner, np.arange(len(self.rows) * _N_APART + 1))
        n_hits = np.diff(bounds).reshape(-1, _N_APART)
        for number in np.flatnonzero((n_hits > 0).all(axis=1)).tolist():
            row = int(self.rows[number])
            if n_hits[number, 0] * n_hits[number, 1] > MOST_PAIRS:
                gave_up.add(row)
                continue
            parts = [
                where[bounds[number * _N_APART + part] : bounds[number * _N_APART + part + 1]]
                for part in range(_N_APART)
            ]
            found = self._follow(buffer, number, parts)
            if found is not None:
                yield (
                    f"{self.pattern.name}{BY_COLUMN}",
                    np.array([row]),
                    np.array([found], dtype=np.int64),
                )

    def _follow(
        self, buffer: NDArray[np.uint8], number: int, parts: list[NDArray[np.int64]]
    ) -> int | None:
        """Return where the row begins if one distance fits all of its values."""
        size = self.encoding.itemsize
        first, second, third = self.columns[number]
        distance = (parts[1][None, :] - parts[0][:, None]).ravel()
        begin = np.repeat(parts[0], len(parts[1]))
        step, rest = np.divmod(distance, second - first)
        fits = (rest == 0) & (step > size)
        begin, step = begin[fits], step[fits]
        fits = np.isin(begin + step * (third - first), parts[2])
        begin, step = begin[fits] - step[fits] * first, step[fits]
        wanted = self.pattern.form.values[self.rows[number]]
        offsets = np.arange(len(wanted))
        fits = (begin >= 0) & (begin + step * (len(wanted) - 1) + size <= len(buffer))
        for start, distance_apart in zip(begin[fits], step[fits], strict=True):
            places = start + distance_apart * offsets
            found = self.encoding.decode(buffer[places[:, None] + np.arange(size)].reshape(1, -1))
            if _is_close(self.encoding, found, wanted[None])[0]:
                return int(start)
        return None
