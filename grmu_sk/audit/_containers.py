"""Open what has other things inside, without running or unpacking anything to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import sqlite3
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, cast

import numpy as np

from ._scanner import HEAD, Opener, Scanner, is_zlib, read_limited

SQLITE_MAGIC = b"SQLite format 3\0"
NPY_MAGIC = b"\x93NUMPY"
# Their bytes are searched, but what they hold is compressed in a way that is not undone.
_NOT_OPENED = {
    b"PAR1": "Parquet",
    b"\x89HDF": "HDF5",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"(\xb5/\xfd": "Zstandard",
    b"\x04\x22M\x18": "LZ4",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "RAR",
    b"ARROW1": "Arrow",
}
_DAMAGED = (
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
_NUMBERS_IN_PICKLES = {
    "BININT",
    "BININT1",
    "BININT2",
    "BINFLOAT",
    "FLOAT",
    "INT",
    "LONG",
    "LONG1",
    "LONG4",
}
# a pickled NumPy scalar is a few bytes of its own
_SHORT = (2, 4, 8)


def _head(file: BinaryIO) -> bytes:
    head = file.read(HEAD)
    file.seek(0)
    return head


def open_compressed(scanner: Scanner, place: str, file: BinaryIO, depth: int) -> None:
    """Search what gzip, bzip2, xz and zlib have compressed."""
    head = _head(file)
    stream: Any
    if head.startswith(b"\x1f\x8b"):
        name, stream = "gzip", gzip.GzipFile(fileobj=file)
    elif head.startswith(b"BZh"):
        name, stream = "bzip2", bz2.BZ2File(file)
    elif head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        name, stream = "xz", lzma.LZMAFile(file)  # noqa: SIM115
    elif is_zlib(head):
        name, stream = "zlib", _ZlibFile(file)
    else:
        return
    try:
        scanner.scan_file(f"{place}!{name}", stream, depth + 1)
    except _DAMAGED as error:
        scanner.note(f"{place}: damaged {name} data ({error})")


class _ZlibFile(io.RawIOBase):
    """Reads a zlib stream; may be read from its beginning again."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek(0)

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("only seek(0)")
        self.file.seek(0)
        self.decompressor = zlib.decompressobj()
        return 0

    def read(self, size: int = -1) -> bytes:
        parts, missing = [], size if size >= 0 else 1 << 62
        while missing > 0 and not self.decompressor.eof:
            packed = self.decompressor.unconsumed_tail or self.file.read(1 << 16)
            part = self.decompressor.decompress(packed, min(missing, 1 << 24))
            if not packed and not part:
                raise EOFError("the stream ends too early")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def open_zip(scanner: Scanner, place: str, file: BinaryIO, depth: int) -> None:
    """Search the members of a zip: NumPy's .npz, torch checkpoints, office files."""
    if not _head(file).startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                _scan_zip_member(scanner, place, archive, member, depth)
    except _DAMAGED as error:
        scanner.note(f"{place}: damaged zip archive ({error})")


def _scan_zip_member(
    scanner: Scanner, place: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, depth: int
) -> None:
    inside = f"{place}!{member.filename}"
    # names and comments may hold text
    scanner.search(f"{inside} (name)", np.frombuffer(_named(member), np.uint8))
    if member.is_dir():
        return
    if _escapes(member.filename) or stat.S_ISLNK(member.external_attr >> 16):
        scanner.note(f"{inside}: refused, the name leads out of the archive or is a link")
        return
    try:
        with archive.open(member) as content:
            scanner.scan_file(inside, cast(BinaryIO, content), depth + 1)
    except _DAMAGED as error:
        scanner.note(f"{inside}: cannot be read ({error})")


def _named(member: zipfile.ZipInfo) -> bytes:
    return member.filename.encode(errors="replace") + b"\n" + member.comment + b"\n" + member.extra


def _escapes(name: str) -> bool:
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    is_absolute = path.is_absolute() or bool(windows.drive) or bool(windows.root)
    return is_absolute or ".." in path.parts or ".." in windows.parts


def open_tar(scanner: Scanner, place: str, file: BinaryIO, depth: int) -> None:
    """Search the members of a tar archive."""
    if _head(file)[257:262] != b"ustar":
        return
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                inside = f"{place}!{member.name}"
                if member.isdir():
                    continue
                if not member.isfile() or _escapes(member.name):
                    scanner.note(f"{inside}: refused, it is a link or leads out of the archive")
                    continue
                content = archive.extractfile(member)
                if content is not None:
                    scanner.scan_file(inside, cast(BinaryIO, content), depth + 1)
    except _DAMAGED as error:
        scanner.note(f"{place}: damaged tar archive ({error})")


