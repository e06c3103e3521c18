"""What a residue scan looks for: rows and weights as bytes, wherever in a buffer they may begin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

Kind = Literal["forgotten row", "original weights"]
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

_SINGLE, _DOUBLE = {"float32": "<f4"}, {"float64": "<f8"}
_HALVES = {"float16": "<f2", "bfloat16": "bf16"}
_WHOLE = {"uint8": "u1", "int32": "<i4", "int64": "<i8"}
_PYTHON = {"big-endian float64": ">f8"}  # pickled numbers
_HALF_BITS = {"<f2": 11.0, "bf16": 10.0}


@dataclass(frozen=True, eq=False)
class Needle:
    """Stretches of rows or of a tensor, written in one way.

    Attributes
    ----------
    kind, name : str
        What findings call what it is, and how it is written.
    numbers : ndarray of shape (n_stretches, n_values)
        The numbers as they are written.
    raw : ndarray of uint8 of shape (n_stretches, n_bytes)
        The same as bytes.
    owners : list
        The row or the tensor that each stretch is of.
    starts : ndarray of shape (n_stretches,)
        Where in a copy each stretch begins, in bytes.
    n_parts : int
        How many stretches make a copy.
    forms : tuple of str
        In which other ways to look for it: ``BY_COLUMN``, values a constant distance apart, or
        ``SCALED``, a linear function of the values.
    """

    kind: Kind
    name: str
    numbers: NDArray[np.float64]
    raw: NDArray[np.uint8]
    owners: Sequence[Any]
    starts: NDArray[np.int64]
    n_parts: int = 1
    forms: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of a value."""
        return self.raw.shape[1] // self.numbers.shape[1]


def _written(values: NDArray[Any], dtype: str) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return rows of values as they are once they are written, and their bytes."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "bf16":
            halves = torch.from_numpy(values.astype(np.float32)).bfloat16()
            kept, words = halves.double().numpy(), halves.view(torch.int16).numpy()
        else:
            words = np.ascontiguousarray(values.astype(dtype))
            kept = words.astype(np.float64)
    return kept, words.view(np.uint8)


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
    needles, known = [], set()
    for form, given, is_first in _forms(rows, mean, std) if len(rows) else ():
        for encoding, dtype in {**_SINGLE, **_DOUBLE, **_PYTHON, **_HALVES, **_WHOLE}.items():
            values, raw = _written(given, dtype)
            if encoding in _WHOLE and not np.array_equal(values, given):
                continue
            bits = np.minimum(information(values), _HALF_BITS.get(dtype, _NUMBER_BITS))
            told = np.flatnonzero(bits.sum(axis=1) >= MIN_BITS)
            content = dtype, raw[told].tobytes()
            if len(told) and raw.shape[1] >= _WINDOW and content not in known:
                known.add(content)
                name, owners = f"{form} {encoding}".strip(), [numbers[int(row)] for row in told]
                in_columns = is_first and encoding in {**_SINGLE, **_DOUBLE, **_PYTHON}
                shown = name, values[told], raw[told], owners
                forms = (BY_COLUMN,) if in_columns else ()
                starts = np.zeros(len(told), np.int64)
                needles.append(Needle("forgotten row", *shown, starts, forms=forms))
    return needles


def _forms(rows: NDArray[Any], mean: Any, std: Any) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """Yield name and values of each form, cut to what tells most, and if axes are as given."""
    for precision in (np.float64, np.float32):  # a pipeline computes in one or the other
        with np.errstate(over="ignore", invalid="ignore"):
            values: NDArray[Any] = rows.astype(precision)
            valued, levels = {"": values}, np.rint(values * 255)
        is_whole = np.max(values) > 1 and np.array_equal(values, np.rint(values))
        of_bytes = is_whole and np.min(values) >= 0 and np.max(values) <= 255
        if of_bytes:
            valued["scaled to [0, 1]"] = values / np.asarray(255, precision)
        elif np.min(values) >= 0 and np.allclose(levels, values * 255, 0, 1e-3):
            valued["scaled to [0, 255]"] = levels
        if mean is not None or std is not None:
            valued["normalised"] = _normalised(values, mean, std)
        if of_bytes and "normalised" in valued:  # bytes are often divided by 255 before
            valued["normalised after scaling"] = _normalised(values, mean, std, unit=255)
        for form, given in valued.items():
            yield form, _most_telling(given), True
            if given.ndim > 2:
                last, first = np.moveaxis(given, 1, -1), np.moveaxis(given, -1, 1)
                yield f"{form} channels last".strip(), _most_telling(last), False
                yield f"{form} channels first".strip(), _most_telling(first), False


