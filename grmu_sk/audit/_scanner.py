"""The scanner: feeds every byte of a place to the searches, and opens what has more inside."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ._row_search import ContiguousRows, ScatteredRows, row_patterns
from ._row_values import RowValues
from ._sampler_search import SamplerWeights
from ._segment_search import Copy, CopySearch
from ._text_search import RowsAsText, decoded_runs
from .finding import Finding
from .residue_scan import ResidueScan

#: So much of a file is in memory at once, in bytes.
CHUNK = 1 << 23
#: What has a structure is read whole up to this size, in bytes.
LARGEST_WHOLE = 1 << 28
#: So much is unpacked at most, in bytes: a small archive can hold more than fits on a disk.
MOST_UNPACKED = 1 << 34
DEEPEST = 6
HEAD = 4096
#: What stands in a place's name before a part of it.
PART_MARKS = ("!", " (storage)", ".base", " (held)")

Opener = Callable[["Scanner", str, BinaryIO, int], None]


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    Attributes
    ----------
    forms : list of RowValues
        Rows of numbers.
    numbers : ndarray
        What findings call each row.
    copies : list of Copy
        Text, bytes and weights.
    sampler : SamplerWeights or None
        How forgotten rows are told in sampling weights.
    """

    forms: list[RowValues]
    numbers: NDArray[np.int64]
    copies: list[Copy]
    sampler: SamplerWeights | None


