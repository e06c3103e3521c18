"""Where a residue scan looks: every byte of files, of what is inside them, and of objects."""

from __future__ import annotations

import builtins
import bz2
import gc
import gzip
import io
import lzma
import os
import re
import tarfile
import types
import weakref
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..files import temporaries
from .residue_needles import BY_COLUMN

#: What has a structure is read whole up to this size, in bytes.
LARGEST_WHOLE = 1 << 28
#: So much is unpacked at most, in bytes: a small archive can hold more than fits on a disk.
MOST_UNPACKED = 1 << 34
DEEPEST = 6
#: What stands in a place's name before a part of it.
PART_MARKS = ("!", " (storage)", ".base", " (held)")


def _open_zlib(file: BinaryIO) -> BinaryIO:
    undo = zlib.decompressobj()
    content = undo.decompress(file.read(LARGEST_WHOLE), LARGEST_WHOLE)
    if not undo.eof:
        raise EOFError("the stream ends too early, or is too large")
    return io.BytesIO(content)


_COMPRESSED: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\0": ("xz", lzma.open),
    b"\x5d\0\0": ("xz", lzma.open),
    **{b"x" + level: ("zlib", _open_zlib) for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")},
}
# Their bytes are searched, but what they hold is compressed in a way that is not undone.
_NOT_OPENED = {
    "Parquet": b"PAR1", "HDF5": b"\x89HDF", "PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff",
    "Zstandard": b"(\xb5/\xfd", "LZ4": b"\x04\x22M\x18", "7z": b"7z\xbc\xaf\x27\x1c",
    "RAR": b"Rar!", "Arrow": b"ARROW1",
}  # fmt: skip
_WRITTEN = re.compile(rb"[\t\n\r\x20-\x7e]{16,}")
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_NUMBER_LENGTH = 26
_ATOMS = (bool, int, float, complex, type(None), types.ModuleType, types.CodeType, range, slice)
_NUMBERS, _MOST = (int, float, np.floating, np.integer), 3e38

Source = Callable[[], BinaryIO]


class Piece(NamedTuple):
    """Some bytes of a place: where they begin in it, and how they were read."""

    place: str
    raw: NDArray[np.uint8]
    offset: int = 0
    how: str = ""


