"""All or nothing: a file is replaced as a whole."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows, which does not delete files that are open
    flock = None  # type: ignore[assignment]

_SUFFIX = ".tmp"


def require_replaceable(path: Path) -> None:
    """Refuse a place where a file must not be put.

    Writers here move a whole new file into place. Moved onto a device or a pipe it would take its
    place for good: root may replace even ``/dev/null``.

    Parameters
    ----------
    path : Path
        Where a file is to be.

    Raises
    ------
    OSError
        If a folder, a device, a pipe or a socket is there.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a folder, a device or a pipe: give the name of a file.")


def write_atomically(path: Path, raw: bytes | Iterable[Any], *, private: bool = False) -> None:
    """Write a file so that under its name there is always a whole one, old or new.

    What a writer that was killed has left beside it is deleted.

    Parameters
    ----------
    path : Path
        The file.
    raw : bytes, or an iterable of bytes or buffers
        What it is to hold.
    private : bool, default=False
        Whether a new file is for its owner only.

    Raises
    ------
    OSError
        If it cannot be written; an old file is as it was.
    """
    require_replaceable(path)
    sweep(path)
    mode = 0o600 if private else 0o666
    parts: Iterable[Any] = [raw] if isinstance(raw, bytes) else raw
    temporary, file = _own_temporary(path, mode)
    try:
        with file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            if flock is None:
                file.close()
            if path.exists():  # what was private stays private
                shutil.copymode(path, temporary)
            os.replace(temporary, path)  # while it is locked, or it would be swept away
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def sweep(path: Path) -> None:
    """Delete what writers of a file that were killed have left, and nothing that one still writes.

    Parameters
    ----------
    path : Path
        The file.
    """
    for left in temporaries(path):
        with suppress(OSError), open(left, "rb") as file:
            if flock is not None:
                flock(file, LOCK_EX | LOCK_NB)  # an error if somebody still writes
            left.unlink()


def _own_temporary(path: Path, mode: int) -> tuple[Path, IO[bytes]]:
    """Return a new file beside this one, open and locked, so that nobody takes it for left."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_SUFFIX}")
        file = open(temporary, "xb", opener=partial(os.open, mode=mode))  # noqa: SIM115
        if flock is not None:
            flock(file, LOCK_EX)
        if temporary.exists():  # nobody swept it away before it was locked
            return temporary, file
        file.close()


def temporaries(path: Path) -> list[Path]:
    """Return what :func:`write_atomically` leaves of a file if it is killed."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*{_SUFFIX}"))


def flush_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the system knows how to."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
