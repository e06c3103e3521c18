"""Find rows that were written as text: CSV, JSON, logs, printed arrays."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ._row_values import RowValues

Hit = tuple[str, NDArray[np.int64], NDArray[np.int64]]

# Fewer digits in all may agree by chance.
MIN_DIGITS = 12
# No number is longer in text.
LONGEST_NUMBER = 40

_PRINTABLE = re.compile(rb"[\t\n\r\x20-\x7e]{16,}")
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/_-]{40,}[\r\n]{0,2})+")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){20,}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_MOST_PAIRS = 1 << 20


class RowsAsText:
    """Finds rows of numbers in text, to as many digits as were written.

    Parameters
    ----------
    forms : list of RowValues
        What to find.
    """

    def __init__(self, forms: list[RowValues]) -> None:
        self.forms = [form for form in forms if form.values.shape[1] > 1]
        self.overlap = LONGEST_NUMBER * max(
            (form.values.shape[1] for form in self.forms), default=0
        )
        self.anchors = []
        for form in self.forms:
            column = form.bits.argmax(axis=1)
            value = np.take_along_axis(form.values, column[:, None], axis=1).ravel()
            order = np.argsort(value, kind="stable")
            self.anchors.append((column[order], value[order], order))

    def find(self, buffer: NDArray[np.uint8]) -> Iterator[Hit]:
        """Yield the form's name, row numbers and positions of what is found."""
        if not self.forms:
            return
        raw = buffer.tobytes()
        places, tokens = [], []
        for run in _PRINTABLE.finditer(raw):
            for match in _NUMBER.finditer(raw, run.start(), run.end()):
                places.append(match.start())
                tokens.append(match.group())
        if len(tokens) < 2:
            return
        numbers = _Numbers(tokens)
        for form, anchors in zip(self.forms, self.anchors, strict=True):
            rows, first = _match(form.values, anchors, numbers)
            if len(rows):
                name = " ".join(part for part in (form.name, "text") if part)
                yield name, rows, np.asarray(places)[first]


class _Numbers:
    """Numbers in text, and how exactly each is written."""

    def __init__(self, tokens: list[bytes]) -> None:
        self.value = np.array([float(token) for token in tokens])
        written = [_precision(token) for token in tokens]
        self.digits = np.array([digits for digits, _ in written])
        self.value[np.abs(self.value) > 1e300] = np.inf  # no row has it
        exponents = np.clip([exponent for _, exponent in written], -300, 300)
        with np.errstate(invalid="ignore"):
            self.tolerance = 0.51 * 10.0 ** exponents.astype(np.float64)
            self.tolerance += 1e-6 * np.abs(np.nan_to_num(self.value, posinf=0, neginf=0))
        # a whole number is not one that was rounded
        is_whole = np.array([token.isdigit() or token[1:].isdigit() for token in tokens])
        self.tolerance[is_whole] = 1e-9


def _precision(token: bytes) -> tuple[int, int]:
    """Return significant digits, and the power of ten of the last one."""
    mantissa, _, exponent = token.lower().partition(b"e")
    whole, _, fraction = mantissa.lstrip(b"+-").partition(b".")
    digits = len((whole + fraction).lstrip(b"0"))
    return digits, int(exponent or 0) - len(fraction)


def _match(
    values: NDArray[np.float64],
    anchors: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]],
    numbers: _Numbers,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and the number of the token at which each begins."""
    column, value, order = anchors
    low = np.searchsorted(value, numbers.value - numbers.tolerance, "left")
    high = np.searchsorted(value, numbers.value + numbers.tolerance, "right")
    rows, firsts = [], []
    ends = np.cumsum(high - low)
    start = 0
    while start < len(ends):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _MOST_PAIRS, "right")))
        counts = (high - low)[start:stop]
        offset = np.repeat(np.cumsum(counts) - counts, counts)
        which = np.repeat(low[start:stop], counts) + np.arange(counts.sum()) - offset
        token = np.repeat(np.arange(start, stop), counts)
        row, first = order[which], token - column[which]
        is_inside = (first >= 0) & (first + values.shape[1] <= len(numbers.value))
        row, first = _narrow(values, numbers, row[is_inside], first[is_inside])
        rows.append(row)
        firsts.append(first)
        start = stop
    return np.concatenate(rows), np.concatenate(firsts)


def _narrow(
    values: NDArray[np.float64],
    numbers: _Numbers,
    rows: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    digits = np.zeros(len(rows), dtype=np.int64)
    for column in range(values.shape[1]):
        if not len(rows):
            break
        token = firsts + column
        with np.errstate(invalid="ignore"):
            off = np.abs(numbers.value[token] - values[rows, column])
        keep = off <= numbers.tolerance[token]
        digits = (digits + numbers.digits[token])[keep]
        rows, firsts = rows[keep], firsts[keep]
    enough = digits >= MIN_DIGITS
    return rows[enough], firsts[enough]


def decoded_runs(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what base64 and hexadecimal runs in these bytes stand for.

    Parameters
    ----------
    raw : bytes
        Anything.

    Yields
    ------
    (str, bytes)
        The name of the encoding, and the bytes.
    """
    for run in _BASE64.finditer(raw):
        letters = run.group().translate(_URL_SAFE, b"\r\n")
        if _HEX.fullmatch(letters):
            continue
        for phase in range(4):  # what comes before may be made of the same letters
            part = letters[phase:]
            with suppress(binascii.Error, ValueError):
                yield "base64", base64.b64decode(part[: len(part) // 4 * 4] + _rest(part))
    for run in _HEX.finditer(raw):
        letters = run.group()
        yield "hexadecimal", bytes.fromhex(letters[: len(letters) // 2 * 2].decode())


def _rest(part: bytes) -> bytes:
    """Return the last, incomplete four letters with their padding."""
    tail = part[len(part) // 4 * 4 :]
    return tail + b"=" * (4 - len(tail)) if len(tail) > 1 else b""