class Scanner:
    """Searches places one after another and collects what is found.

    Parameters
    ----------
    wanted : Wanted
        What is looked for.
    openers : iterable of callable
        ``opener(scanner, place, file, depth)`` for what has something inside.
    chunk_size : int, default=CHUNK
        Bytes in memory at once.
    """

    def __init__(
        self, wanted: Wanted, openers: Iterable[Opener] = (), chunk_size: int = CHUNK
    ) -> None:
        patterns = row_patterns(wanted.forms)
        self.wanted = wanted
        self.openers = list(openers)
        self.chunk_size = chunk_size
        self.contiguous = ContiguousRows(patterns)
        self.scattered = ScatteredRows(patterns)
        self.text = RowsAsText(wanted.forms)
        self.copies = CopySearch(wanted.copies)
        sampler = wanted.sampler
        self.overlap = max(
            self.contiguous.overlap,
            self.text.overlap,
            self.copies.overlap,
            0 if sampler is None else sampler.overlap,
        )
        self.found: dict[tuple[Any, str, str], tuple[set[int], set[str], int | None]] = {}
        self.not_searched: list[str] = []
        self.n_places = self.n_bytes = self.n_unpacked = 0

    # findings ------------------------------------------------------------------------------------

    def note(self, reason: str) -> None:
        """Remember what could not be looked into."""
        if reason not in self.not_searched:
            self.not_searched.append(reason)

    def add(
        self,
        kind: str,
        place: str,
        encoding: str,
        *,
        rows: Iterable[int] = (),
        tensors: Iterable[str] = (),
        offset: int | None = None,
    ) -> None:
        """Remember a finding; those of a kind and place become one."""
        key = (kind, place, encoding)
        known_rows, known_tensors, first = self.found.setdefault(key, (set(), set(), offset))
        known_rows.update(rows)
        known_tensors.update(tensors)
        if offset is not None and (first is None or offset < first):
            self.found[key] = (known_rows, known_tensors, offset)

    def result(self) -> ResidueScan:
        """Return all findings."""
        findings = [
            Finding(kind, place, encoding, tuple(sorted(rows)), tuple(sorted(tensors)), offset)
            for (kind, place, encoding), (rows, tensors, offset) in self.found.items()
            if not self._is_told_elsewhere(kind, place, encoding, rows or tensors)
        ]
        return ResidueScan(
            findings,
            not_searched=self.not_searched,
            n_places=self.n_places,
            n_bytes=self.n_bytes,
        )

    def _is_told_elsewhere(self, kind: Any, place: str, encoding: str, names: set[Any]) -> bool:
        """Tell whether another finding says the same of a larger place, or in plainer words."""
        for (other_kind, other, other_encoding), (rows, tensors, _) in self.found.items():
            if other_kind != kind or not names <= (rows or tensors):
                continue
            is_part = other == place or any(place.startswith(other + mark) for mark in PART_MARKS)
            is_plainer = encoding == other_encoding or encoding.startswith(other_encoding + ", ")
            if is_part and is_plainer and (other, other_encoding) != (place, encoding):
                return True
        return False

    # searching -----------------------------------------------------------------------------------

    def scan_bytes(self, place: str, content: Any, depth: int = 0) -> None:
        """Search bytes in memory, and what is inside of them."""
        self.scan_file(place, io.BytesIO(content), depth)

    def scan_file(self, place: str, file: BinaryIO, depth: int = 0) -> None:
        """Search an open, seekable file, and what is inside of it."""
        if depth > DEEPEST:
            self.note(f"{place}: nested more than {DEEPEST} deep, not opened")
            return
        is_whole = self._search_stream(place, file, is_unpacked=depth > 0)
        if not is_whole:
            return
        for opener in self.openers:
            file.seek(0)
            opener(self, place, file, depth)

    def _search_stream(self, place: str, file: BinaryIO, is_unpacked: bool) -> bool:
        """Read a file from its beginning, with overlap; return whether it was read to its end."""
        self.n_places += 1
        seen, offset, tail = self.copies.new_place(), 0, b""
        while True:
            chunk = file.read(self.chunk_size)
            if not chunk:
                return True
            self.n_bytes += len(chunk)
            if is_unpacked:
                self.n_unpacked += len(chunk)
                if self.n_unpacked > MOST_UNPACKED:
                    self.note(f"{place}: more than {MOST_UNPACKED} bytes unpacked, not read on")
                    return False
            is_first_and_last = not tail and len(chunk) < self.chunk_size
            joined = np.frombuffer(tail + chunk, np.uint8)
            self.search(place, joined, offset, seen, is_whole=is_first_and_last)
            tail = joined[max(0, len(joined) - self.overlap) :].tobytes()
            offset += len(joined) - len(tail)

    def search(
        self,
        place: str,
        buffer: NDArray[np.uint8],
        offset: int = 0,
        seen: Any = None,
        *,
        is_whole: bool = True,
        depth: int = 0,
    ) -> None:
        """Search one buffer.

        Parameters
        ----------
        place : str
            Where it is.
        buffer : ndarray of uint8
            The bytes.
        offset : int, default=0
            Where in the place they begin.
        seen : object or None, default=None
            What the search for copies keeps about the place.
        is_whole : bool, default=True
            Whether these are all bytes of the place.
        depth : int, default=0
            How many encodings have been undone.
        """
        seen = self.copies.new_place() if seen is None else seen
        for search in (self.contiguous, self.scattered, self.text):
            for encoding, rows, positions in search.find(buffer):
                self._add_rows(place, encoding, rows, offset + int(np.min(positions)))
        for copy, origin in self.copies.find(buffer, offset, seen):
            if isinstance(copy.name, str):
                self.add(
                    "original weights", place, copy.encoding, tensors=[copy.name], offset=origin
                )
            else:
                self._add_rows(place, copy.encoding, np.array([copy.name]), origin)
        self._search_sampler(place, buffer, offset, is_whole)
        if depth < DEEPEST:
            self._search_encoded(place, buffer, depth)

    def _add_rows(self, place: str, encoding: str, rows: NDArray[np.int64], offset: int) -> None:
        numbers = self.wanted.numbers[rows].tolist()
        self.add("forgotten row", place, encoding, rows=numbers, offset=offset)

    def _search_sampler(
        self, place: str, buffer: NDArray[np.uint8], offset: int, is_whole: bool
    ) -> None:
        sampler = self.wanted.sampler
        if sampler is None:
            return
        where = 0 if is_whole and sampler.tells_bytes(buffer) else sampler.find(buffer)
        if where is not None:
            self.add("sampler weights", place, "floating point", offset=offset + where)

    def _search_encoded(self, place: str, buffer: NDArray[np.uint8], depth: int) -> None:
        for name, content in decoded_runs(buffer.tobytes()):
            inside = f"{place}!{name}"
            self.search(inside, np.frombuffer(content, np.uint8), depth=depth + 1)
            if is_zlib(content):
                self.scan_bytes(inside, content, DEEPEST - 2)

    def search_array(self, place: str, values: NDArray[Any]) -> None:
        """Search an array in memory, row by row and column by column."""
        self.n_places += 1
        self.n_bytes += values.nbytes
        sampler = self.wanted.sampler
        if sampler is not None and sampler.tells(values):
            self.add("sampler weights", place, values.dtype.name)
        seen_orders = [values]
        if values.ndim > 1:
            seen_orders.append(np.moveaxis(values, -1, 0))
            if values.ndim > 2:
                seen_orders.append(values.T)
        for ordered in seen_orders:
            self._search_in_parts(place, ordered)

    def _search_in_parts(self, place: str, values: NDArray[Any]) -> None:
        seen, offset = self.copies.new_place(), 0
        if values.ndim == 0:
            values = values[None]
        row_bytes = max(1, values[:1].nbytes)
        step = max(1, self.chunk_size // row_bytes)
        extra = -(-self.overlap // row_bytes)
        for start in range(0, len(values), step):
            begin = max(0, start - extra)
            part = np.ascontiguousarray(values[begin : start + step])
            raw = part.reshape(-1).view(np.uint8) if part.size else np.empty(0, np.uint8)
            offset = begin * row_bytes
            is_whole = begin == 0 and start + step >= len(values)
            self.search(place, raw, offset, seen, is_whole=is_whole)


def is_zlib(head: bytes) -> bool:
    """Tell whether bytes begin as zlib's format does."""
    if len(head) < 6 or head[0] & 0x0F != 8 or int.from_bytes(head[:2], "big") % 31:
        return False
    try:
        zlib.decompressobj().decompress(head[:HEAD], 64)
    except zlib.error:
        return False
    return True


def read_limited(scanner: Scanner, place: str, file: BinaryIO, what: str) -> bytes | None:
    """Return a file's content, or None with a note if it is larger than what is read whole."""
    content = file.read(LARGEST_WHOLE + 1)
    if len(content) > LARGEST_WHOLE:
        scanner.note(f"{place}: larger than {LARGEST_WHOLE} bytes, searched but not as {what}")
        return None
    return content
