"""The lease: one process at a time carries out a ledger's requests."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ._errors import LedgerBusyError, LedgerWriteError

__all__ = ["lease"]


@contextmanager
def lease(path: Path, owners: Callable[[], str]) -> Iterator[None]:
    """Hold an exclusive transaction on a file beside the ledger, for as long as the block runs.

    The lock is the system's. It ends with the process that holds it, however that ends, so that
    a lease is never stale and no clock is asked.

    Parameters
    ----------
    path : Path
        Of the ledger.
    owners : callable
        Says who has it, for a message.

    Raises
    ------
    LedgerBusyError
        If another process (or thread) has it.
    LedgerWriteError
        If the file cannot be made.
    """
    beside = path.with_name(path.name + ".lease")
    try:
        with suppress(FileExistsError):  # closing it would end another thread's lock
            os.close(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(beside, timeout=0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _not_writable(beside, error) from error
    with closing(connection):
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise LedgerBusyError(
                    f"{path}: its requests are being carried out by {owners()}. Wait until that "
                    "has ended; if the process dies, the way is free at once."
                ) from error
            raise _not_writable(beside, error) from error
        yield


def _not_writable(path: Path, error: Exception) -> LedgerWriteError:
    return LedgerWriteError(
        f"{path} cannot be written ({error}). Carrying out requests needs this file beside the "
        "ledger; it may be deleted while nothing runs."
    )