class Places:
    """Reads files and objects, piece by piece; nothing is executed, or unpacked to disk.

    Parameters
    ----------
    chunk_size : int
        Bytes of a file that are in memory at once.
    overlap : int
        By how many bytes the next piece of a file overlaps the one before.
    n_values : int
        How many numbers of a text belong together at most.
    """

    def __init__(self, chunk_size: int, overlap: int, n_values: int) -> None:
        self.chunk_size = chunk_size
        self.overlap = max(overlap, _NUMBER_LENGTH * n_values)
        #: What could not be looked into.
        self.notes: list[str] = []
        self.n_places = self.n_bytes = self.n_unpacked = 0
        self._read: dict[tuple[int, int], NDArray[np.uint8]] = {}  # memory that was read

    # files ---------------------------------------------------------------------------------------

    def of_path(self, path: Path) -> Iterator[Piece]:
        """Read a file, or all files of a folder; symbolic links in it are not followed."""
        if not path.is_dir():
            for found in (path, *temporaries(path)):  # what a save that was killed left beside it
                yield from self._of_regular(found, found.name)
            return
        unlisted: list[OSError] = []
        for folder, _, _ in os.walk(path, onerror=unlisted.append):
            for found in sorted(Path(folder).iterdir()):
                place = found.relative_to(path).as_posix()
                try:
                    if found.is_symlink():
                        if not Path(os.path.realpath(found)).is_relative_to(path):
                            self.notes.append(
                                f"{place}: a symbolic link out of the folder, not followed"
                            )
                    elif not found.is_dir():
                        yield from self._of_regular(found, place)
                except OSError as error:
                    self.notes.append(f"{place}: cannot be read ({error.strerror or error})")
        for problem in unlisted:
            self.notes.append(f"{problem.filename}: cannot be listed ({problem.strerror})")

    def _of_regular(self, path: Path, place: str) -> Iterator[Piece]:
        if not path.is_file():
            raise OSError(f"{path} is neither a file nor a folder and cannot be scanned.")
        with path.open("rb") as file:

            def again() -> BinaryIO:
                file.seek(0)
                return file

            yield from self.of_file(place, again)

    def of_file(self, place: str, source: Source, depth: int = 0) -> Iterator[Piece]:
        """Read what ``source`` opens, then what is inside of it."""
        if depth > DEEPEST:
            self.notes.append(f"{place}: nested more than {DEEPEST} deep, not opened")
            return
        self.n_places += 1
        head, offset, tail = b"", 0, b""
        try:
            file = source()
            while chunk := file.read(self.chunk_size):
                self.n_bytes += len(chunk)
                self.n_unpacked += len(chunk) if depth else 0
                if self.n_unpacked > MOST_UNPACKED:
                    raise ValueError(f"more than {MOST_UNPACKED} bytes unpacked")
                head, joined = head or chunk[:4096], tail + chunk if tail else chunk
                yield Piece(place, np.frombuffer(joined, np.uint8), offset)
                yield from _numbers_as_text(place, joined)
                tail = joined[max(0, len(joined) - self.overlap) :]
                offset += len(joined) - len(tail)
            yield from self._inside(place, source, head, depth + 1)
        except Exception as error:  # of any kind, if a file was made on purpose
            self.notes.append(f"{place}: cannot be read ({error})")

    def _inside(self, place: str, source: Source, head: bytes, depth: int) -> Iterator[Piece]:
        for magic, (how, unpack) in _COMPRESSED.items():
            if head.startswith(magic):
                yield from self.of_file(f"{place}!{how}", lambda: unpack(source()), depth)  # noqa: B023
        for name, magic in _NOT_OPENED.items():
            if head.startswith(magic):
                self.notes.append(f"{place}: {name} is not opened, only its bytes were searched")
        if head.startswith(b"PK"):
            with zipfile.ZipFile(self._whole(source, depth)) as opened:
                for member in opened.infolist():
                    name, content = f"{place}!{member.filename}", partial(opened.open, member)
                    yield from self.of_file(name, content, depth)  # type: ignore[arg-type]
        elif head[257:262] == b"ustar":
            with tarfile.open(fileobj=self._whole(source, depth)) as tar:
                for entry in filter(tarfile.TarInfo.isfile, tar):
                    inner: Any = partial(tar.extractfile, entry)
                    yield from self.of_file(f"{place}!{entry.name}", inner, depth)
        elif head.startswith(b"\x93NUMPY"):
            with suppress(ValueError):  # objects, or damaged: the bytes have been read
                table = np.load(self._whole(source, 2), allow_pickle=False)
                yield from self._other_orders(place, table)

    def _whole(self, source: Source, depth: int) -> BinaryIO:
        """Return a file in which to go back and forth."""
        if depth == 1:
            return source()
        content = source().read(LARGEST_WHOLE + 1)
        if len(content) > LARGEST_WHOLE:
            raise ValueError(f"larger than {LARGEST_WHOLE} bytes")
        return io.BytesIO(content)

    # objects -------------------------------------------------------------------------------------

    def of_object(self, root: Any, name: str) -> Iterator[Piece]:
        """Read all memory that ``root`` leads to, each object once."""
        seen: dict[int, Any] = {}  # keeps objects alive, so that no id is used twice
        pending: deque[tuple[str, Any]] = deque([(name, root)])
        while pending:
            place, found = pending.popleft()
            if isinstance(found, _ATOMS) or id(found) in seen:
                continue
            seen[id(found)] = found
            yield from self._memory(place, found)
            pending.extend((place + step, value) for step, value in _led_to(found))

    def _memory(self, place: str, found: Any) -> Iterator[Piece]:
        if isinstance(found, torch.Tensor):
            yield from self._of_tensor(place, found)
        elif isinstance(found, np.ndarray) and found.dtype.kind != "O":
            yield from self._once(place, found)
            yield from self._other_orders(place, found)
        elif isinstance(found, str | bytes | bytearray | io.BytesIO):
            if isinstance(found, io.BytesIO):
                found = found.getvalue()
            raw = found.encode(errors="replace") if isinstance(found, str) else bytes(found)
            if len(raw) >= 8:
                yield from self.of_file(place, lambda: io.BytesIO(raw))
        elif isinstance(found, Mapping | list | tuple | deque | np.ndarray):
            held = found.ravel().tolist() if isinstance(found, np.ndarray) else found
            values = list(held.values() if isinstance(held, Mapping) else held)
            numbers = [float(v) for v in values if isinstance(v, _NUMBERS) and -_MOST < v < _MOST]
            if len(numbers) > 1:
                yield from self._once(place, np.array(numbers))

    def _of_tensor(self, place: str, found: torch.Tensor) -> Iterator[Piece]:
        if found.is_meta:
            return
        found = found.detach()
        if found.layout != torch.strided:
            found = (found.coalesce() if found.is_sparse else found).values()
        with suppress(TypeError):  # of a type that NumPy does not have: its bytes are read below
            plain = found.cpu().view(torch.int16) if found.dtype == torch.bfloat16 else found.cpu()
            values = plain.resolve_conj().resolve_neg().numpy()
            yield from self._once(place, values)
            yield from self._other_orders(place, values)
        memory = torch.empty(0, dtype=torch.uint8, device=found.device)
        memory.set_(found.untyped_storage())
        yield from self._once(f"{place} (storage)", memory.cpu().numpy())

    def _once(self, place: str, values: NDArray[Any]) -> Iterator[Piece]:
        raw = _bytes_of(values)
        where = (raw.ctypes.data, raw.nbytes)
        if where not in self._read:
            self._read[where] = raw
            self.n_places += 1
            self.n_bytes += len(raw)
            for start in range(0, len(raw), self.chunk_size):
                begin = max(0, start - self.overlap)
                yield Piece(place, raw[begin : start + self.chunk_size], begin)

    def _other_orders(self, place: str, values: NDArray[Any]) -> Iterator[Piece]:
        """Read a table by row where it lies by column, and by column where it lies by row."""
        orders = [values, np.moveaxis(values, -1, 0)] if values.ndim > 1 and values.size else []
        for ordered in orders:
            n_bytes = ordered[0].nbytes
            if ordered.flags.c_contiguous or n_bytes > self.chunk_size:  # no row is that large
                continue
            step, extra = self.chunk_size // n_bytes, -(-self.overlap // n_bytes)
            for start in range(0, len(ordered), step):
                begin = max(0, start - extra)
                part = _bytes_of(np.ascontiguousarray(ordered[begin : start + step]))
                yield Piece(place, part, begin * n_bytes, BY_COLUMN)