def open_npy(scanner: Scanner, place: str, file: BinaryIO, depth: int) -> None:
    """Search an array of NumPy's own format that holds objects or is stored by column."""
    if not _head(file).startswith(NPY_MAGIC):
        return
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        header = read.get(np.lib.format.read_magic(file))
        if header is None:
            scanner.note(f"{place}: a newer .npy format, searched as plain bytes")
            return
        shape, is_by_column, dtype = header(file)
    except _DAMAGED as error:
        scanner.note(f"{place}: damaged .npy header ({error})")
        return
    content = read_limited(scanner, place, file, "an array")
    if content is None:
        return
    if dtype.hasobject:
        scanner.scan_bytes(f"{place}!objects", content, depth + 1)
        return
    try:
        values = np.frombuffer(content, dtype, int(np.prod(shape, dtype=np.int64)))
        values = values.reshape(shape, order="F" if is_by_column else "C")
    except _DAMAGED as error:
        scanner.note(f"{place}: damaged .npy content ({error})")
        return
    scanner.search_array(place, values)


def open_pickle(scanner: Scanner, place: str, file: BinaryIO, depth: int) -> None:
    """Search the values in a pickle: its instructions are read, and none is carried out."""
    if not _looks_like_pickle(_head(file)):
        return
    content = read_limited(scanner, place, file, "a pickle")
    if content is None:
        return
    stream, values = io.BytesIO(content), _PickledValues(scanner, f"{place}!pickle", depth)
    try:
        while stream.tell() < len(content):
            for opcode, argument in _instructions(stream):
                values.take(opcode, argument)
            if not _looks_like_pickle(content[stream.tell() : stream.tell() + 2]):
                break
    except _DAMAGED as error:
        # joblib writes arrays between the instructions; their bytes have been searched as they are
        if content[:1] == b"\x80" and b"NumpyArrayWrapper" not in content:
            scanner.note(f"{place}: damaged pickle ({error})")
    values.finish()


def _instructions(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Yield the names and arguments of a pickle's instructions."""
    instructions = pickletools.genops(stream)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange escapes in what is no pickle
            found = next(instructions, None)
        if found is None:
            return
        yield found[0].name, found[1]


def _looks_like_pickle(head: bytes) -> bool:
    return (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")) or (
        head[:1] in (b"(", b"c", b"]", b"}", b"V", b"F") and b"\n" in head
    )


class _PickledValues:
    """What a pickle's instructions carry along: bytes, text and numbers."""

    def __init__(self, scanner: Scanner, place: str, depth: int) -> None:
        self.scanner, self.place, self.depth = scanner, place, depth
        self.numbers: list[float] = []
        self.short: list[bytes] = []

    def take(self, opcode: str, argument: Any) -> None:
        """Take the argument of one instruction."""
        if opcode in _NUMBERS_IN_PICKLES:
            if isinstance(argument, int | float) and abs(argument) < 1e300:
                self.numbers.append(float(argument))
        elif isinstance(argument, bytes | bytearray):
            self._take_bytes(bytes(argument))
        elif isinstance(argument, str) and "UNICODE" in opcode and not argument.isascii():
            # NumPy's old pickles hold bytes as text of as many letters
            raw = argument.encode("latin-1", errors="ignore")
            if len(raw) == len(argument):
                self._take_bytes(raw)

    def _take_bytes(self, raw: bytes) -> None:
        if len(raw) in _SHORT:
            self.short.append(raw)
        elif len(raw) > _SHORT[-1]:
            self.scanner.scan_bytes(self.place, raw, self.depth + 1)

    def finish(self) -> None:
        """Search the numbers and the short pieces, each next to each other."""
        self.scanner.search_array(self.place, np.array(self.numbers))
        self.scanner.search(self.place, np.frombuffer(b"".join(self.short), np.uint8))


def open_sqlite(scanner: Scanner, place: str, file: BinaryIO, depth: int) -> None:
    """Search the cells of a database; a copy in memory is read, and the file is left alone."""
    if not _head(file).startswith(SQLITE_MAGIC):
        return
    content = read_limited(scanner, place, file, "a database")
    if content is None:
        return
    # one that is written ahead cannot be opened in memory; the log itself is searched as bytes
    content = content[:18] + b"\1\1" + content[20:]
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(content)
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA query_only = ON")
            database.text_factory = bytes
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (name,) in tables.fetchall():
                _scan_table(scanner, place, database, name.decode(errors="replace"), depth)
    except (sqlite3.Error, *_DAMAGED) as error:
        scanner.note(f"{place}: damaged database ({error})")


def _scan_table(
    scanner: Scanner, place: str, database: sqlite3.Connection, table: str, depth: int
) -> None:
    inside = f"{place}!{table}"
    quoted = table.replace('"', '""')
    numbers: list[float] = []
    for cells in database.execute(f'SELECT * FROM "{quoted}"'):
        numbers.extend(float(cell) for cell in cells if isinstance(cell, int | float))
        for cell in cells:
            if isinstance(cell, bytes) and len(cell) >= 8:
                scanner.scan_bytes(inside, cell, depth + 1)
    scanner.search_array(inside, np.array(numbers))


def note_not_opened(scanner: Scanner, place: str, file: BinaryIO, depth: int) -> None:
    """Note what is compressed in a way that is not undone."""
    head = _head(file)
    for magic, name in _NOT_OPENED.items():
        if head.startswith(magic):
            scanner.note(f"{place}: {name} is not opened, only its bytes were searched")


OPENERS: list[Opener] = [
    open_compressed,
    open_zip,
    open_tar,
    open_npy,
    open_pickle,
    open_sqlite,
    note_not_opened,
]