def _normalised(values: NDArray[Any], mean: Any, std: Any, unit: int = 1) -> NDArray[Any]:
    """Return (x - mean) / std in the precision of the values, all three divided by the unit."""
    mean, std = (
        np.asarray(given) / unit
        for given in (0 if mean is None else mean, 1 if std is None else std)
    )
    if not np.all(np.isfinite(std) & (std != 0)):
        raise ValueError(f"std must be finite and not zero, got {std!r}.")
    shifted = values / values.dtype.type(unit) - mean.astype(values.dtype)
    return np.broadcast_to(shifted / std.astype(values.dtype), values.shape)


def _most_telling(values: NDArray[Any]) -> NDArray[Any]:
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
        As they are and with axes reversed, in each precision.
    """
    needles = []
    for name, values in weights.items():
        if values.dtype.kind != "f" or len(np.unique(values)) < 4:
            continue
        width = min(_STRETCH, values.size)
        n_stretches = min(_N_STRETCHES, -(-values.size // width))
        starts = np.linspace(0, values.size - width, n_stretches).astype(np.int64)
        halves = _HALVES if values.size >= _FEW_VALUES else {}
        orders = {"": values, ", axes reversed": values.T}
        for (order, ordered), (encoding, dtype) in product(
            orders.items(), {**_SINGLE, **_DOUBLE, **halves}.items()
        ):
            flat = ordered.ravel()
            if order and np.array_equal(flat, values.ravel()):
                continue
            kept, raw = _written(flat[starts[:, None] + np.arange(width)], dtype)
            told = information(kept).sum(axis=1) >= MIN_BITS
            if raw.shape[1] < _WINDOW or not told.any():
                continue
            # stretches of which few values differ are linear functions of each other
            differ = min(len(np.unique(step)) for step in np.diff(kept[told], axis=1))
            forms = (SCALED,) * (dtype not in _HALF_BITS and differ >= _STRETCH // 2)
            where, owners = starts[told] * (raw.shape[1] // width), [name] * int(told.sum())
            shown = f"{encoding}{order}", kept[told], raw[told], owners
            needles.append(Needle("original weights", *shown, where, len(where), forms))
    return needles


#: What was found, how it lies, which stretch and where, and by what it was scaled and shifted.
Hit = tuple[Needle, str, int, int, tuple[float, float]]
_AS_IS = (1.0, 0.0)
_COLUMNS = ("key", "needle", "stretch", "place")


def _keys(needle: Needle, form: str) -> Iterator[tuple[NDArray[Any], Any, Any]]:
    """Yield what to look up in a buffer: keys, which stretch they are of, and the value's place."""
    bits, stretches = information(needle.numbers), np.arange(len(needle.numbers))
    if form == "":
        span = _WINDOW // needle.size
        start = _best_window(bits, span)
        where = (start * needle.size)[:, None] + np.arange(_WINDOW)
        window = np.take_along_axis(needle.raw, where, axis=1)
        yield np.ascontiguousarray(window).view("<u8").ravel(), stretches, start
    elif form == BY_COLUMN:
        # values that are met nowhere else in these rows: levels of grey tell little
        _, inverse, counts = np.unique(needle.numbers, return_inverse=True, return_counts=True)
        is_alone = counts[inverse].reshape(needle.numbers.shape) == 1
        words = needle.raw.view(f"<u{needle.size}")
        for row, is_telling in enumerate(is_alone & (bits >= _NUMBER_BITS)):
            places = np.flatnonzero(is_telling)
            if len(places) >= 3:
                three = places[[0, len(places) // 2, -1]]
                yield words[row, three], row, three
    else:
        for stretch, values in enumerate(needle.numbers):
            # four values in a row that differ most
            ends = [values[part : len(values) - 3 + part] for part in (1, 2, 3)]
            place = int(np.abs(ends - values[:-3]).min(axis=0).argmax())
            four, ways = values[place : place + 4], product((-1, 1), repeat=2)
            yield np.unique([_ratios(four, way) for way in ways]), stretch, place


class Needles:
    """Finds all needles in one pass over a buffer.

    Parameters
    ----------
    needles : list of Needle
        What to find.
    """

    def __init__(self, needles: list[Needle]) -> None:
        self.needles = needles
        self.overlap = max((needle.raw.shape[1] for needle in needles), default=1) - 1
        #: Rows whose values occur too often to be followed from column to column.
        self.gave_up: set[Any] = set()
        parts: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for number, needle in enumerate(needles):
            for form in ("", *needle.forms):
                dtype = {"": "<u8", BY_COLUMN: f"<u{needle.size}", SCALED: f"<f{needle.size}"}[form]
                for key, stretch, place in _keys(needle, form):
                    columns = np.broadcast_arrays(key, number, stretch, place)
                    parts[form, dtype].append(dict(zip(_COLUMNS, columns, strict=True)))
        self.tables = {
            how: pd.DataFrame({name: np.concatenate([p[name] for p in some]) for name in _COLUMNS})
            for how, some in parts.items()
        }
        self.known = {how: pd.Index(table["key"].unique()) for how, table in self.tables.items()}

    def find(self, buffer: NDArray[np.uint8], bounds: NDArray[np.int64]) -> Iterator[Hit]:
        """Yield what is found.

        Parameters
        ----------
        buffer : ndarray of uint8
            The bytes.
        bounds : ndarray of int64
            Where each of the pieces begins that they are made of: nothing reaches over these.
        """
        confirm = {"": self._beside, BY_COLUMN: self._apart, SCALED: self._related}
        for (form, dtype), table in self.tables.items():
            hits = []
            size = np.dtype(dtype).itemsize
            for phase in range(min(size, len(buffer) - size + 1)):  # any byte may be the first
                keys = np.frombuffer(buffer, dtype, (len(buffer) - phase) // size, phase)
                keys = _ratios(keys) if form == SCALED else keys
                at = np.flatnonzero(self.known[form, dtype].get_indexer(keys) >= 0)
                hits.append(pd.DataFrame({"key": keys[at], "where": phase + size * at}))
            if any(map(len, hits)):
                of_needles = pd.concat(hits).merge(table, on="key").groupby("needle")
                for number, found in of_needles:
                    yield from confirm[form](self.needles[number], found, buffer, bounds)

    def _beside(self, needle: Needle, found: pd.DataFrame, buffer: Any, bounds: Any) -> Any:
        starts = (found["where"] - found["place"] * needle.size).to_numpy()
        inside = _is_in_one(bounds, starts, needle.raw.shape[1], len(buffer))
        starts, stretches = starts[inside], found["stretch"].to_numpy()[inside]
        for begin in range(0, len(starts), 1024):
            some, which = starts[begin : begin + 1024], stretches[begin : begin + 1024]
            read = buffer[some[:, None] + np.arange(needle.raw.shape[1])]
            for hit in np.flatnonzero((read == needle.raw[which]).all(axis=1)):
                yield needle, "", int(which[hit]), int(some[hit]), _AS_IS

    def _apart(self, needle: Needle, found: pd.DataFrame, buffer: Any, bounds: Any) -> Any:
        """Yield rows of which one distance fits all values."""
        size, width = needle.size, needle.numbers.shape[1]
        for row, hits in found.groupby("stretch"):
            parts = {place: part["where"].to_numpy() for place, part in hits.groupby("place")}
            if len(parts) < 3:
                continue
            (first, begins), (second, middles), (third, ends) = sorted(parts.items())
            if len(begins) * len(middles) > _MOST_PAIRS:
                self.gave_up.add(needle.owners[row])
                continue
            step, rest = np.divmod((middles - begins[:, None]).ravel(), second - first)
            begin = np.repeat(begins, len(middles)) - step * first
            fits = (rest == 0) & (step > size) & np.isin(begin + step * third, ends)
            fits &= _is_in_one(bounds, begin, step * (width - 1) + size, len(buffer))
            for start, apart in zip(begin[fits], step[fits], strict=True):
                places = (start + apart * np.arange(width))[:, None] + np.arange(size)
                if np.array_equal(buffer[places].ravel(), needle.raw[row]):
                    yield needle, BY_COLUMN, int(row), int(start), _AS_IS
                    break

    def _related(self, needle: Needle, found: pd.DataFrame, buffer: Any, bounds: Any) -> Any:
        """Yield weights that were multiplied by a number, or to which one was added."""
        starts = (found["where"] - found["place"] * needle.size).to_numpy()
        inside = _is_in_one(bounds, starts, needle.raw.shape[1], len(buffer))
        for start, stretch in zip(starts[inside], found["stretch"][inside], strict=True):
            read = np.frombuffer(buffer, f"<f{needle.size}", needle.numbers.shape[1], start)
            relation = _relation(read, needle.numbers[stretch])
            if relation is not None:
                yield needle, SCALED, int(stretch), int(start), relation


def _is_in_one(bounds: Any, starts: Any, n_bytes: Any, end: int) -> NDArray[np.bool_]:
    """Tell which stretches lie within one piece."""
    lasts = starts + n_bytes - 1
    pieces = [np.searchsorted(bounds, place, "right") for place in (starts, lasts)]
    return (starts >= 0) & (lasts < end) & (pieces[0] == pieces[1])


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
