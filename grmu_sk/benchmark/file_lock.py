"""A lock on a file, which the system releases when its owner dies."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["FileLock"]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """Lets one process at a time do something.

    The lock is the operating system's, on an open file: if its owner is killed it is free at
    once, so that none is ever stale. The file stays, and says who held it last.

    Parameters
    ----------
    path : Path
        The file, in a folder that exists.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from grmu_sk.benchmark.file_lock import FileLock
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one, other = FileLock(Path(folder) / "lock"), FileLock(Path(folder) / "lock")
    ...     tries = [one.acquire(), other.acquire()]
    ...     one.release()
    ...     [*tries, other.acquire(), other.release()]
    [True, False, True, None]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Try to get the lock, without waiting.

        Returns
        -------
        bool
            Whether it is ours now.

        Raises
        ------
        OSError
            If the file system knows no locks.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _try_lock(handle, self.path):
                os.close(handle)
                return False
        except BaseException:
            os.close(handle)
            raise
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, owner, 0)
        self._handle = handle
        return True

    def release(self) -> None:
        """Let others have it; nothing happens if it is not ours."""
        if self._handle is not None:
            os.close(self._handle)  # closing unlocks
            self._handle = None

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Try to get the lock for a block, which is told whether it has it."""
        has_it = self.acquire()
        try:
            yield has_it
        finally:
            if has_it:
                self.release()

    def owner(self) -> dict[str, Any]:
        """Return process number and host of who held it last; empty if that is unknown."""
        try:
            return json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}


def _try_lock(handle: int, path: Path) -> bool:
    if fcntl is None:
        raise OSError("A benchmark needs file locks, which are used on Linux and macOS only.")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(
            f"{path} cannot be locked ({error}): this file system knows no locks. Use a folder on "
            "another one for the results."
        ) from error
    return True