def _bytes_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return memory as it lies there, or a copy in C order."""
    lies = values.T if values.flags.f_contiguous else np.ascontiguousarray(values)
    return lies.reshape(-1).view(np.uint8) if values.size else np.empty(0, np.uint8)


def _numbers_as_text(place: str, raw: bytes) -> Iterator[Piece]:
    """Read numbers that are written with all their digits, as in CSV, JSON and logs."""
    runs = (run.span() for run in _WRITTEN.finditer(raw))
    numbers = [float(number) for run in runs for number in _NUMBER.findall(raw, *run)]
    for precision in (np.float64, np.float32) if len(numbers) > 1 else ():
        with np.errstate(over="ignore"):
            yield Piece(place, np.array(numbers).astype(precision).view(np.uint8), how=", as text")


def _led_to(found: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds: under the names users know, then what else it refers to."""
    if isinstance(found, str | bytes | bytearray | type | weakref.ReferenceType):
        return
    if isinstance(found, np.ndarray):
        yield ".base", found.base
        yield ".tolist()", found.ravel().tolist() if found.dtype.kind == "O" else None
    elif isinstance(found, torch.Tensor) and found.is_leaf:
        yield ".grad", found.grad
    elif isinstance(found, Mapping):
        for key, value in list(found.items()):
            shown = repr(key) if isinstance(key, str | int | float) else type(key).__name__
            yield f"[{shown:.40}]", value
    elif isinstance(found, list | tuple | deque):
        yield from ((f"[{number}]", value) for number, value in enumerate(list(found)))
    yield from ((f".{n}", v) for n, v in list(getattr(found, "__dict__", {}).items()))
    # slots, closures, caches of functions, generators, ... but not the globals of a module
    unnamed = gc.get_referents(found)
    if isinstance(found, types.FunctionType):
        unnamed = [v for v in unnamed if v is not found.__globals__ and v is not vars(builtins)]
    yield from ((" (held)", value) for value in unnamed if not isinstance(value, type))
